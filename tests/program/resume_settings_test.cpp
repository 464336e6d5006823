/// What --resume continues was begun with the same inputs and flags, or it says which of them changed before it does anything.
#include "checkpoint_bytes.hpp"
#include "run_program.hpp"

using namespace qlib_test;

namespace {

using words = std::vector<std::string>;

const std::string tiny = QLIB_SOURCE_DIR "/examples/tiny_llama";

words with(words all, const words& more) {
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

words quant(const std::string& out, const words& more) {
  return with({"quant", "--model_path", tiny, "--save_path", out, "--calib_ids", tiny + "/calib_ids.safetensors", "--calib_length", "32"}, more);
}

/// Leaves a work folder behind calibration, before the first chunk: no file as large as the weights can be made.
void interrupt(const words& arguments, const std::string& out) {
  const program_result r = run_program(arguments, std::uint64_t{3} << 20);
  REQUIRE_MESSAGE(r.exit_code == 1, r.err);
  REQUIRE(r.err.find("rerun with --resume") != std::string::npos);
  REQUIRE(std::filesystem::exists(out + ".qlib-partial/.qlib-run.json"));
}

}  // namespace

TEST_CASE("--resume refuses other flags before it calibrates, and names the setting") {
  temporary_folder folder;
  const std::string out = folder.path("out");
  const words first{"--quant_type", "w8a8", "--calib_samples", "4"};
  interrupt(quant(out, first), out);
  const auto refused = [&](const words& flags, const words& parts) {
    CAPTURE(flags.back());
    check_refused(folder.path(), quant(out, with(flags, {"--resume"})), {parts});
  };
  refused({"--quant_type", "w8a8", "--calib_samples", "3"}, {"calibration data was 4 samples", "is 3 samples", "--overwrite"});
  refused(with(first, {"--seed", "5"}), {"calibration data was 4 samples, 128 tokens"});
  refused(with(first, {"--act_method", "1"}), {"stage 1 input observer was auto_mixed, is minmax"});
  refused(with(first, {"--observer", "mse"}), {"stage 1 observer was minmax, is mse"});
  refused(with(first, {"--disable_names", "*.mlp.down_proj"}), {"stage 1 ignore was lm_head, is *.mlp.down_proj,lm_head"});
  refused(with(first, {"--disable_level", "L2"}), {"disable_level was not given, is 2"});
  refused(with(first, {"--anti_method", "m4"}), {"outlier suppression 1 method was not given, is iter_smooth"});
  refused(with(first, {"--reproducible"}), {"reproducible was false, is true"});
  refused(with(first, {"--compat", "msmodelslim"}), {"compat was not given, is msmodelslim"});
  refused(with(first, {"--format", "compressed_tensors"}), {"format was ascend_v1, is compressed_tensors"});
  const program_result plan = run_program({"plan", "--model_path", tiny, "--save_path", out, "--calib_ids", tiny + "/calib_ids.safetensors",
                                           "--quant_type", "w8a8", "--calib_samples", "3", "--resume"});
  CHECK(plan.exit_code == 2);
  CHECK(plan.err.find("calibration data was") != std::string::npos);
  // How fast, and what is told, may change.
  const program_result r = run_program(quant(out, with(first, {"--resume", "--threads", "1", "--quiet", "--max_memory", "1TB"})));
  CHECK_MESSAGE(r.exit_code == 0, r.err);
}

TEST_CASE("--resume refuses other flags after a kill in the middle of calibration too") {
  temporary_folder folder;
  const std::string out = folder.path("out");
  const words first{"--quant_type", "w8a8", "--anti_method", "m4", "--calib_samples", "8"};
  bool landed = false;
  for (int attempt = 0; attempt < 20 && !landed; ++attempt) {
    running_program run{quant(out, first)};
    while (!run.has_ended() && !std::filesystem::exists(out + ".qlib-partial/.qlib-run.json")) ::usleep(100);
    run.kill();
    landed = run.wait().signal == SIGKILL && !std::filesystem::exists(out + ".qlib-partial/.qlib-journal");
    if (!landed) std::filesystem::remove_all(out);
  }
  REQUIRE(landed);
  check_refused(folder.path(), quant(out, {"--quant_type", "w8a8", "--anti_method", "m1", "--calib_samples", "8", "--resume"}),
                {{"outlier suppression 1 method was iter_smooth, is smooth_quant"}});
  const program_result r = run_program(quant(out, with(first, {"--resume"})));
  CHECK_MESSAGE(r.exit_code == 0, r.err);
}

TEST_CASE("--overwrite forgets what an interrupted run of other flags left, also if it is killed itself") {
  temporary_folder folder;
  const std::string out = folder.path("out"), whole = folder.path("whole");
  const words first{"--quant_type", "w8a8", "--calib_samples", "4"}, second{"--quant_type", "w8a8", "--calib_samples", "2"};
  REQUIRE(run_program(quant(whole, second)).exit_code == 0);
  interrupt(quant(out, first), out);
  interrupt(quant(out, with(second, {"--overwrite"})), out);
  check_refused(folder.path(), quant(out, with(first, {"--resume"})), {{"calibration data was 2 samples"}});
  const program_result r = run_program(quant(out, with(second, {"--resume"})));
  CHECK_MESSAGE(r.exit_code == 0, r.err);
  CHECK(difference(tree_of(whole), tree_of(out)) == "");
}

TEST_CASE("--resume on a complete result notices flags that change values alone") {
  temporary_folder folder;
  const std::string out = folder.path("out");
  const auto run = [&](const words& more) {
    return with({"quant", "--model_path", tiny, "--save_path", out, "--quant_type", "w4a16", "--format", "compressed_tensors"}, more);
  };
  REQUIRE(run_program(run({"--group_size", "64"})).exit_code == 0);
  check_refused(folder.path(), run({"--group_size", "64", "--observer", "mse", "--resume"}),
                {{out, "is complete", "stage 1 observer was minmax, is mse", "--overwrite"}});
  check_refused(folder.path(), run({"--group_size", "32", "--resume"}), {{"stage 1 weights.group_size was 64, is 32"}});
  check_refused(folder.path(), run({"--group_size", "64", "--trust_remote_code", "--ignore", "re:.*down_proj", "--resume"}),
                {{"stage 1 ignore was lm_head, is re:.*down_proj,lm_head"}});
  const auto before = tree_of(folder.path());
  const program_result same = run_program(run({"--group_size", "64", "--resume", "--threads", "1"}));
  CHECK(same.exit_code == 0);
  CHECK(same.err.find("is complete: nothing is done\n") != std::string::npos);
  CHECK(difference(before, tree_of(folder.path())) == "");
  const program_result verified = run_program({"verify", out, "--engine", "vllm"});
  CHECK_MESSAGE(verified.exit_code == 0, verified.out);
}

TEST_CASE("--resume on a complete result knows it when calibration chose the layers that stay float") {
  temporary_folder folder;
  const std::string out = folder.path("out");
  const auto run = [&](const std::string& level) {
    return quant(out, {"--quant_type", "w8a8", "--calib_samples", "1", "--disable_level", level, "--resume"});
  };
  REQUIRE(run_program(run("L2")).exit_code == 0);
  const auto before = tree_of(folder.path());
  const program_result same = run_program(run("L2"));
  CHECK_MESSAGE(same.exit_code == 0, same.err);
  CHECK(same.err.find("is complete: nothing is done\n") != std::string::npos);
  CHECK(difference(before, tree_of(folder.path())) == "");
  check_refused(folder.path(), run("L3"), {{out, "is complete", "disable_level was 2, is 3"}});
  std::filesystem::remove(out + "/quant_model_description.json");
  check_refused(folder.path(), run("L2"), {{out, "is not empty"}});
}

TEST_CASE("--resume on a complete result notices another training of the model, and takes a copy of it for the same") {
  temporary_folder folder;
  const std::string out = folder.path("out");
  const std::vector<tensor_bytes> tensors = llama_tensors();
  std::vector<tensor_bytes> others = tensors;
  for (tensor_bytes& t : others)
    for (char& c : t.bytes) c = static_cast<char>(c ^ 1);
  const std::string model = write_model(folder, "model", tensors), copy = write_model(folder, "copy", tensors),
                    other = write_model(folder, "other", others);
  const auto run = [&](const std::string& from) {
    return words{"quant", "--model_path", from, "--save_path", out, "--quant_type", "w8a8_dynamic", "--resume"};
  };
  REQUIRE(run_program(run(model)).exit_code == 0);
  CHECK(run_program(run(copy)).exit_code == 0);
  check_refused(folder.path(), run(other), {{"is complete", "model was 1 file"}});
  CHECK(bytes_of(out + "/.qlib-run.json").find(folder.path()) == std::string::npos);  // no path, no time
}

TEST_CASE("--resume on a result without settings says what it cannot see") {
  temporary_folder folder;
  const std::string out = folder.path("out");
  const words all{"quant", "--model_path", tiny, "--save_path", out, "--quant_type", "w8a16", "--resume"};
  REQUIRE(run_program(all).exit_code == 0);
  std::filesystem::remove(out + "/.qlib-run.json");
  const program_result r = run_program(all);
  CHECK(r.exit_code == 0);
  CHECK(r.err.find("other options that its documents do not show need --overwrite") != std::string::npos);
}
