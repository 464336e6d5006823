/// The same bytes, whatever the number of threads and however often the run was interrupted.
#include "checkpoint_bytes.hpp"
#include "run_program.hpp"

#include <nlohmann/json.hpp>
#include <qlib/pipeline/run.hpp>
#include <qlib/pipeline/work_folder.hpp>

#include <chrono>
#include <random>
#include <set>
#include <thread>

#include <sys/mount.h>

using namespace qlib_test;
using std::chrono::duration;
using std::chrono::steady_clock;

namespace {

/// 72 MB: large enough that kills land in the middle, small enough for fifty runs.
const std::vector<tensor_bytes>& large_model() {
  static const std::vector<tensor_bytes> tensors =
      llama_tensors({.layers = 3, .hidden = 1024, .key_rows = 256, .intermediate = 2816, .vocabulary = 1024});
  return tensors;
}

std::vector<std::string> quant(const std::string& model, const std::string& out, const std::vector<std::string>& more = {}) {
  std::vector<std::string> words{"quant", "--quiet", "--model_path", model, "--save_path", out, "--quant_type", "w4a16", "--threads", "2"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

void check_done(const program_result& result) {
  INFO("exit code " << result.exit_code << ", signal " << result.signal << ", stderr: " << result.err);
  REQUIRE(result.exit_code == 0);
}

/// Lines of the work folder's journal: how far a run is.
std::size_t finished_pieces(const std::string& out) {
  std::ifstream journal{out + ".qlib-partial/.qlib-journal"};
  return static_cast<std::size_t>(std::count(std::istreambuf_iterator<char>{journal}, {}, '\n'));
}

/// Starts a run and kills it when about `pieces` of its pieces are done. A run that was faster is repeated.
void kill_after(const std::vector<std::string>& arguments, const std::string& out, std::size_t pieces) {
  for (int attempt = 0; attempt < 10; ++attempt) {
    running_program run{arguments};
    while (!run.has_ended() && finished_pieces(out) < 1 + pieces) std::this_thread::sleep_for(std::chrono::microseconds{200});
    run.kill();
    if (run.wait().signal == SIGKILL && !std::filesystem::exists(out)) return;
    std::filesystem::remove_all(out);
  }
  FAIL("no kill came before the end of a run");
}

/// A file system of its own in memory, if this user may mount one.
class memory_disk {
 public:
  memory_disk(std::string path, std::uint64_t bytes) : path_{std::move(path)} {
    std::filesystem::create_directory(path_);
    mounted_ = ::mount("tmpfs", path_.c_str(), "tmpfs", 0, ("size=" + std::to_string(bytes)).c_str()) == 0;
  }
  memory_disk(const memory_disk&) = delete;
  memory_disk& operator=(const memory_disk&) = delete;
  ~memory_disk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }

 private:
  std::string path_;
  bool mounted_ = false;
};

}  // namespace

TEST_CASE("the number of threads does not change a byte") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", large_model());
  // Tiles of 48 rows lie across the boundaries of chunks of 64.
  folder.write("blocks.yaml", R"(quant_stage:
  quant_modifiers:
    QuantizationModifier:
      ignore: [lm_head]
      config_groups:
        blocks:
          targets: [Linear]
          weights: {num_bits: 8, type: float, strategy: block, symmetric: true, block_structure: [48, 64]}
)");
  const std::vector<std::vector<std::string>> kinds{
      {"--config_path", folder.path("blocks.yaml"), "--format", "compressed_tensors"},
      {"--quant_type", "w8a8_dynamic"},
      {"--quant_type", "w4a16", "--group_size", "32"},
      {"--quant_type", "w4a16", "--group_size", "128", "--w_sym", "False", "--format", "compressed_tensors"},
      {"--quant_type", "fp8_dynamic", "--format", "compressed_tensors", "--part_file_size", "0.02"}};
  for (const auto& kind : kinds) {
    CAPTURE(kind.at(1));
    std::map<std::string, std::string> first;
    for (const char* threads : {"1", "2", "7"}) {
      std::vector<std::string> words{"quant", "--quiet", "--model_path", model, "--save_path", folder.path("out"), "--threads", threads};
      words.insert(words.end(), kind.begin(), kind.end());
      check_done(run_program(words));
      if (first.empty()) first = tree_of(folder.path("out"));
      else CHECK(difference(first, tree_of(folder.path("out"))) == "");
      std::filesystem::remove_all(folder.path("out"));
    }
  }
}

