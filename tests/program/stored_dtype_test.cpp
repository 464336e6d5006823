/// What outlier suppression stores stays inside its dtype: the channels of a float16 model whose gate is nearly shut want scales that f16 rows and
/// biases cannot be divided by.
#include "checkpoint_bytes.hpp"
#include "run_program.hpp"

#include <nlohmann/json.hpp>
#include <qlib/core/convert.hpp>
#include <qlib/io/checkpoint.hpp>

#include <cmath>

using namespace qlib_test;
using nlohmann::json;

namespace {

constexpr std::size_t shut = 9;  // the row of gate_proj

constexpr std::string_view config = R"({"model_type": "llama", "torch_dtype": "float16", "hidden_size": 64, "intermediate_size": 96,
  "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 48, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
  "mlp_bias": true, "tie_word_embeddings": false})";

void make_f16(tensor_bytes& t, float factor) {
  t.dtype = "F16";
  for (std::size_t i = 0; i < t.bytes.size(); i += 2) {
    qlib::bf16 v{};
    std::memcpy(&v.bits, t.bytes.data() + i, 2);
    const qlib::f16 h = qlib::to_f16(qlib::to_float(v) * factor);
    std::memcpy(t.bytes.data() + i, &h.bits, 2);
  }
}

tensor_bytes f16_vector(const std::string& name, std::size_t count, float value) {
  tensor_bytes t{name, "F16", {count}, std::string(count * 2, '\0')};
  const qlib::f16 h = qlib::to_f16(value);
  for (std::size_t i = 0; i < count; ++i) std::memcpy(t.bytes.data() + i * 2, &h.bits, 2);
  return t;
}

std::string write_shut_model(const temporary_folder& folder) {
  std::vector<tensor_bytes> tensors = llama_tensors();
  for (tensor_bytes& t : tensors) make_f16(t, t.name.find("norm") == std::string::npos ? 0.25f : 1.0f);
  for (const char* layer : {"model.layers.0.mlp.", "model.layers.1.mlp."}) {
    tensor_bytes gate = f16_vector(std::string{layer} + "gate_proj.bias", 96, 0), up = f16_vector(std::string{layer} + "up_proj.bias", 96, 1.5f);
    const qlib::f16 low = qlib::to_f16(-60.0f);
    std::memcpy(gate.bytes.data() + shut * 2, &low.bits, 2);
    tensors.push_back(std::move(gate));
    tensors.push_back(std::move(up));
    tensors.push_back(f16_vector(std::string{layer} + "down_proj.bias", 64, 0));
  }
  return write_model(folder, "model", tensors, config);
}

std::string write_ids(const temporary_folder& folder) {
  tensor_bytes ids{"ids", "I32", {4, 32}, std::string(4 * 32 * 4, '\0')};
  for (std::int32_t i = 0; i < 4 * 32; ++i) {
    const std::int32_t id = i * 29 % 48;
    std::memcpy(ids.bytes.data() + i * 4, &id, 4);
  }
  return folder.write("ids.safetensors", safetensors_bytes({ids}));
}

void check_finite(const std::string& out) {
  qlib::checkpoint stored;
  const qlib::errors bad = qlib::checkpoint::open(out, stored);
  REQUIRE_MESSAGE(bad.empty(), (bad.empty() ? "" : bad.front().text()));
  for (const qlib::stored_tensor& t : stored.tensors()) {
    CAPTURE(t.info.name);
    const auto bytes = stored.bytes(t);
    for (std::size_t i = 0; i + 4 <= bytes.size() && t.info.dtype == qlib::dtype::f32; i += 4) {
      float v;
      std::memcpy(&v, bytes.data() + i, 4);
      REQUIRE(std::isfinite(v));
    }
    for (std::size_t i = 0; i + 2 <= bytes.size() && t.info.dtype == qlib::dtype::f16; i += 2) {
      qlib::f16 v{};
      std::memcpy(&v.bits, bytes.data() + i, 2);
      REQUIRE(std::isfinite(qlib::to_float(v)));
    }
  }
}

}  // namespace

