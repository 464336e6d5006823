/// What goes to stderr: how much, how, and that nothing of it ends a run.
#include "checkpoint_bytes.hpp"
#include "run_program.hpp"

#include <nlohmann/json.hpp>

#include <cstdlib>
#include <regex>

#include <sys/ioctl.h>
#include <termios.h>

using namespace qlib_test;
using nlohmann::json;

namespace {

struct small_model {
  temporary_folder folder;
  std::string path = write_model(folder, "model", llama_tensors());
};

/// The exit code of a shell command; -1: it ended by a signal.
int shell(const std::string& command) {
  const int status = std::system((command + " 0<&-").c_str());
  return WIFEXITED(status) && WEXITSTATUS(status) < 128 ? WEXITSTATUS(status) : -1;
}

const std::string program = "'" QLIB_PROGRAM "' ";

/// What the program writes to a terminal of so many columns.
std::string on_terminal(std::vector<std::string> words, unsigned short columns) {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  REQUIRE(terminal >= 0);
  REQUIRE(::grantpt(terminal) == 0);
  REQUIRE(::unlockpt(terminal) == 0);
  const int own = ::open(::ptsname(terminal), O_RDWR | O_NOCTTY);  // NOLINT: one thread
  REQUIRE(own >= 0);
  const winsize size{24, columns, 0, 0};
  ::ioctl(own, TIOCSWINSZ, &size);
  words.insert(words.begin(), QLIB_PROGRAM);
  std::vector<char*> argv;
  for (std::string& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    const int null = ::open("/dev/null", O_RDWR);
    ::dup2(null, STDIN_FILENO);
    ::dup2(null, STDOUT_FILENO);
    ::dup2(own, STDERR_FILENO);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ::close(own);
  std::string text;
  char part[4096];
  for (ssize_t n = 0; (n = ::read(terminal, part, sizeof part)) > 0;) text.append(part, static_cast<std::size_t>(n));
  ::close(terminal);
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  return text;
}

/// The drawn frames, without the sequences that steer the terminal.
std::vector<std::string> frames_of(std::string text) {
  text = std::regex_replace(text, std::regex{"\x1b\\[[0-9;]*[A-Za-z]"}, "");
  std::replace(text.begin(), text.end(), '\r', '\n');
  std::vector<std::string> frames;
  for (std::string& line : lines_of(text))
    if (!line.empty()) frames.push_back(std::move(line));
  return frames;
}

}  // namespace

TEST_CASE("a run whose messages cannot be printed is done all the same, and its bytes are the same") {
  const small_model m;
  const auto quant = [&](const char* out, const std::string& streams) {
    return shell(program + "quant --model_path " + m.path + " --save_path " + m.folder.path(out) + " --quant_type w8a8_dynamic >/dev/null " +
                 streams);
  };
  REQUIRE(quant("whole", "2>/dev/null") == 0);
  CHECK(quant("full", "2>/dev/full") == 0);
  CHECK(quant("closed", "2>&-") == 0);
  CHECK(quant("gone", "2>&1 | true; exit 0") == 0);
  const auto whole = tree_of(m.folder.path("whole"));
  for (const char* out : {"full", "closed"}) CHECK(difference(whole, tree_of(m.folder.path(out))) == "");
}

TEST_CASE("messages that cannot be printed do not change the exit code of any command") {
  const small_model m;
  std::filesystem::create_directories(m.folder.path("bad"));
  for (const char* lost : {" >/dev/null 2>/dev/full", " >/dev/null 2>&-"}) {
    CAPTURE(lost);
    CHECK(shell(program + "inspect " + m.path + lost) == 0);
    CHECK(shell(program + "verify " + m.path + lost) == 0);
    CHECK(shell(program + "plan --quant_type w8a16 --model_path " + m.path + lost) == 0);
    CHECK(shell(program + "inspect " + m.folder.path("bad") + lost) == 2);
    CHECK(shell(program + "plan --quant_type w9a9 --model_path " + m.path + lost) == 2);
    CHECK(shell(program + "quant --nonsense" + lost) == 2);
  }
  // What a command is for is another thing.
  for (const char* lost : {" >/dev/full", " >&-"}) CHECK(shell(program + "inspect " + m.path + lost + " 2>/dev/null") == 1);
}

TEST_CASE("--log_level and its variable say how much is said; --quiet says the least") {
  const small_model m;
  const auto said = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words{"quant",       "--model_path", m.path,  "--save_path",     m.folder.path("out"),
                                   "--overwrite", "--quant_type", "w8a16", "--disable_names", "nothing"};
    words.insert(words.end(), more.begin(), more.end());
    const program_result r = run_program(words);
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    return r;
  };
  const auto has = [](const program_result& r, const char* part) { return r.err.find(part) != std::string::npos; };
  const auto debug = said({"--log_level", "debug"}), info = said({"--log_level", "info"}), usual = said({}),
             warning = said({"--log_level", "WARNING"}), error = said({"--log_level", "error"}), quiet = said({"--log_level", "debug", "--quiet"});
  CHECK(has(debug, "qlib: debug: model.layers.1.mlp.up_proj"));
  for (const program_result& r : {debug, info, usual}) {
    CHECK(has(r, "qlib: layer 2/2"));
    CHECK(has(r, "\"nothing\" is to be left alone, but no layer has this name"));
  }
  CHECK_FALSE(has(info, "debug"));
  CHECK_FALSE(has(usual, "debug"));
  CHECK(has(warning, "\"nothing\" is to be left alone, but no layer has this name"));
  CHECK(lines_of(warning.err).size() == 1);
  CHECK(error.err == "");
  CHECK(error.out != "");
  CHECK(quiet.err == "");
  CHECK(quiet.out == "");
  check_refused(m.folder.path(), {"inspect", m.path, "--log_level", "loud"}, {{"--log_level", "loud", "error, warning, info, debug"}});
  REQUIRE(::setenv("MSMODELSLIM_LOG_LEVEL", "ERROR", 1) == 0);
  CHECK(said({}).err == "");
  CHECK(has(said({"--log_level", "info"}), "qlib: layer 2/2"));  // the flag wins
  ::setenv("MSMODELSLIM_LOG_LEVEL", "chatty", 1);
  check_refused(m.folder.path(), {"inspect", m.path}, {{"chatty"}});
  ::unsetenv("MSMODELSLIM_LOG_LEVEL");
}