TEST_CASE("a run that is killed anywhere, also while it resumes, ends with the same bytes" * doctest::test_suite("long")) {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", large_model()), out = folder.path("out");
  const auto start = steady_clock::now();
  check_done(run_program(quant(model, out)));
  const double whole = duration<double>(steady_clock::now() - start).count();
  const auto undisturbed = tree_of(folder.path());
  std::filesystem::remove_all(out);

  // A point is a number of finished pieces and a part of the time of one, so that it does not depend on the speed of the machine.
  const std::size_t pieces = large_model().size();
  std::mt19937 random{20};
  const auto killed_at_random = [&](const std::vector<std::string>& arguments) {
    const std::size_t wanted = std::uniform_int_distribution<std::size_t>{0, pieces}(random);
    const duration<double> more{std::uniform_real_distribution<double>{0, 2 * whole / static_cast<double>(pieces)}(random)};
    running_program run{arguments};
    while (!run.has_ended() && finished_pieces(out) < wanted) std::this_thread::sleep_for(std::chrono::microseconds{200});
    std::this_thread::sleep_for(more);
    run.kill();
    return run.wait().signal == SIGKILL;
  };
  std::size_t landed = 0, landed_in_resume = 0;
  for (int point = 0; point < 20; ++point) {
    CAPTURE(point);
    landed += killed_at_random(quant(model, out));
    // Nothing (killed before the work folder was made), a work folder or the result: --resume knows what to do with each.
    for (int again = 0; again < 2; ++again) landed_in_resume += killed_at_random(quant(model, out, {"--resume"}));
    check_done(run_program(quant(model, out, {"--resume"})));
    CHECK(difference(undisturbed, tree_of(folder.path())) == "");
    std::filesystem::remove_all(out);
  }
  MESSAGE(landed << " of 20 kills and " << landed_in_resume << " kills while resuming came before the end of a run of " << whole << " s");
  CHECK(landed >= 10);  // else the model is too small for this machine
  CHECK(landed_in_resume >= 10);
}

TEST_CASE("a run that is told to end says how to go on") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", large_model()), out = folder.path("out");
  for (const int signal : {SIGINT, SIGTERM}) {
    CAPTURE(signal);
    bool landed = false;
    for (int attempt = 0; attempt < 10 && !landed; ++attempt) {
      std::filesystem::remove_all(out);
      std::filesystem::remove_all(out + ".qlib-partial");
      running_program run{quant(model, out)};
      while (!run.has_ended() && finished_pieces(out) < 3) std::this_thread::sleep_for(std::chrono::microseconds{200});
      run.kill(signal);
      const program_result r = run.wait();
      landed = r.signal == signal;
      if (landed) CHECK(r.err == "\nqlib: interrupted: run the same command with --resume to continue\n");
    }
    CHECK(landed);
  }
}

TEST_CASE("nothing appears at save_path before the run is complete") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", large_model()), out = folder.path("out");
  kill_after(quant(model, out), out, 4);
  CHECK_FALSE(std::filesystem::exists(out));
  CHECK(std::filesystem::exists(out + ".qlib-partial"));
}

