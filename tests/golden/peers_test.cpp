/// Against checkpoints that LLM-Compressor 0.14.0.1 and msModelSlim 26.1.0 wrote from the same float weights (README.md lists them).
#include "quantized_folder.hpp"

#include <qlib/io/file.hpp>
#include <qlib/recipe/flags.hpp>
#include <qlib/recipe/yaml.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

using namespace qlib_test;
using nlohmann::json;

namespace {

const std::string data = QLIB_SOURCE_DIR "/tests/golden/data/";

struct peer_case {
  std::string name, source;      ///< folders in data/llmcompressor or data/msmodelslim, and in data/sources
  std::string weights;           ///< the peer's file
  qlib::quant_flags flags = {};  ///< of msModelSlim's cases; the others have a recipe.yaml
  bool modelslim() const { return !flags.quant_type.empty(); }
  std::string folder() const { return data + (modelslim() ? "msmodelslim/" : "llmcompressor/") + name; }
};

std::vector<peer_case> cases() {
  std::vector<peer_case> all;
  for (const auto& [name, source] : {std::pair{"fp8_dynamic_llama128", "llama128"},
                                     {"w4a16_g32_asym_llama128", "llama128"},
                                     {"w4a16_g32_sym_llama128", "llama128"},
                                     {"w8a8_dynamic_llama128", "llama128"},
                                     {"w4a16_preset_g128_llama256", "llama256"},
                                     {"w8a16_preset_g128_llama256", "llama256"},
                                     {"fp8_dynamic_qwen3moe_f32", "qwen3_moe"},
                                     {"w4a16_g32_sym_qwen3moe_f32", "qwen3_moe"},
                                     {"w8a8_dynamic_qwen3moe_f32", "qwen3_moe"},
                                     {"w8a8_dynamic_llama_f32", "llama"}})
    all.push_back({name, source, "model.safetensors"});
  all.push_back({"s_w8a16", "qwen2_s", "quant_model_weights-00001-of-00001.safetensors", {.quant_type = "w8a16"}});
  all.push_back({"s_w8a8_dynamic", "qwen3_s", "quant_model_weights-00001-of-00001.safetensors", {.quant_type = "w8a8_dynamic"}});
  all.push_back({"sv0_w4a16_g64", "qwen3_s", "quant_model_weight_w4a16.safetensors", {.quant_type = "w4a16", .group_size = 64}});
  return all;
}

void quantize(const peer_case& c, bool as_the_peer, quantized_folder& out) {
  qlib::recipe recipe;
  qlib::errors found;
  if (c.modelslim()) {
    found = qlib::recipe_from_flags(c.flags, recipe);
  } else {
    const auto text = qlib::read_text_file(c.folder() + "/recipe.yaml");
    REQUIRE(text);
    found = qlib::parse_recipe(*text, "recipe.yaml", recipe);
  }
  REQUIRE_MESSAGE(found.empty(), text_of(found));
  const qlib::compat follow = !as_the_peer ? qlib::compat::none : c.modelslim() ? qlib::compat::msmodelslim : qlib::compat::llmcompressor;
  out.quantize(data + "sources/" + c.source, recipe, c.modelslim() ? "ascend_v1" : "compressed_tensors", follow);
}

json read_json(const std::string& path) {
  const auto text = qlib::read_text_file(path);
  REQUIRE_MESSAGE(text, (text ? std::string{} : text.error().text()));
  return json::parse(*text);
}

std::set<std::string> keys_of(const json& object) {
  std::set<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.insert(key);
  return keys;
}

}  // namespace

TEST_CASE("with --compat every tensor has the peer's name, dtype, shape and bytes, and there is no other") {
  for (const peer_case& c : cases()) {
    CAPTURE(c.name);
    quantized_folder ours;
    quantize(c, true, ours);
    tensor_set peer;
    peer.open(c.folder() + "/" + c.weights);
    for (const auto& tensor : peer.names()) {
      const std::string& name = tensor.first;
      CAPTURE(name);
      REQUIRE(ours.out.contains(name));
      CHECK(qlib::name_of(ours.out.info(name).dtype) == qlib::name_of(peer.info(name).dtype));
      CHECK(ours.out.info(name).shape == peer.info(name).shape);
      const auto a = ours.out.bytes(name), b = peer.bytes(name);
      CHECK(std::equal(a.begin(), a.end(), b.begin(), b.end()));
    }
    for (const auto& tensor : ours.out.names()) CHECK_MESSAGE(peer.contains(tensor.first), tensor.first << " is ours only");
  }
}

TEST_CASE("config.json says what LLM-Compressor's says, and keeps every other key of the source") {
  for (const peer_case& c : cases()) {
    CAPTURE(c.name);
    quantized_folder ours;
    quantize(c, true, ours);
    json config = json::parse(ours.read("config.json"));
    if (!c.modelslim()) CHECK(config["quantization_config"] == read_json(c.folder() + "/config.json")["quantization_config"]);
    config.erase("quantization_config");
    CHECK(config == read_json(data + "sources/" + c.source + "/config.json"));
  }
}

TEST_CASE("quant_model_description.json has msModelSlim's keys and values") {
  for (const peer_case& c : cases()) {
    if (!c.modelslim()) continue;
    CAPTURE(c.name);
    quantized_folder ours;
    quantize(c, true, ours);
    json description = json::parse(ours.read("quant_model_description.json"));
    const json peer = read_json(c.folder() + "/quant_model_description.json");
    // The older interface (cases sv0_*) wrote no "metadata" and no "optional"; readers accept both, and the newer one always has them.
    if (c.name.starts_with("sv0_"))
      for (const char* key : {"metadata", "optional"}) {
        CHECK_FALSE(peer.contains(key));
        CHECK(description.erase(key) == 1);
      }
    CHECK(keys_of(description) == keys_of(peer));
    CHECK(description == peer);
  }
}

TEST_CASE("without --compat no weight is farther from its source than the peer's") {
  for (const peer_case& c : cases()) {
    CAPTURE(c.name);
    quantized_folder ours;
    quantize(c, false, ours);
    tensor_set peer;
    peer.open(c.folder() + "/" + c.weights);
    std::size_t weights = 0;
    for (const qlib::work_item& item : ours.plan.items) {
      if (!item.encoding) continue;
      ++weights;
      const qlib::stored_tensor& t = ours.source.tensors()[item.source.tensor];
      const std::vector<float> x = floats_of(t.info.dtype, ours.source.bytes(t));
      const decoded_weight a = decode(ours.plan, item, ours.out), b = decode(ours.plan, item, peer);
      REQUIRE(x.size() == a.values.size());
      // Both sums are over the same elements in the same order in f64, so equal codes give equal sums: no slack is needed.
      double our_error = 0, peer_error = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double da = static_cast<double>(x[i]) - a.values[i], db = static_cast<double>(x[i]) - b.values[i];
        our_error += da * da;
        peer_error += db * db;
      }
      INFO(item.name << ": ours " << our_error << ", the peer's " << peer_error << ", ratio - 1 = " << our_error / peer_error - 1);
      CHECK(our_error <= peer_error);
    }
    CHECK(weights == ours.plan.quantized);
    CHECK(weights > 0);
  }
}
