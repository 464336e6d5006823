/// The scripts of `qlib completion`, run by the shells that are installed.
#include "run_program.hpp"

#include <array>
#include <cstdio>
#include <memory>
#include <set>
#include <sstream>

using namespace qlib_test;

namespace {

/// What a shell script prints.
std::string shell(const std::string& command) {
  std::unique_ptr<FILE, int (*)(FILE*)> pipe{::popen((command + " 2>&1").c_str(), "r"), ::pclose};
  REQUIRE(pipe);
  std::string out;
  std::array<char, 4096> part{};
  while (const std::size_t n = std::fread(part.data(), 1, part.size(), pipe.get())) out.append(part.data(), n);
  return out;
}

std::set<std::string> words_in(const std::string& text) {
  std::istringstream in{text};
  return {std::istream_iterator<std::string>{in}, {}};
}

/// Offers bash gives for the last of these words of a command line.
std::set<std::string> offers(const temporary_folder& folder, const std::vector<std::string>& line) {
  std::string script = "source " + folder.path("qlib.bash") + "\nCOMP_WORDS=(";
  for (const std::string& word : line) script += "'" + word + "' ";
  script += ")\nCOMP_CWORD=" + std::to_string(line.size() - 1) +
            "\nfunction_of() { local w; for w; do [[ $f == -F ]] && echo $w; f=$w; done; }\n"
            "$(function_of $(complete -p qlib))\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n";
  return words_in(shell("bash --norc " + folder.write("try.bash", script)));
}

using names = std::set<std::string>;

}  // namespace

TEST_CASE("bash completes commands, flags and the values of flags that take few") {
  temporary_folder folder;
  const program_result r = run_program({"completion", "bash"});
  REQUIRE(r.exit_code == 0);
  folder.write("qlib.bash", r.out);
  CHECK(shell("bash -n " + folder.path("qlib.bash")) == "");

  CHECK(offers(folder, {"qlib", "qu"}) == names{"quant"});
  CHECK(offers(folder, {"qlib", "quant", "--model_"}) == names{"--model_path", "--model_type"});
  CHECK(offers(folder, {"qlib", "quant", "--save"}) == names{"--save_path", "--save_directory"});
  CHECK(offers(folder, {"qlib", "quant", "--save-p"}) == names{"--save_path"});
  CHECK(offers(folder, {"qlib", "analyze", "--metric", ""}) == names{"auto", "kl", "mse", "range"});
  CHECK(offers(folder, {"qlib", "analyze", "--metric", "=", "k"}) == names{"kl"});
  CHECK(offers(folder, {"qlib", "plan", "--quant-type", "w8a8_"}) == names{"w8a8_dynamic", "w8a8_mix"});
  CHECK(offers(folder, {"qlib", "verify", "x", "--engine", ""}) == names{"mindie", "vllm", "vllm-ascend", "vllm-gcu"});
  CHECK(offers(folder, {"qlib", "eval", "--log_level", ""}) == names{"error", "warning", "info", "debug"});
  CHECK(offers(folder, {"qlib", "--help", "ev"}) == names{"eval"});
  CHECK(offers(folder, {"qlib", "completion", ""}).contains("fish"));
  // Files are left to bash.
  CHECK(offers(folder, {"qlib", "quant", "--model_path", ""}) == names{});
  CHECK(offers(folder, {"qlib", "inspect", ""}) == names{});
  CHECK(offers(folder, {"qlib", "eval", "--metric", ""}) == names{});
}

TEST_CASE("every command and flag of --help is completed") {
  temporary_folder folder;
  folder.write("qlib.bash", run_program({"completion", "bash"}).out);
  const std::string zsh = run_program({"completion", "zsh"}).out, fish = run_program({"completion", "fish"}).out;
  const auto flags_in = [](const std::string& help) {  // of lines that begin with one
    std::set<std::string> found;
    std::istringstream lines{help};
    for (std::string line; std::getline(lines, line);) {
      std::size_t at = line.find_first_not_of(' ');
      if (at != 2 || line[at] != '-') continue;  // deeper ones are the flag's help
      while (line.compare(at, 1, "-") == 0) {    // -h,--help
        const std::size_t end = std::min(line.find_first_of(",= ", at), line.size());
        if (line.compare(at, 2, "--") == 0) found.insert(line.substr(at, end - at));
        if (end >= line.size() || line[end] != ',') break;
        at = end + 1;
      }
    }
    return found;
  };
  std::set<std::string> commands;
  std::istringstream lines{run_program({"--help"}).out};
  bool listed = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("Subcommands:")) listed = true;
    else if (listed && line.starts_with("  ") && line[2] != ' ') commands.insert(line.substr(2, line.find(' ', 2) - 2));
    else if (line.empty()) listed = false;
  }
  REQUIRE(commands.contains("quant"));
  names offered = offers(folder, {"qlib", ""});
  for (const char* flag : {"--help", "--version"}) CHECK(offered.erase(flag) == 1);
  CHECK(offered == commands);
  for (const std::string& command : commands) {
    CAPTURE(command);
    const std::set<std::string> flags = flags_in(run_program({command, "--help"}).out);
    REQUIRE(flags.contains("--help"));
    CHECK(offers(folder, {"qlib", command, "--"}) == flags);
    for (const std::string& flag : flags) {
      CHECK(zsh.find("'" + flag) != std::string::npos);
      const std::string name = "-l " + flag.substr(2);
      CHECK_MESSAGE((fish.find(name + " ") != std::string::npos || fish.find(name + "\n") != std::string::npos), flag);
    }
  }
}

TEST_CASE("the zsh and fish scripts parse where those shells are installed") {
  temporary_folder folder;
  for (const char* name : {"zsh", "fish"}) {
    const program_result r = run_program({"completion", name});
    REQUIRE(r.exit_code == 0);
    CHECK(r.out.size() > 1000);
    const std::string file = folder.write(name, r.out);
    if (shell(std::string{"command -v "} + name).empty()) continue;
    CHECK(shell(std::string{name} + " -n " + file) == "");
  }
}

TEST_CASE("a shell that is not known is an error") {
  temporary_folder folder;
  check_refused(folder.path(), {"completion", "csh"}, {{"csh: is not a shell known here", "bash, zsh, fish"}});
  CHECK(run_program({"completion"}).exit_code == 2);
}