TEST_CASE("an interrupted run is not started over by mistake, and --overwrite starts it over" * doctest::test_suite("long")) {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", large_model()), out = folder.path("out");
  check_done(run_program(quant(model, out, {"--resume"})));  // nothing to resume: it starts
  std::filesystem::remove_all(out);
  kill_after(quant(model, out), out, 4);
  check_refused(folder.path(), quant(model, out), {{"interrupted run", "--resume", "--overwrite"}});
  check_refused(folder.path(), quant(model, out, {"--resume", "--group_size", "64"}), {{"inputs or flags changed"}});
  check_done(run_program(quant(model, out, {"--overwrite"})));
  CHECK_FALSE(std::filesystem::exists(out + ".qlib-partial"));
}

TEST_CASE("--resume starts at the beginning when a run was killed before its journal began, or there was none") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", llama_tensors()), out = folder.path("out");
  const std::vector<std::string> words{"quant", "--quiet", "--model_path", model, "--save_path", out, "--quant_type", "w8a16"};
  auto resume = words;
  resume.push_back("--resume");
  check_done(run_program(words));
  const auto undisturbed = tree_of(out);
  std::filesystem::remove_all(out);
  SUBCASE("no work folder") {}
  SUBCASE("no journal") { std::filesystem::create_directory(out + ".qlib-partial"); }
  SUBCASE("an empty journal") {
    std::filesystem::create_directory(out + ".qlib-partial");
    folder.write("out.qlib-partial/.qlib-journal", "");
  }
  SUBCASE("a torn first line") {
    std::filesystem::create_directory(out + ".qlib-partial");
    folder.write("out.qlib-partial/.qlib-journal", "qlib-jour");
  }
  check_done(run_program(resume));
  CHECK(difference(undisturbed, tree_of(out)) == "");
}

TEST_CASE("two runs never share a work folder, whatever their flags") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", llama_tensors()), out = folder.path("out");
  const std::vector<std::string> words{"quant", "--quiet", "--model_path", model, "--save_path", out, "--quant_type", "w8a16", "--overwrite"};
  {
    const auto other = qlib::held_folder::take(qlib::work_folder_of(out));
    REQUIRE(other);
    CHECK_FALSE(qlib::held_folder::take(qlib::work_folder_of(out)));
    check_refused(folder.path(), words, {{"another run is using"}});
    for (const char* more : {"", "--resume"}) {  // nor is it called an interrupted one
      std::vector<std::string> other_words{words.begin(), words.end() - 1};
      if (*more) other_words.emplace_back(more);
      check_refused(folder.path(), other_words, {{"another run is using this work folder", "wait for it or stop it"}});
    }
  }
  check_done(run_program(words));
}

TEST_CASE("weights that were cut off in the work folder are made again") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", large_model()), out = folder.path("out");
  check_done(run_program(quant(model, out)));
  const auto undisturbed = tree_of(out);
  std::filesystem::remove_all(out);
  kill_after(quant(model, out), out, 4);
  std::size_t cut = 0;
  for (const auto& entry : std::filesystem::directory_iterator{out + ".qlib-partial"})
    if (entry.path().extension() == ".safetensors") std::filesystem::resize_file(entry.path(), entry.file_size() / 2), ++cut;
  REQUIRE(cut > 0);
  check_done(run_program(quant(model, out, {"--resume"})));
  CHECK(difference(undisturbed, tree_of(out)) == "");
}

TEST_CASE("resuming a run that was complete succeeds and changes nothing") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", llama_tensors()), out = folder.path("out");
  const std::vector<std::string> words{"quant", "--quiet", "--model_path", model, "--save_path", out, "--quant_type", "w8a16"};
  auto resume = words;
  resume.push_back("--resume");
  check_done(run_program(words));
  const auto before = tree_of(folder.path());
  check_done(run_program(resume));
  CHECK(difference(before, tree_of(folder.path())) == "");
}

TEST_CASE("a file system that takes no large files fails the run with exit code 1, and --resume completes it elsewhere") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", large_model()), out = folder.path("out");
  check_done(run_program(quant(model, out)));
  const auto undisturbed = tree_of(folder.path());
  std::filesystem::remove_all(out);

  const program_result failed = run_program(quant(model, out), 1 << 20);
  INFO(failed.err);
  CHECK(failed.exit_code == 1);
  CHECK(failed.out == "");
  REQUIRE(failed.error_lines().size() == 1);
  CHECK(failed.err.rfind("qlib: error: ", 0) == 0);
  CHECK(failed.err.find("--resume") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(out));
  check_done(run_program(quant(model, out, {"--resume"})));
  CHECK(difference(undisturbed, tree_of(folder.path())) == "");
}

