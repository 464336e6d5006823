/// What engines load as one matrix has one type, or the program says so before it works.
#include "checkpoint_bytes.hpp"
#include "run_program.hpp"

#include <nlohmann/json.hpp>

using namespace qlib_test;
using nlohmann::json;

namespace {

const std::string tiny = QLIB_SOURCE_DIR "/examples/tiny_llama";

/// Two layers, the feed-forward of each four experts.
std::vector<tensor_bytes> mixture() {
  std::vector<tensor_bytes> all;
  for (tensor_bytes& t : llama_tensors()) {
    const std::size_t mlp = t.name.find("mlp.");
    if (mlp == std::string::npos) all.push_back(std::move(t));
    else
      for (const char* expert : {"0.", "1.", "2.", "3."})
        all.push_back(bf16_tensor(t.name.substr(0, mlp + 4) + "experts." + expert + t.name.substr(mlp + 4), t.shape));
  }
  for (const char* layer : {"0", "1"}) all.push_back(bf16_tensor("model.layers." + std::string{layer} + ".mlp.gate.weight", {4, 64}));
  return all;
}

constexpr const char* mixture_config = R"({"model_type": "qwen3_moe", "torch_dtype": "bfloat16", "num_experts": 4})";

}  // namespace

TEST_CASE("--disable_level keeps whole groups float, so that engines load what comes out" * doctest::test_suite("long")) {
  temporary_folder folder;
  for (const char* format : {"ascend_v1", "compressed_tensors"})
    for (const char* level : {"L1", "L2", "L4", "L6"}) {
      CAPTURE(format);
      CAPTURE(level);
      const std::string out = folder.path(std::string{format} + level);
      const program_result r = run_program({"quant", "--quiet", "--model_path", tiny, "--save_path", out, "--quant_type", "w8a8", "--format", format,
                                            "--calib_samples", "2", "--calib_length", "32", "--disable_level", level});
      REQUIRE_MESSAGE(r.exit_code == 0, r.err);
      const program_result verified = run_program({"verify", out});
      CHECK_MESSAGE(verified.exit_code == 0, verified.out);
    }
}

TEST_CASE("a level that would keep every layer float is refused before calibration, and says why") {
  temporary_folder folder;
  for (const char* level : {"L24", "L100"})  // 6 layers of q/k/v, o, gate/up and down
    check_refused(folder.path(),
                  {"quant", "--quiet", "--model_path", tiny, "--save_path", folder.path("out"), "--quant_type", "w8a8", "--disable_level", level},
                  {{"--disable_level " + std::string{level}, "would keep all 42 layers float", "at most 24 groups", "give a smaller level"}});
}

TEST_CASE("names that leave out a part of a fused matrix are refused, once, with all of its names") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", llama_tensors()), out = folder.path("out");
  const std::vector<std::string> begin{"quant", "--quiet", "--model_path", model, "--save_path", out};
  const auto with = [&](std::vector<std::string> words) {
    words.insert(words.begin(), begin.begin(), begin.end());
    return words;
  };
  const std::string ct =
      folder.write("ignore.yaml", "QuantizationModifier: {targets: [Linear], scheme: W8A8, ignore: ['re:.*gate_proj', lm_head]}\n");
  const std::string slim = folder.write("exclude.yaml",
                                        "apiversion: modelslim_v1\nspec:\n  process:\n    - type: linear_quant\n      qconfig:\n"
                                        "        weight: {dtype: int8, scope: per_channel, symmetric: True, method: minmax}\n"
                                        "      exclude: ['*.v_proj']\n");
  for (const char* format : {"ascend_v1", "compressed_tensors"}) {
    CAPTURE(format);
    check_refused(folder.path(), with({"--quant_type", "w8a8_dynamic", "--disable_names", "model.layers.1.self_attn.q_proj", "--format", format}),
                  {{"model.layers.1.self_attn (q_proj, k_proj, v_proj)", "q_proj FLOAT, k_proj and v_proj W8A8_DYNAMIC",
                    "--disable_names model.layers.1.self_attn.k_proj,model.layers.1.self_attn.q_proj,model.layers.1.self_attn.v_proj"}});
    check_refused(folder.path(), with({"--quant_type", "w8a16", "--ignore", "re:.*(up|k)_proj", "--format", format}),
                  {{"model.layers.0.mlp (gate_proj, up_proj) and 1 more", "up_proj FLOAT"},
                   {"model.layers.0.self_attn (q_proj, k_proj, v_proj) and 1 more", "k_proj FLOAT"}});
  }
  check_refused(folder.path(), with({"--config_path", ct}), {{"mlp (gate_proj, up_proj) and 1 more", "gate_proj FLOAT, up_proj W8A8_DYNAMIC"}});
  check_refused(folder.path(), with({"--config_path", slim}), {{"self_attn (q_proj, k_proj, v_proj) and 1 more", "v_proj FLOAT"}});
  check_refused(folder.path(), {"plan", "--model_path", model, "--quant_type", "w8a16", "--disable_names", "model.layers.0.mlp.up_proj"},
                {{"model.layers.0.mlp (gate_proj, up_proj)"}});
  CHECK(run_program(with({"--quant_type", "w8a16", "--disable_names", "*.{gate,up}_proj"})).exit_code == 0);
}

TEST_CASE("two types in one fused matrix are refused too") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", llama_tensors());
  const std::string recipe = folder.write("two.yaml",
                                          "QuantizationModifier:\n  ignore: [lm_head]\n  config_groups:\n"
                                          "    a: {targets: ['re:.*[qk]_proj'], weights: {num_bits: 8, strategy: channel}}\n"
                                          "    b: {targets: ['re:.*v_proj'], weights: {num_bits: 4, strategy: group, group_size: 32}}\n");
  check_refused(folder.path(), {"plan", "--model_path", model, "--config_path", recipe},
                {{"self_attn (q_proj, k_proj, v_proj) and 1 more", "W4A16 g32", "W8A16", "let one stage of the recipe match all of them"}});
}

TEST_CASE("with --compat a mix is a warning: the tool that is followed writes it too") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", llama_tensors());
  for (const char* tool : {"llmcompressor", "msmodelslim"}) {
    const program_result r = run_program({"quant", "--model_path", model, "--save_path", folder.path(tool), "--quant_type", "w8a8_dynamic",
                                          "--disable_names", "*.q_proj", "--compat", tool});
    CHECK(r.exit_code == 0);
    CHECK_MESSAGE(
        r.err.find("qlib: warning: model.layers.0.self_attn (q_proj, k_proj, v_proj) and 1 more: engines load it as one matrix") != std::string::npos,
        r.err);
  }
}

TEST_CASE("experts of several types are refused where every engine refuses them, else they are a warning") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", mixture(), mixture_config);
  const auto plan = [&](const char* format) {
    return std::vector<std::string>{"plan",          "--model_path", model, "--quant_type", "w8a8_dynamic", "--disable_names",
                                    "*.experts.2.*", "--format",     format};
  };
  check_refused(folder.path(), plan("compressed_tensors"), {{"model.layers.0.mlp.experts and 1 more", "3 of FLOAT, 9 of W8A8_DYNAMIC"}});
  const program_result ascend = run_program(plan("ascend_v1"));
  CHECK(ascend.exit_code == 0);
  CHECK_MESSAGE(ascend.err.find("warning: model.layers.0.mlp.experts and 1 more: engines load it as one matrix") != std::string::npos, ascend.err);
}
