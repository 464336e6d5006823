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

TEST_CASE("behind m3, outliers cost W8A16 a twentieth of what they cost without" * doctest::test_suite("very long")) {
  temporary_folder folder;
  const std::string outliers = folder.path("outliers");
  REQUIRE(write_outlier_model(model, outliers).empty());
  const auto kl = [&](const std::string& from, const std::string& method) {
    const std::string out = folder.path(method);
    const program_result r = run_program(quant(from, out, {"--quant_type", "w8a16", "--anti_method", method}));
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    return kl_of(out, from);
  };
  const double with = kl(outliers, "m3");
  CHECK(with <= 0.0013);
  CHECK(with <= 0.05 * kl(outliers, "none"));
}

TEST_CASE("a recipe of a rotation and then smoothing of what it cannot reach is better than either part of it" * doctest::test_suite("very long")) {
  temporary_folder folder;
  const std::string outliers = folder.path("outliers");
  REQUIRE(write_outlier_model(model, outliers).empty());
  const auto kl = [&](const std::string& name, const std::string& before) {
    const std::string recipe =
        folder.write(name + ".yaml", "apiversion: modelslim_v1\nspec:\n  process:\n" + before +
                                         "    - type: linear_quant\n      qconfig:\n"
                                         "        act: {scope: per_token, dtype: int8, symmetric: True, method: minmax}\n"
                                         "        weight: {scope: per_channel, dtype: int8, symmetric: True, method: minmax}\n");
    const program_result r = run_program(quant(outliers, folder.path(name), {"--config_path", recipe}));
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    return kl_of(folder.path(name), outliers);
  };
  const std::string rotation = "    - {type: quarot}\n", smoothing = "    - {type: flex_smooth_quant, enable_subgraph_type: [ov, up-down]}\n";
  const double both = kl("both", rotation + smoothing);
  CHECK(both <= 0.1 * kl("rotation", rotation));
  CHECK(both <= 0.1 * kl("smoothing", smoothing));
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

TEST_CASE("behind a rotation, one huge channel of the residual stream costs a fifth or less of what it costs without, over all linears" *
          doctest::test_suite("very long")) {
  temporary_folder folder;
  const auto outliers = [&](float factor) {
    const std::string at = folder.path("outliers");
    std::filesystem::remove_all(at);
    REQUIRE(write_residual_outlier_model(model, at, factor).empty());
    const program_result r =
        run_program({"eval", "--quiet", "--json", "--model_path", at, "--reference", model, "--ids", eval_ids, "--samples", "8"});
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    CHECK(json::parse(r.out)["ppl"].get<double>() < 1.05 * json::parse(r.out)["ppl_reference"].get<double>());  // as good a float model
    return at;
  };
  const auto kl = [&](const std::string& from, const std::vector<std::string>& more) {
    const std::string out = folder.path("out");
    std::filesystem::remove_all(out);
    const program_result r = run_program(quant(from, out, more));
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    return kl_of(out, from);
  };
  const auto w4a4 = [&](const std::string& rotation) {
    const std::string int4 = "num_bits: 4, type: int, symmetric: true, ";
    return std::vector<std::string>{"--config_path", folder.write("recipe.yaml", "stage:\n  modifiers:\n" + rotation +
                                                                                     "    QuantizationModifier:\n"
                                                                                     "      ignore: [lm_head]\n"
                                                                                     "      config_groups:\n"
                                                                                     "        all:\n"
                                                                                     "          targets: [Linear]\n"
                                                                                     "          weights: {" +
                                                                                     int4 +
                                                                                     "strategy: channel}\n"
                                                                                     "          input_activations: {" +
                                                                                     int4 + "strategy: token, dynamic: true}\n")};
  };
  std::string from = outliers(100);
  CHECK(kl(from, {"--quant_type", "w8a8_dynamic", "--anti_method", "quarot"}) <= 0.2 * kl(from, {"--quant_type", "w8a8_dynamic"}));
  CHECK(kl(from, w4a4("    SpinQuantModifier: {rotations: [R1, R2], transform_type: hadamard}\n")) <= 0.2 * kl(from, w4a4("")));
  from = outliers(500);  // one range for all tokens is as wide as they are without: the channel has to be wider to cost as much
  CHECK(kl(from, {"--quant_type", "w8a8", "--anti_method", "quarot"}) <= 0.2 * kl(from, {"--quant_type", "w8a8"}));
}

TEST_CASE("awq clips: every sub-graph's own error falls, and the KL of int4 in groups with it" * doctest::test_suite("very long")) {
  temporary_folder folder;
  for (const std::string symmetric : {"true", "false"})
    for (const std::string group : {"32", "128"}) {
      CAPTURE(symmetric);
      CAPTURE(group);
      const auto run = [&](const std::string& method) {
        const std::string out = folder.path(method + symmetric + group);
        const program_result r = run_program(quant(
            model, out, {"--quant_type", "w4a16", "--group_size", group, "--w_sym", symmetric, "--anti_method", method, "--reproducible", "--json"}));
        REQUIRE_MESSAGE(r.exit_code == 0, r.err);
        CHECK(run_program({"verify", out}).exit_code == 0);
        std::size_t tiles = 0, clipped = 0;
        const json report = json::parse(r.out);
        for (const json& g : report["subgraphs"]) {
          tiles += g["tiles"].get<std::size_t>();
          clipped += g["clipped_tiles"].get<std::size_t>();
          if (method == "awq") CHECK(g["clip_error_after"].get<double>() < g["clip_error_before"].get<double>());
        }
        CHECK((clipped > tiles / 10) == (method == "awq"));
        return kl_of(out, model);
      };
      CHECK(run("awq") < run("m3"));
    }
}

TEST_CASE("clipped checkpoints are the same for any number of threads" * doctest::test_suite("long")) {
  temporary_folder folder;
  std::string first;
  for (const char* threads : {"1", "3"}) {
    std::vector<std::string> words = quant(
        model, folder.path(threads),
        {"--quant_type", "w4a16", "--group_size", "32", "--w_sym", "false", "--anti_method", "awq", "--calib_length", "64", "--threads", threads});
    REQUIRE(run_program(words).exit_code == 0);
    if (first.empty()) first = weights_of(folder.path(threads));
    else CHECK(weights_of(folder.path(threads)) == first);
  }
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
  check_invalid(quant(model, folder.path("ct"), {"--config_path", recipe, "--format", "compressed_tensors"}), folder.path("ct"), "a shift needs a bias here");
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

TEST_CASE("a rotated model whose head was its embedding stores both, and config.json says so") {
  const std::string tied = QLIB_SOURCE_DIR "/tests/golden/families/hunyuan_v1_dense";
  for (const char* format : {"ascend_v1", "compressed_tensors"}) {
    CAPTURE(format);
    temporary_folder folder;
    const auto kl = [&](const std::string& method) {
      const std::string out = folder.path(method);
      const program_result r = run_program(
          {"quant", "--quiet", "--model_path", tied, "--save_path", out, "--quant_type", "w8a16", "--anti_method", method, "--format", format});
      REQUIRE_MESSAGE(r.exit_code == 0, r.err);
      CHECK(run_program({"verify", out}).exit_code == 0);
      const program_result e =
          run_program({"eval", "--quiet", "--json", "--model_path", out, "--reference", tied, "--ids", tied + "/golden.safetensors"});
      REQUIRE_MESSAGE(e.exit_code == 0, e.err);
      return json::parse(e.out)["kl"].get<double>();
    };
    CHECK(kl("quarot") < 2 * kl("none"));  // of another function it would be thousands of times as much
    const auto config = [&](const std::string& method) { return json::parse(tree_of(folder.path(method)).at("config.json")); };
    CHECK(config("none")["tie_word_embeddings"] == true);
    CHECK(config("quarot")["tie_word_embeddings"] == false);
  }
}

TEST_CASE("msModelSlim's quarot stores what hidden states were multiplied by, unless export_extra_info says no") {
  temporary_folder folder;
  const auto run = [&](const std::string& name, const std::string& options, const std::vector<std::string>& more = {}) {
    const std::string recipe =
        folder.write(name + ".yaml", "apiversion: modelslim_v1\nspec:\n  process:\n    - {type: quarot" + options +
                                         "}\n    - type: linear_quant\n      qconfig:\n"
                                         "        act: {scope: per_token, dtype: int8, symmetric: True, method: minmax}\n"
                                         "        weight: {scope: per_channel, dtype: int8, symmetric: True, method: minmax}\n");
    std::vector<std::string> words{"quant", "--quiet", "--model_path", model, "--save_path", folder.path(name), "--config_path", recipe};
    words.insert(words.end(), more.begin(), more.end());
    const program_result r = run_program(words);
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    CHECK(run_program({"verify", folder.path(name)}).exit_code == 0);
    return folder.path(name) + "/optional/quarot.safetensors";
  };
  const std::string path = run("whole", "");
  qlib::safetensors_file file, weights;
  REQUIRE(qlib::safetensors_file::open(path, file).empty());
  REQUIRE(file.tensors().size() == 1);
  const qlib::tensor_info& t = file.tensors().front();
  CHECK(t.name == "global_rotation");
  CHECK(t.dtype == qlib::dtype::f32);
  REQUIRE(t.shape == std::vector<std::uint64_t>{256, 256});
  const json description = json::parse(tree_of(folder.path("whole")).at("quant_model_description.json"));
  CHECK(description["optional"] == json::parse(R"({"quarot": {"rotation_map": {"global_rotation": "optional/quarot.safetensors"}}})"));
  CHECK(description["metadata"] == json::object());

  // Each stored embedding is the source's times the matrix, as far as bf16 holds it.
  qlib::safetensors_file source;
  REQUIRE(qlib::safetensors_file::open(model + "/model.safetensors", source).empty());
  REQUIRE(qlib::safetensors_file::open(folder.path("whole") + "/quant_model_weights-00001-of-00001.safetensors", weights).empty());
  const auto row_of = [](const qlib::safetensors_file& f, std::size_t row) {
    const std::span<const std::byte> bytes = f.bytes(*f.find("model.embed_tokens.weight"));
    std::vector<double> out;
    for (std::size_t c = 0; c < 256; ++c) {
      qlib::bf16 v;
      std::memcpy(&v, bytes.data() + 2 * (row * 256 + c), 2);
      out.push_back(static_cast<double>(qlib::to_float(v)));
    }
    return out;
  };
  std::vector<float> matrix(256 * 256);
  std::memcpy(matrix.data(), file.bytes(t).data(), file.bytes(t).size());
  for (const std::size_t row : {std::size_t{5}, std::size_t{4000}}) {
    const std::vector<double> before = row_of(source, row), after = row_of(weights, row);
    double error = 0, energy = 0;
    for (std::size_t c = 0; c < 256; ++c) {
      double sum = 0;
      for (std::size_t k = 0; k < 256; ++k) sum += before[k] * static_cast<double>(matrix[k * 256 + c]);
      error += (sum - after[c]) * (sum - after[c]);
      energy += sum * sum;
    }
    CHECK(error < energy * 0x1p-16);  // half a unit of bf16's 8 bits
  }

  CHECK_FALSE(std::filesystem::exists(run("none", ", export_extra_info: False")));
  CHECK(json::parse(tree_of(folder.path("none")).at("quant_model_description.json"))["optional"] == json::object());
  CHECK(weights_of(folder.path("none")) == weights_of(folder.path("whole")));
  CHECK_FALSE(std::filesystem::exists(run("ct", "", {"--format", "compressed_tensors"})));  // a format without a place for it

  qlib::safetensors_file blocks;
  REQUIRE(qlib::safetensors_file::open(run("blocks", ", block_size: 64"), blocks).empty());
  std::memcpy(matrix.data(), blocks.bytes(blocks.tensors().front()).data(), matrix.size() * sizeof(float));
  for (std::size_t r = 0; r < 256; ++r)
    for (std::size_t c = 0; c < 256; ++c) CHECK((matrix[r * 256 + c] == 0) == (r / 64 != c / 64));
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
