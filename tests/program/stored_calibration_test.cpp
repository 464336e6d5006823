/// A run that is interrupted while it writes does not calibrate again.
#include "run_program.hpp"

using namespace qlib_test;

namespace {

const std::string model = QLIB_SOURCE_DIR "/examples/tiny_llama", ids = model + "/calib_ids.safetensors";

std::vector<std::string> quant(const std::string& out, const std::vector<std::string>& more) {
  std::vector<std::string> words{"quant", "--model_path",    model, "--save_path",    out, "--calib_ids",
                                 ids,     "--calib_samples", "4",   "--calib_length", "32"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::vector<std::string> with(std::vector<std::string> words, const std::vector<std::string>& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::string stored(const std::string& out) { return out + ".qlib-partial/.qlib-calibration"; }

std::size_t finished_chunks(const std::string& out) {
  std::ifstream journal{out + ".qlib-partial/.qlib-journal"};
  const auto lines = std::count(std::istreambuf_iterator<char>{journal}, {}, '\n');
  return lines > 0 ? static_cast<std::size_t>(lines) - 1 : 0;
}

bool calibrated(const program_result& r) { return r.err.find("calibrated layer") != std::string::npos; }
bool took_over(const program_result& r) { return r.err.find("calibration of the interrupted run is used\n") != std::string::npos; }

/// Interrupts the run after calibration, before the first chunk: no file as large as the weights can be made.
void interrupt(const std::vector<std::string>& arguments, const std::string& out) {
  const program_result r = run_program(arguments, std::uint64_t{3} << 20);
  REQUIRE_MESSAGE(r.exit_code == 1, r.err);
  REQUIRE(calibrated(r));
  REQUIRE(std::filesystem::exists(stored(out)));
}

}  // namespace

TEST_CASE("a run that is killed while it writes resumes without calibrating, to the same files") {
  for (const std::vector<std::string>& type : {std::vector<std::string>{"--quant_type", "w8a8"},
                                               {"--quant_type", "w8a8", "--anti_method", "m4"},
                                               {"--quant_type", "w4a16", "--group_size", "32", "--anti_method", "awq"},
                                               {"--quant_type", "w8a8", "--anti_method", "quarot"}}) {
    CAPTURE(type.back());
    temporary_folder folder;
    const std::string whole = folder.path("whole"), killed = folder.path("killed");
    const program_result undisturbed = run_program(quant(whole, type));
    REQUIRE_MESSAGE(undisturbed.exit_code == 0, undisturbed.err);
    REQUIRE(calibrated(undisturbed));
    bool landed = false;
    for (int attempt = 0; attempt < 20 && !landed; ++attempt) {
      std::filesystem::remove_all(killed);
      running_program run{quant(killed, with(type, {"--threads", "1"}))};
      while (!run.has_ended() && finished_chunks(killed) < 3) ::usleep(200);
      run.kill();
      landed = run.wait().signal == SIGKILL && std::filesystem::exists(stored(killed)) && finished_chunks(killed) >= 3;
      if (!landed) std::filesystem::remove_all(killed + ".qlib-partial");
    }
    REQUIRE(landed);
    const program_result resumed = run_program(quant(killed, with(type, {"--resume"})));
    REQUIRE_MESSAGE(resumed.exit_code == 0, resumed.err);
    CHECK(took_over(resumed));
    CHECK_FALSE(calibrated(resumed));
    CHECK(difference(tree_of(whole), tree_of(killed)) == "");  // nothing called .qlib-* either
    CHECK_FALSE(std::filesystem::exists(killed + ".qlib-partial"));
  }
}

TEST_CASE("layers that --disable_level keeps float stay so in a run that resumes" * doctest::test_suite("long")) {
  for (const char* method : {"none", "m4"}) {
    CAPTURE(method);
    temporary_folder folder;
    const std::string whole = folder.path("whole"), killed = folder.path("killed");
    const std::vector<std::string> type{"--quant_type", "w8a8", "--disable_level", "L3", "--anti_method", method};
    REQUIRE(run_program(quant(whole, type)).exit_code == 0);
    interrupt(quant(killed, type), killed);
    const program_result resumed = run_program(quant(killed, with(type, {"--resume"})));
    REQUIRE_MESSAGE(resumed.exit_code == 0, resumed.err);
    CHECK(took_over(resumed));
    CHECK_FALSE(calibrated(resumed));
    CHECK(resumed.err.find("stays float (--disable_level L3)") != std::string::npos);
    CHECK(difference(tree_of(whole), tree_of(killed)) == "");
  }
}

TEST_CASE("a run that resumes uses what was found for its own samples and options alone, and only undamaged" * doctest::test_suite("long")) {
  temporary_folder folder;
  const std::string whole = folder.path("whole"), out = folder.path("out");
  const std::vector<std::string> type{"--quant_type", "w8a8", "--anti_method", "m4"};
  REQUIRE(run_program(quant(whole, type)).exit_code == 0);
  interrupt(quant(out, type), out);
  std::vector<std::string> shorter = quant(out, with(type, {"--resume"}));
  std::replace(shorter.begin(), shorter.end(), std::string{"32"}, std::string{"16"});
  const program_result other = run_program(shorter);
  CHECK(other.exit_code == 2);
  CHECK_FALSE(calibrated(other));
  CHECK_MESSAGE(other.err.find("inputs or flags changed since the run began: calibration data was 4 samples, 128 tokens") != std::string::npos,
                other.err);
  {
    std::fstream file{stored(out), std::ios::in | std::ios::out | std::ios::binary};
    file.seekp(100);
    file.put('\x7f');
  }
  folder.write("out.qlib-partial/.qlib-calibration.tmp", "half of ");
  const program_result resumed = run_program(quant(out, with(type, {"--resume"})));
  REQUIRE_MESSAGE(resumed.exit_code == 0, resumed.err);
  CHECK_FALSE(took_over(resumed));
  CHECK(calibrated(resumed));
  CHECK(difference(tree_of(whole), tree_of(out)) == "");
}

TEST_CASE("what was left half written beside a stored calibration does not reach the output") {
  temporary_folder folder;
  const std::string out = folder.path("out");
  const std::vector<std::string> type{"--quant_type", "w8a8"};
  interrupt(quant(out, type), out);
  folder.write("out.qlib-partial/.qlib-calibration.tmp", "half of ");
  REQUIRE(run_program(quant(out, with(type, {"--resume"}))).exit_code == 0);
  for (const auto& file : tree_of(out)) CHECK_MESSAGE((file.first.find(".qlib-") == std::string::npos || file.first == ".qlib-run.json"), file.first);
}

TEST_CASE("resuming a calibrated run that was complete does not calibrate, and changes nothing") {
  temporary_folder folder;
  const std::string out = folder.path("out");
  for (const char* method : {"none", "quarot"}) {
    CAPTURE(method);
    std::filesystem::remove_all(out);
    const std::vector<std::string> type{"--quant_type", "w8a8", "--anti_method", method};
    REQUIRE(run_program(quant(out, type)).exit_code == 0);
    const auto before = tree_of(folder.path());
    const program_result again = run_program(quant(out, with(type, {"--resume", "--json"})));
    CHECK_MESSAGE(again.exit_code == 0, again.err);
    CHECK_FALSE(calibrated(again));
    CHECK(difference(before, tree_of(folder.path())) == "");
  }
}
