/// A checkpoint in memory whose every part can be broken before it is written.
#pragma once
#include "../io/temporary_folder.hpp"

#include <qlib/format/weight_folder.hpp>
#include <qlib/io/checkpoint.hpp>
#include <qlib/io/safetensors.hpp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/run.hpp>
#include <qlib/recipe/flags.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace qlib_test {

using nlohmann::json;

struct mini_checkpoint {
  struct tensor {
    qlib::dtype type = qlib::dtype::f32;
    std::vector<std::uint64_t> shape;
    std::string bytes;
  };

  std::string weights_file = "model.safetensors";
  std::map<std::string, tensor> tensors;
  std::map<std::string, json> documents;   ///< by file name
  std::map<std::string, std::string> raw;  ///< files written last, as they are

  json& config() { return documents["config.json"]; }
  json& quantization() { return config()["quantization_config"]; }
  json& description() { return documents["quant_model_description.json"]; }
  json& index() { return documents["quant_model_weights.safetensors.index.json"]; }

  /// A tensor whose elements are all `value`; codes of a weight may be anything, so 1 serves.
  template <class T>
  tensor& add(const std::string& name, qlib::dtype type, std::vector<std::uint64_t> shape, T value) {
    tensor t{type, std::move(shape), {}};
    std::uint64_t n = 1;
    for (std::uint64_t d : t.shape) n *= d;
    for (std::uint64_t i = 0; i < n; ++i) t.bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    REQUIRE(sizeof value * 8 == qlib::bits_of(type));
    return tensors[name] = std::move(t);
  }

  /// Element i of a tensor of T.
  template <class T>
  void set(const std::string& name, std::size_t i, T value) {
    REQUIRE(tensors.contains(name));
    std::memcpy(tensors[name].bytes.data() + i * sizeof value, &value, sizeof value);
  }

  void rename(const std::string& from, const std::string& to) {
    REQUIRE(tensors.contains(from));
    tensors[to] = std::move(tensors[from]);
    tensors.erase(from);
  }

  std::uint64_t bytes() const {
    std::uint64_t sum = 0;
    for (const auto& [name, t] : tensors) sum += t.bytes.size();
    return sum;
  }

  /// The index names every tensor there is, and its size.
  void refresh_index(const std::string& file) {
    json& j = documents[file] = json::object();
    j["metadata"]["total_size"] = bytes();
    for (const auto& [name, t] : tensors) j["weight_map"][name] = weights_file;
  }

  static std::string file_text(const std::map<std::string, tensor>& tensors) {
    std::vector<qlib::tensor_info> infos;
    std::string data;
    for (const auto& [name, t] : tensors) {
      infos.push_back({name, t.type, t.shape, 0, 0});
      data += t.bytes;
    }
    REQUIRE(qlib::assign_offsets(infos));
    auto text = qlib::serialize_safetensors_header(infos);
    REQUIRE(text);
    return *text + data;
  }

  void write(const temporary_folder& folder) const {
    if (!tensors.empty()) folder.write(weights_file, file_text(tensors));
    for (const auto& [name, j] : documents)
      if (!j.is_null()) folder.write(name, j.dump(1));
    for (const auto& [name, text] : raw) folder.write(name, text);
  }

  /// A directory that another tool, or this library, wrote.
  static mini_checkpoint read(const std::string& directory) {
    mini_checkpoint c;
    qlib::weight_folder folder;
    REQUIRE(qlib::weight_folder::open(directory, folder).empty());
    REQUIRE(folder.weights().size() == 1);
    c.weights_file = folder.weight_names()[0];
    for (const qlib::stored_tensor& t : folder.tensors())
      c.tensors[t.info.name] = {t.info.dtype, t.info.shape, std::string{as_text(folder.bytes(t))}};
    for (const std::string& name : folder.files()) {
      std::ifstream in{directory + "/" + name};
      if (name.ends_with(".json")) c.documents[name] = json::parse(in);
    }
    return c;
  }
};

/// A float model of one block: hidden and intermediate size 64, 32 key channels, two experts when asked for.
inline mini_checkpoint tiny_model(qlib::dtype type = qlib::dtype::bf16, bool experts = false) {
  mini_checkpoint c;
  c.config() = {{"model_type", experts ? "qwen3_moe" : "llama"},
                {"torch_dtype", type == qlib::dtype::bf16 ? "bfloat16" : "float16"},
                {"num_hidden_layers", 1},
                {"tie_word_embeddings", false}};
  const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape) {
    const std::uint16_t one = type == qlib::dtype::bf16 ? qlib::to_bf16(0.5f).bits : qlib::to_f16(0.5f).bits;
    c.add(name, type, std::move(shape), one);
  };
  add("model.embed_tokens.weight", {32, 64});
  add("model.norm.weight", {64});
  add("lm_head.weight", {32, 64});
  const std::string layer = "model.layers.0.";
  add(layer + "input_layernorm.weight", {64});
  add(layer + "post_attention_layernorm.weight", {64});
  for (const auto& [name, rows] : {std::pair{"q_proj", 64}, {"k_proj", 32}, {"v_proj", 32}, {"o_proj", 64}})
    add(layer + "self_attn." + name + ".weight", {static_cast<std::uint64_t>(rows), 64});
  if (experts) add(layer + "mlp.gate.weight", {2, 64});
  for (int e = 0; e < (experts ? 2 : 1); ++e)
    for (const char* name : {"gate_proj", "up_proj", "down_proj"})
      add(layer + (experts ? "mlp.experts." + std::to_string(e) + "." : "mlp.") + name + ".weight", {64, 64});
  return c;
}

/// What this library makes of it.
inline mini_checkpoint quantized(const mini_checkpoint& source, const std::string& type, std::string_view format, std::size_t group_size = 0,
                                 bool symmetric = true) {
  temporary_folder in, out;
  source.write(in);
  qlib::checkpoint model;
  qlib::model_layout layout;
  qlib::recipe recipe;
  qlib::quantization_plan plan;
  qlib::quant_flags flags;
  flags.quant_type = type;
  flags.group_size = group_size;
  if (!symmetric) flags.w_sym = false;
  REQUIRE(qlib::checkpoint::open(in.path(), model).empty());
  REQUIRE(qlib::read_model_layout(model, layout).empty());
  REQUIRE(qlib::recipe_from_flags(flags, recipe).empty());
  qlib::plan_options options;
  options.format = qlib::registry::formats::find(format).value();
  REQUIRE(qlib::make_plan(model, layout, recipe, options, plan).empty());
  qlib::run_options run;
  run.save_path = out.path("q");
  REQUIRE(qlib::run_plan(model, plan, run));
  return mini_checkpoint::read(out.path("q"));
}

}  // namespace qlib_test