TEST_CASE("scales that would take rows or biases out of float16 are clamped and named, and what is written is finite") {
  temporary_folder folder;
  const std::string model = write_shut_model(folder), ids = write_ids(folder);
  // All quantized; up_proj stays float, so that its rows are stored divided.
  for (const std::vector<std::string>& targets : {std::vector<std::string>{}, {"--targets", "re:.*(o|down)_proj"}})
    for (const char* method : {"m4", "m6", "outlier_suppression_lite"}) {
      CAPTURE(method);
      const std::string out = folder.path("out");
      std::vector<std::string> words{
          "quant",        "--model_path", model,    "--save_path",   out,   "--format", "compressed_tensors", "--calib_ids", ids,
          "--quant_type", "w8a8",         "--json", "--anti_method", method};
      words.insert(words.end(), targets.begin(), targets.end());
      const program_result r = run_program(words);
      REQUIRE_MESSAGE(r.exit_code == 0, r.err);
      const std::string named = "model.layers.0.mlp.up_proj: 1 scales are clamped, what is stored would have left its dtype: channel 9";
      CHECK_MESSAGE(r.err.find(named) != std::string::npos, r.err);
      bool listed = false;
      const json report = json::parse(r.out);
      for (const json& g : report["subgraphs"])
        if (g["source"] == "model.layers.1.mlp.up_proj") {
          CHECK(g["limited_channels"] == 1);
          CHECK(g["first_limited_channels"] == json{shut});
          CHECK(g["smallest_scale"].get<double>() > 1e-5);
          listed = true;
        }
      CHECK(listed);
      check_finite(out);
      const program_result seen = run_program({"eval", "--quiet", "--json", "--model_path", out, "--reference", model, "--ids", ids});
      REQUIRE_MESSAGE(seen.exit_code == 0, seen.err);
      CHECK(json::parse(seen.out)["kl"].get<double>() < 0.1);
      std::filesystem::remove_all(out);
    }
}

TEST_CASE("a sub-graph that one token came to is not rescaled, and no channel of it is called constant") {
  temporary_folder folder;
  const std::string model = write_shut_model(folder);
  tensor_bytes one{"ids", "I32", {1, 1}, std::string(4, '\0')};
  const std::string ids = folder.write("one.safetensors", safetensors_bytes({one}));
  const program_result r = run_program({"quant", "--model_path", model, "--save_path", folder.path("out"), "--format", "compressed_tensors",
                                        "--calib_ids", ids, "--quant_type", "w8a8", "--anti_method", "m4", "--json"});
  REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  CHECK_MESSAGE(r.err.find("8 of 8 sub-graphs are not rescaled: fewer than two tokens of the calibration data came to them") != std::string::npos,
                r.err);
  CHECK(r.err.find("never change") == std::string::npos);
  const json report = json::parse(r.out);
  CHECK(report["subgraphs"].size() == 8);
  for (const json& g : report["subgraphs"]) {
    CHECK(g["unseen"] == true);
    CHECK(g["kept"] == false);
  }
}

TEST_CASE("a shift that needs biases which the format's readers drop is refused") {
  temporary_folder folder;
  const std::string model = write_shut_model(folder), ids = write_ids(folder), out = folder.path("out");
  const std::string recipe = folder.write("shift.yaml",
                                          "apiversion: modelslim_v1\nspec:\n  process:\n    - {type: smooth_quant, symmetric: false}\n"
                                          "    - type: linear_quant\n      qconfig:\n"
                                          "        act: {scope: per_token, dtype: int8, symmetric: True, method: minmax}\n"
                                          "        weight: {scope: per_channel, dtype: int8, symmetric: True, method: minmax}\n");
  const std::vector<std::string> words{"quant", "--model_path", model, "--save_path", out, "--calib_ids", ids, "--config_path", recipe};
  std::vector<std::string> ct = words;
  ct.insert(ct.end(), {"--format", "compressed_tensors"});
  check_refused(folder.path(), ct, {{"input_layernorm.bias: a shift needs a bias here", "set symmetric: true"}});
  const program_result r = run_program(words);  // AscendV1 has norm biases; those of dynamic linears are not part of anything
  CHECK_MESSAGE(r.err.find("linears without a bias get one from a shift") != std::string::npos, r.err);
}
