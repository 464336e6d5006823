/// Outlier suppression as a user runs it.
#include "../pipeline/outlier_model.hpp"
#include "checkpoint_bytes.hpp"
#include "run_program.hpp"

#include <nlohmann/json.hpp>

using namespace qlib_test;
using nlohmann::json;

namespace {

const std::string model = QLIB_SOURCE_DIR "/examples/tiny_llama", ids = model + "/calib_ids.safetensors", eval_ids = model + "/eval_ids.safetensors";

std::vector<std::string> quant(const std::string& from, const std::string& out, std::vector<std::string> more) {
  std::vector<std::string> words{"quant", "--quiet", "--model_path", from, "--save_path", out, "--calib_ids", ids, "--calib_samples", "8"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

double kl_of(const std::string& quantized, const std::string& reference) {
  const program_result r =
      run_program({"eval", "--quiet", "--json", "--model_path", quantized, "--reference", reference, "--ids", eval_ids, "--samples", "8"});
  REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  return json::parse(r.out)["kl"].get<double>();
}

}  // namespace

TEST_CASE("outliers that ruin static W8A8 cost nothing behind a suppressor, in both formats' cases" * doctest::test_suite("very long")) {
  temporary_folder folder;
  const std::string outliers = folder.path("outliers");
  REQUIRE(write_outlier_model(model, outliers).empty());
  CHECK(kl_of(outliers, model) == 0);  // the same function, bit for bit
  const auto kl = [&](const std::string& method) {
    const std::string out = folder.path(method);
    const program_result r = run_program(quant(outliers, out, {"--quant_type", "w8a8", "--act_method", "1", "--anti_method", method}));
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    return kl_of(out, outliers);
  };
  const double without = kl("none");
  CHECK(without > 0.1);
  for (const char* method : {"m4", "m6", "smooth_quant", "outlier_suppression_lite"}) {
    CAPTURE(method);
    CHECK(kl(method) <= 0.01 * without);
  }
}

TEST_CASE("a rotation lowers the error of W8A8_DYNAMIC on outliers, and needs no data" * doctest::test_suite("very long")) {
  temporary_folder folder;
  const std::string outliers = folder.path("outliers");
  REQUIRE(write_outlier_model(model, outliers).empty());
  for (const char* method : {"none", "quarot"})
    REQUIRE(run_program({"quant", "--quiet", "--model_path", outliers, "--save_path", folder.path(method), "--quant_type", "w8a8_dynamic",
                         "--anti_method", method})
                .exit_code == 0);
  CHECK(kl_of(folder.path("quarot"), outliers) < 0.5 * kl_of(folder.path("none"), outliers));
}

TEST_CASE("a rotation takes the error of one huge channel of the residual stream from the linears that read it" * doctest::test_suite("very long")) {
  temporary_folder folder;
  const std::string outliers = folder.path("outliers");
  REQUIRE(write_residual_outlier_model(model, outliers, 2).empty());
  const auto kl = [&](const std::string& rotation) {
    const std::string recipe = folder.write("recipe.yaml", "stage:\n  modifiers:\n" + rotation +
                                                               "    QuantizationModifier:\n"
                                                               "      ignore: [lm_head, 're:.*o_proj', 're:.*down_proj']\n"
                                                               "      config_groups:\n"
                                                               "        all:\n"
                                                               "          targets: [Linear]\n"
                                                               "          weights: {num_bits: 4, type: int, symmetric: true, strategy: channel}\n"
                                                               "          input_activations: {num_bits: 4, type: int, symmetric: true, "
                                                               "strategy: token, dynamic: true}\n");
    const std::string out = folder.path(rotation.empty() ? "plain" : "rotated");
    const program_result r = run_program({"quant", "--quiet", "--model_path", outliers, "--save_path", out, "--config_path", recipe});
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    return kl_of(out, outliers);
  };
  CHECK(kl("    SpinQuantModifier: {rotations: [R1, R2], transform_type: hadamard}\n") <= 0.2 * kl(""));
}

TEST_CASE("suppressed checkpoints are the same for any number of threads" * doctest::test_suite("very long")) {
  temporary_folder folder;
  const std::vector<std::string> more{"--quant_type", "w8a8", "--anti_method", "m6", "--reproducible", "--calib_length", "64"};
  std::string first;
  for (const char* threads : {"1", "3"}) {
    std::vector<std::string> words = quant(model, folder.path(threads), more);
    words.insert(words.end(), {"--threads", threads});
    REQUIRE(run_program(words).exit_code == 0);
    if (first.empty()) first = weights_of(folder.path(threads));
    else CHECK(weights_of(folder.path(threads)) == first);
  }
}

TEST_CASE("the report says what each sub-graph gained") {
  temporary_folder folder;
  const program_result r = run_program(quant(model, folder.path("out"), {"--quant_type", "w8a8", "--anti_method", "m4", "--json"}));
  REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  const json j = json::parse(r.out);
  REQUIRE(j["subgraphs"].size() == 24);  // four a layer
  for (const json& g : j["subgraphs"]) {
    CHECK(g["suppressor"] == "iter_smooth");
    if (g["kept"]) CHECK(g["error_after"].get<double>() <= g["error_before"].get<double>());
  }
}

TEST_CASE("an asymmetric recipe writes the biases that its shifts need, and they are as good" * doctest::test_suite("long")) {
  temporary_folder folder;
  const auto recipe_with = [&](const std::string& symmetric) {
    return folder.write(symmetric + ".yaml",
                        "apiversion: modelslim_v1\nspec:\n  process:\n    - {type: iter_smooth, alpha: 0.9, symmetric: " + symmetric +
                            "}\n    - type: linear_quant\n      qconfig:\n"
                            "        act: {scope: per_tensor, dtype: int8, symmetric: False, method: minmax, ext: {aggregation_type: mean}}\n"
                            "        weight: {scope: per_channel, dtype: int8, symmetric: True, method: minmax}\n");
  };
  const std::string recipe = recipe_with("False");
  const program_result r = run_program(quant(model, folder.path("out"), {"--config_path", recipe}));
  REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  REQUIRE(run_program(quant(model, folder.path("symmetric"), {"--config_path", recipe_with("True")})).exit_code == 0);
  qlib::safetensors_file file;
  REQUIRE(qlib::safetensors_file::open(folder.path("out") + "/quant_model_weights-00001-of-00001.safetensors", file).empty());
  CHECK(file.find("model.layers.0.input_layernorm.bias"));
  CHECK(file.find("model.layers.0.self_attn.q_proj.bias"));
  CHECK_FALSE(file.find("model.layers.0.mlp.down_proj.bias"));
  CHECK(run_program({"verify", folder.path("out")}).exit_code == 0);
  CHECK(kl_of(folder.path("out"), model) < 1.05 * kl_of(folder.path("symmetric"), model));
  check_invalid(quant(model, folder.path("ct"), {"--config_path", recipe, "--format", "compressed_tensors"}), folder.path("ct"), "norms with a bias");
}

TEST_CASE("wrong outlier suppression is one clear line, and nothing is written") {
  temporary_folder folder;
  const std::string out = folder.path("out");
  check_invalid(quant(model, out, {"--quant_type", "w8a8", "--anti_method", "m9"}), out, "known: m1, m2, m3, m4, m5, m6, smooth_quant");
  const auto recipe = [&](const std::string& processor) {
    return folder.write("r.yaml", "apiversion: modelslim_v1\nspec:\n  process:\n    - " + processor +
                                      "\n    - type: linear_quant\n      qconfig:\n"
                                      "        act: {scope: per_token, dtype: int8, symmetric: True, method: minmax}\n"
                                      "        weight: {scope: per_channel, dtype: int8, symmetric: True, method: minmax}\n");
  };
  check_invalid(quant(model, out, {"--config_path", recipe("{type: smooth_quant, alpha: 1.5}")}), out, "alpha 1.5");
  check_invalid(quant(model, out, {"--config_path", recipe("{type: smooth_quant, alpha: much}")}), out, "'much'");
  check_invalid(quant(model, out, {"--config_path", recipe("{type: iter_smooth, enable_subgraph_type: [norms]}")}), out,
                "norm-linear, linear-linear, ov, up-down");
  check_invalid(quant(model, out, {"--config_path", recipe("{type: quarot, online: True}")}), out, "no consumer");
  check_invalid(quant(model, out, {"--config_path", recipe("{type: quarot, block_size: 37}")}), out, "Hadamard");
  // A checkpoint without samples beside it, and a method that needs some.
  const std::string bare = folder.path("bare");
  REQUIRE(write_outlier_model(model, bare).empty());
  for (const char* name : {"/calib.jsonl", "/calib_ids.safetensors"}) std::filesystem::remove(bare + name);
  check_invalid({"quant", "--model_path", bare, "--save_path", out, "--quant_type", "w8a8_dynamic", "--anti_method", "m4"}, out,
                "needs calibration data");
}

TEST_CASE("a model whose head is its embedding is not rotated, and the reason is told") {
  temporary_folder folder;
  const std::string gemma = QLIB_SOURCE_DIR "/tests/golden/families/hunyuan_v1_dense", out = folder.path("out");
  check_invalid({"quant", "--model_path", gemma, "--save_path", out, "--quant_type", "w8a8_dynamic", "--anti_method", "quarot"}, out,
                "the head is the embedding");
}

TEST_CASE("--anti_file has the samples of outlier suppression alone" * doctest::test_suite("long")) {
  temporary_folder folder;
  const auto run = [&](const char* name, const std::vector<std::string>& kind, const std::vector<std::string>& more) {
    std::vector<std::string> words{"quant", "--quiet", "--model_path", model, "--save_path", folder.path(name), "--calib_samples", "4"};
    words.insert(words.end(), kind.begin(), kind.end());
    words.insert(words.end(), more.begin(), more.end());
    const program_result r = run_program(words);
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    return weights_of(folder.path(name));
  };
  const std::string same = folder.write("same.safetensors", tree_of(model).at("calib_ids.safetensors"));
  for (const char* act_method : {"1", "3"}) {
    CAPTURE(act_method);
    std::filesystem::remove_all(folder.path("both"));
    std::filesystem::remove_all(folder.path("apart"));
    std::filesystem::remove_all(folder.path("other"));
    const std::vector<std::string> kind{"--quant_type", "w8a8", "--act_method", act_method, "--anti_method", "m4", "--calib_ids", ids};
    const std::string both = run("both", kind, {});
    CHECK(run("apart", kind, {"--anti_file", same}) == both);
    CHECK(run("other", kind, {"--anti_file", eval_ids}) != both);
  }
  // Where inputs are dynamic, nothing else asks for samples.
  const std::vector<std::string> dynamic{"--quant_type", "w8a8_dynamic", "--anti_method", "m4"};
  CHECK(run("dynamic_anti", dynamic, {"--anti_file", eval_ids}) == run("dynamic_calib", dynamic, {"--calib_ids", eval_ids}));
  check_invalid({"quant", "--quiet", "--model_path", model, "--save_path", folder.path("no"), "--quant_type", "w8a8", "--anti_file", ids},
                folder.path("no"), "--anti_method");
  check_invalid({"quant", "--quiet", "--model_path", model, "--save_path", folder.path("no"), "--quant_type", "w8a8", "--anti_method", "m4",
                 "--anti_file", folder.path("nowhere.jsonl")},
                folder.path("no"), "nowhere.jsonl");
}