TEST_CASE("a disk that fills up half way fails the run with exit code 1, and --resume completes it when there is room") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", large_model());
  const memory_disk disk{folder.path("disk"), 64 << 20};
  if (!disk.mounted()) return;  // not root, or a container that may not mount: the case above remains
  const std::string out = folder.path("disk/out");
  check_done(run_program(quant(model, out)));
  const auto undisturbed = tree_of(folder.path("disk"));
  std::filesystem::remove_all(out);

  kill_after(quant(model, out), out, 4);
  {  // Another program takes the space that the run still needs, but 1 MiB.
    std::ofstream other{folder.path("disk/other"), std::ios::binary};
    const std::uint64_t room = std::filesystem::space(folder.path("disk")).available - (1 << 20);
    other << std::string(room, 'x');
    REQUIRE(other.flush());
  }
  const program_result full = run_program(quant(model, out, {"--resume"}));
  INFO(full.err);
  CHECK(full.exit_code == 1);
  REQUIRE(full.error_lines().size() == 1);
  CHECK(full.err.rfind("qlib: error: ", 0) == 0);
  CHECK(full.err.find("No space left") != std::string::npos);
  CHECK(full.err.find("--resume") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(out));
  std::filesystem::remove(folder.path("disk/other"));
  check_done(run_program(quant(model, out, {"--resume"})));
  CHECK(difference(undisturbed, tree_of(folder.path("disk"))) == "");
}

TEST_CASE("a disk that is too small is noticed before anything is written") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", large_model());
  const memory_disk disk{folder.path("disk"), 4 << 20};
  if (!disk.mounted()) return;
  const program_result result = run_program(quant(model, folder.path("disk/out")));
  INFO(result.err);
  CHECK(result.exit_code == 1);
  REQUIRE(result.error_lines().size() == 1);
  CHECK(result.err.rfind("qlib: error: ", 0) == 0);
  CHECK(tree_of(folder.path("disk")).empty());
}

TEST_CASE("folders above a relative save_path are made") {
  temporary_folder folder;
  const std::string before = std::filesystem::current_path().string();
  std::filesystem::current_path(folder.path("."));
  const program_result r = run_program(
      {"quant", "--quiet", "--model_path", QLIB_SOURCE_DIR "/examples/tiny_llama", "--save_path", "a/b/c", "--quant_type", "w8a8_dynamic"});
  std::filesystem::current_path(before);
  CHECK_MESSAGE(r.exit_code == 0, r.err);
  CHECK(std::filesystem::exists(folder.path("a/b/c/config.json")));
}

TEST_CASE("compressed-tensors ignores modules by the names of the file and by those that transformers gives them") {
  temporary_folder folder;
  const auto ignored = [&](const std::string& family) {
    const program_result r = run_program({"quant", "--quiet", "--model_path", QLIB_SOURCE_DIR "/tests/golden/families/" + family, "--save_path",
                                          folder.path(family), "--quant_type", "w8a8_dynamic", "--format", "compressed_tensors"});
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    const auto names = nlohmann::json::parse(folder.read(family + "/config.json"))["quantization_config"]["ignore"];
    return std::set<std::string>(names.begin(), names.end());
  };
  CHECK(ignored("gpt_neox") == std::set<std::string>{"embed_out", "lm_head"});
  const std::set<std::string> of_llava = ignored("llava");
  for (const char* name : {"language_model.lm_head", "lm_head", "multi_modal_projector.linear_1", "model.multi_modal_projector.linear_1"})
    CHECK_MESSAGE(of_llava.contains(name), name);
}
