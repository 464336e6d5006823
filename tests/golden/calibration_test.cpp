/// Static activations against checkpoints that LLM-Compressor 0.14.0.1 and msModelSlim 26.1.0 wrote from the same float weights and ids.
#include "../program/run_program.hpp"
#include "quantized_folder.hpp"

#include <nlohmann/json.hpp>

#include <cmath>

using namespace qlib_test;
using nlohmann::json;

namespace {

const std::string here = QLIB_SOURCE_DIR "/tests/golden/calibration/", sources = QLIB_SOURCE_DIR "/tests/golden/data/sources/";

/// What the program writes of a model.
struct static_case {
  temporary_folder folder;
  tensor_set ours, theirs;

  static_case(const std::string& name, const std::string& model, const std::string& recipe, const std::string& compat, const std::string& file) {
    const std::string out = folder.path("out");
    const program_result r = run_program({"quant", "--quiet", "--model_path", model, "--save_path", out, "--config_path", recipe, "--calib_ids",
                                          here + name + "/calib_ids.safetensors", "--compat", compat, "--reproducible"});
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    ours.open(out + "/" + file);
    theirs.open(here + name + "/" + file);
  }

  std::string written(const std::string& name) const {
    std::ifstream in{folder.path("out") + "/" + name};
    return {std::istreambuf_iterator<char>{in}, {}};
  }

  /// Everything but the calibrated numbers: names, dtypes, shapes, and the bytes of what does not depend on activations.
  void check_layout(std::initializer_list<std::string_view> calibrated) {
    CHECK(ours.names().size() == theirs.names().size());
    for (const auto& [name, file] : theirs.names()) {
      if (!ours.contains(name)) {
        FAIL_CHECK("no " << name);
        continue;
      }
      CHECK_MESSAGE(ours.info(name).dtype == theirs.info(name).dtype, name);
      CHECK_MESSAGE(ours.info(name).shape == theirs.info(name).shape, name);
      const bool found = std::any_of(calibrated.begin(), calibrated.end(), [&](std::string_view tail) { return name.ends_with(tail); });
      if (!found) CHECK_MESSAGE(std::ranges::equal(ours.bytes(name), theirs.bytes(name)), name);
    }
  }
};

double relative(float a, float b) { return std::abs(static_cast<double>(a) - b) / std::abs(static_cast<double>(b)); }

}  // namespace

TEST_CASE("an f32 model's static int8 scales are LLM-Compressor's, up to the order of sums in its products") {
  const std::string name = "w8a8_static_tensor_qwen3_f32";
  static_case c{name, here + "qwen3", here + name + "/recipe.yaml", "llmcompressor", "model.safetensors"};
  c.check_layout({".input_scale"});
  for (const auto& [tensor, file] : c.theirs.names())
    // Sums of at most 128 products differ by 128 * 2^-24 of their magnitude in the worst case; 16 layers of them, typically far less.
    if (tensor.ends_with(".input_scale")) CHECK_MESSAGE(relative(c.ours.floats(tensor)[0], c.theirs.floats(tensor)[0]) < 0x1p-20, tensor);
}

TEST_CASE("inputs that mse observes have LLM-Compressor's scales and zero points") {
  const std::string name = "w8a8_static_tensor_qwen3_f32";
  static_case c{name, here + "qwen3", here + name + "/mse_recipe.yaml", "llmcompressor", "model.safetensors"};
  const json theirs = json::parse(std::ifstream{here + name + "/mse_inputs.json"});
  CHECK(theirs.size() == 28);
  for (const auto& [tensor, value] : theirs.items()) {
    REQUIRE_MESSAGE(c.ours.contains(tensor), tensor);
    if (tensor.ends_with("_zero_point")) {
      CHECK_MESSAGE(static_cast<int>(c.ours.bytes(tensor)[0]) == (value.get<int>() & 0xff), tensor);
      continue;
    }
    CHECK_MESSAGE(relative(c.ours.floats(tensor)[0], value) < 0x1p-20, tensor);
  }
}

TEST_CASE("a bf16 model's static fp8 scales are LLM-Compressor's, up to the rounding of its activations to bf16") {
  const std::string name = "fp8_static_llama128";
  static_case c{name, sources + "llama128", here + name + "/recipe.yaml", "llmcompressor", "model.safetensors"};
  c.check_layout({".input_scale"});
  std::size_t equal = 0, all = 0;
  for (const auto& [tensor, file] : c.theirs.names())
    if (tensor.ends_with(".input_scale")) {
      const float ours = c.ours.floats(tensor)[0], theirs = c.theirs.floats(tensor)[0];
      CHECK_MESSAGE(relative(ours, theirs) <= 2 * 0x1p-7, tensor);  // they round every activation to 8 bits, we compute in f32
      equal += ours == theirs;
      ++all;
    }
  CHECK(all == 14);
  CHECK(equal >= all / 2);
}

TEST_CASE("static W8A8 has msModelSlim's tensors and description, and its numbers where nothing quantized came before") {
  const std::string name = "s_w8a8_static_minmax";
  temporary_folder recipe;
  const std::string yaml = recipe.write("recipe.yaml",
                                        "apiversion: modelslim_v1\nspec:\n  process:\n    - type: linear_quant\n      qconfig:\n"
                                        "        act: {scope: per_tensor, dtype: int8, symmetric: false, method: minmax}\n"
                                        "        weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}\n"
                                        "      exclude: ['*down_proj']\n  save: [{type: ascendv1_saver, part_file_size: 4}]\n");
  static_case c{name, here + "qwen3_s", yaml, "msmodelslim", "quant_model_weights-00001-of-00001.safetensors"};
  c.check_layout({".input_scale", ".input_offset", ".deq_scale", ".quant_bias"});
  std::ifstream theirs{here + name + "/quant_model_description.json"};
  CHECK(json::parse(c.written("quant_model_description.json")) == json::parse(theirs));
  // It quantizes activations while it calibrates, so behind the first attention its ranges are those of another model (docs/accuracy.md).
  for (const char* linear : {"q_proj", "k_proj", "v_proj"})
    for (const char* tail : {".input_scale", ".input_offset", ".deq_scale", ".quant_bias", ".weight"}) {
      const std::string tensor = std::string{"model.layers.0.self_attn."} + linear + tail;
      CHECK_MESSAGE(std::ranges::equal(c.ours.bytes(tensor), c.theirs.bytes(tensor)), tensor);
    }
}