TEST_CASE("names that would break a line or steer the terminal are printed escaped") {
  const small_model m;
  auto tensors = llama_tensors();
  tensors[2].name = "model.layers.0.self_attn.q\\n\\u001b[31m_proj.weight";  // as JSON has it
  tensors[2].shape = {1, 4096, 1};
  tensors.push_back(tensors[2]);
  const std::string bad = write_model(m.folder, "bad", tensors);
  check_refused(m.folder.path(), {"plan", "--model_path", bad, "--quant_type", "w8a16"}, {{"q\\n\\x1b[31m_proj"}});
  const program_result r = run_program({"verify", bad});
  CHECK(r.exit_code == 2);
  CHECK(r.out.find('\x1b') == std::string::npos);
  for (const std::string& line : lines_of(r.out)) CHECK_MESSAGE(std::count(line.begin(), line.end(), ':') >= 2, line);
}

TEST_CASE("with --json an error is a document, whatever the command") {
  const small_model m;
  const std::string none = m.folder.path("none");
  for (const std::vector<std::string>& words : {std::vector<std::string>{"inspect", none},
                                                {"verify", none},
                                                {"verify", m.path, "--engine", "steam"},
                                                {"report", none},
                                                {"tokenize", "--model_path", none, "--file", none},
                                                {"eval", "--model_path", none, "--ids", none},
                                                {"analyze", "--model_path", none, "--quant_type", "w8a8"},
                                                {"quant", "--model_path", none, "--save_path", m.folder.path("out"), "--quant_type", "w8a8"}}) {
    CAPTURE(words.front());
    std::vector<std::string> all = words;
    all.emplace_back("--json");
    const program_result r = run_program(all);
    CHECK(r.exit_code == 2);
    const json j = json::parse(r.out, nullptr, false);
    REQUIRE(j.is_object());
    CHECK(j["errors"].size() == r.error_lines().size());
    CHECK("qlib: error: " + j["errors"][0].get<std::string>() == r.error_lines()[0]);
  }
}

TEST_CASE("on a terminal progress is as wide as the terminal, counts decoder layers, and guesses no time from nothing") {
  const small_model m;
  for (const unsigned short columns : {40, 200}) {
    CAPTURE(columns);
    const std::string out = m.folder.path("out" + std::to_string(columns));
    const auto frames = frames_of(on_terminal({"quant", "--model_path", m.path, "--save_path", out, "--quant_type", "w8a16"}, columns));
    REQUIRE_FALSE(frames.empty());
    for (const std::string& f : frames) {
      CAPTURE(f);
      CHECK(f.size() < columns);
      CHECK(std::regex_search(f, std::regex{"^layer [0-2]/2  "}));
      if (columns == 200) CHECK(std::regex_search(f, std::regex{"tensors  .*/s  ETA (-|0s)  [0-9.]+ MB  [a-z]"}));
    }
    if (columns == 40) CHECK(frames.front().size() == 39);
  }
}
