#pragma once
#include <qlib/format/ascend_schemes.hpp>
#include <qlib/format/verify_ascend_v1.hpp>
#include <qlib/io/file.hpp>
#include <qlib/io/python_json.ipp>
#include <qlib/model/description.hpp>
#include <qlib/model/module_name.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <set>

namespace qlib::inline v0::detail {

QLIB_INLINE void verify_json(findings& f, const std::string& file);  // verify.ipp

QLIB_INLINE ascend_type ascend_type_of(std::string_view text) {
  static constexpr std::array<std::string_view, 22> bases{"FLOAT",
                                                          "W8A8",
                                                          "W8A8S",
                                                          "W8A8SC",
                                                          "W8A8_MIX",
                                                          "W8A8_DYNAMIC",
                                                          "W8A16",
                                                          "W4A16",
                                                          "W4A8_DYNAMIC",
                                                          "W4A4_DYNAMIC",
                                                          "W8A8_MXFP8",
                                                          "W4A8_MXFP",
                                                          "W4A4_MXFP4",
                                                          "W4A16_MXFP4",
                                                          "W4A4_MXFP4_DUALSCALE",
                                                          "WFP8AFP8_DYNAMIC",
                                                          "W8A8FP8_DYNAMIC",
                                                          "W16A16S",
                                                          "W16A16SC",
                                                          "C8",
                                                          "FAQuant",
                                                          "NF4"};
  const auto is_base = [](std::string_view t) { return std::ranges::find(bases, t) != bases.end(); };
  ascend_type out{std::string{text}, {}, is_base(text)};
  for (std::string_view wrapper : {"FLATQUANT", "SVD"})
    if (const auto at = text.find("_" + std::string{wrapper}); at != std::string_view::npos && !out.known) {
      out.base.erase(at, wrapper.size() + 1);
      if (!is_base(out.base)) out.base += "_DYNAMIC";
      out.known = is_base(out.base);
      out.wrapper = wrapper;
    }
  return out;
}

/// Engines take the weights' dtype where config.json names none.
inline dtype ascend_run_dtype(const nlohmann::json& config, const weight_folder& folder) {
  for (const nlohmann::json* level : {&config, config.contains("text_config") ? &config["text_config"] : &config})
    for (const char* key : {"torch_dtype", "dtype"})
      if (level->is_object())
        if (auto it = level->find(key); it != level->end() && it->is_string()) {
          const auto name = it->get<std::string>();
          return name.ends_with("bfloat16") ? dtype::bf16 : name.ends_with("float16") ? dtype::f16 : dtype::f32;
        }
  for (const stored_tensor& t : folder.tensors())
    if (t.info.shape.size() == 2 && t.info.name.ends_with(".weight") && (t.info.dtype == dtype::bf16 || t.info.dtype == dtype::f16))
      return t.info.dtype;
  return dtype::f32;
}

/// R15, the shape of the document, and its tables.
inline void read_description(findings& f, const nlohmann::json& json, ascend_description& d) {
  const std::string& file = f.folder().description_file();
  constexpr std::string_view allowed = "_\"'><=[])(,}{:/.*~- ";
  const auto in_whitelist = [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || allowed.find(c) != std::string_view::npos;
  };
  for (const auto& [key, value] : json.items()) {
    if (key.size() > 512)
      f.add(file, key.substr(0, 40) + "...", "R15", "the key has " + std::to_string(key.size()) + " characters; msModelSlim reads at most 512");
    if (!value.is_string()) {
      if (key.ends_with(".weight")) f.add(file, key, "AV1-entry", std::string{"the entry is "} + value.type_name() + ", not the name of a type");
      continue;
    }
    const auto& text = value.get_ref<const std::string&>();
    if (!std::ranges::all_of(text, in_whitelist)) f.add(file, key, "R15", "\"" + text + "\" has characters outside of msModelSlim's whitelist");
    (key.find('.') == std::string::npos ? d.keys : d.entries).emplace(key, text);
  }
  if (!d.keys.contains("model_quant_type")) f.add(file, "model_quant_type", "AV1-key", "is missing");
  d.version_1 = d.keys.contains("version");
  if (d.version_1 && d.keys["version"] != "1.0.0") f.add(file, "version", "AV1-key", "is \"" + d.keys["version"] + "\", not \"1.0.0\"");
  if (const auto g = json.find("group_size"); g != json.end()) {
    if (g->is_number_unsigned()) d.group_size = g->get<std::uint64_t>();
    else f.add(file, "group_size", "AV1-key", "is not a whole number");
  }
}

/// Each tensor has an entry and each entry a tensor; R3, R14's stray files, and unknown types.
inline void verify_entries(findings& f, const ascend_description& d, const nlohmann::json& config) {
  const weight_folder& folder = f.folder();
  const std::string& file = folder.description_file();
  std::set<std::size_t> described;
  for (const stored_tensor& t : folder.tensors())
    if (d.type_of(t.info.name)) described.insert(t.shard);
  for (std::size_t i = 0; i < folder.weight_names().size(); ++i)
    if (!described.contains(i))
      f.add(folder.weight_names()[i], {}, "R14", "the description knows none of its tensors, but engines load every safetensors file: move it away");
  for (const stored_tensor& t : folder.tensors()) {
    const std::string& name = t.info.name;
    if (!described.contains(t.shard) || d.type_of(name)) continue;
    if (name.ends_with(".heads_rotation") || name.ends_with(".kronecker_rotation_m") || name.ends_with(".kronecker_rotation_n")) continue;
    if (name.ends_with(".weight")) f.add(t, "R3", "has no entry in " + file + ": the loader ends with KeyError");
    else f.add(t, "AV1-entry", "has no entry in " + file);
  }
  for (const auto& [name, type] : d.entries) {
    if (name.ends_with(".quant_type")) continue;
    if (!ascend_type_of(type).known) f.add(file, name, "AV1-type", "\"" + type + "\" is no quantization type");
    if (!folder.find(name) && folder.damage().empty() && !name.ends_with("rotation")) f.add(file, name, "AV1-entry", "no file stores this tensor");
  }
  const auto tied = config.is_object() ? config.find("tie_word_embeddings") : config.end();
  if (tied != config.end() && tied->is_boolean() && tied->get<bool>() && !d.type_of("lm_head.weight"))
    f.warn(file, "lm_head.weight", "R3",
           "has no entry: vllm-ascend asks for it in models whose class makes its own head although the embeddings are tied");
}

/// R4 and R6: what an engine fuses is of one type and has one input scale.
inline void verify_fusion(findings& f, const ascend_description& d, const std::vector<std::string>& modules) {
  const std::string& file = f.folder().description_file();
  std::map<std::string, std::string> type_of;
  for (const std::string& m : modules) type_of[m] = *d.type_of(m + ".weight");
  for (const fused_group& g : fused_groups(modules)) {
    const members_by_type types = types_in(g, type_of);
    if (types.size() > 1) {
      std::string all;
      for (const auto& [t, members] : types) all += (all.empty() ? "" : ", ") + t;
      if (needs_one_type(g, "ascend_v1")) f.add(file, g.name, "R4", "is fused, but its shards have the types " + all);
      else f.refused_by(engine::vllm_ascend, file, g.name, "R4", "experts have the types " + all + ", but the type of expert 0 is taken for all");
      continue;
    }
    const std::string base = ascend_type_of(types.begin()->first).base;
    if (g.experts || (base != "W8A8" && base != "W8A8_MIX" && base != "W8A8S")) continue;
    for (const char* suffix : {".input_scale", ".input_offset"}) {
      std::set<double> seen;
      for (const std::string& m : g.members)
        if (const stored_tensor* t = f.folder().find(m + suffix); t && t->info.elements() == 1)
          if (const auto v = f.values(*t); !v.empty()) seen.insert(v[0]);
      if (seen.size() > 1) {
        f.add({}, g.name, "R6",
              std::string{suffix + 1} + " differs between the shards (" + std::to_string(seen.size()) +
                  " values); the fused layer keeps the last one loaded");
        break;
      }
    }
  }
}

/// Modules that share a property: the first, and how many there are.
struct module_count {
  std::string first;
  std::size_t count = 0;

  void add(const std::string& module) {
    if (count++ == 0) first = module;
  }
  std::string more() const { return count > 1 ? " (and " + std::to_string(count - 1) + " more like it)" : ""; }
};

/// Group sizes and types that the loader decides once for the whole model; R9, R10, R13.
inline void verify_model_types(findings& f, const ascend_description& d, const std::vector<std::string>& modules) {
  const std::string& file = f.folder().description_file();
  module_count mx, w4a8, w4a8_linear, fp8;
  std::map<std::pair<std::string, bool>, module_count> strangers;
  std::vector<std::string> float_names;
  for (const std::string& m : modules) {
    const std::string& type = *d.type_of(m + ".weight");
    const std::string base = ascend_type_of(type).base;
    if (base.find("MX") != std::string::npos) mx.add(m);
    if (base == "W4A8_DYNAMIC") w4a8.add(m);
    if (base == "FLOAT") float_names.push_back(m);
    if (base == "W4A8_DYNAMIC" && !is_expert(m)) w4a8_linear.add(m);
    else if (base == "WFP8AFP8_DYNAMIC") fp8.add(m);
    else if (!has_ascend_scheme(type, is_expert(m))) strangers[{type, is_expert(m)}].add(m);
  }
  const std::string size = d.group_size ? std::to_string(*d.group_size) : "missing";
  if (mx.count && d.group_size != 32) f.add(file, "group_size", "R9", "is " + size + ", but " + mx.first + " is of an MX type: it must be 32");
  const auto refuse = [&](const std::string& subject, const char* rule, std::string why) {
    f.refused_by(engine::vllm_ascend, file, subject, rule, std::move(why));
  };
  if (w4a8.count && mx.count)
    refuse(w4a8.first + ".weight", "R9", "W4A8_DYNAMIC needs group_size 0 and " + mx.first + " needs 32: they cannot be mixed");
  if (w4a8.count && !d.group_size) refuse("group_size", "R9", "is missing: older releases assume 256 for " + w4a8.first + "; write 0");
  if (w4a8.count && !mx.count && d.group_size.value_or(0) != 0)
    refuse("group_size", "R9", "is " + size + ": W4A8_DYNAMIC per group is no longer loaded; it must be 0");
  if (w4a8_linear.count)
    refuse(w4a8_linear.first + ".weight", "R10", "W4A8_DYNAMIC is for routed experts only; use W8A8_DYNAMIC here" + w4a8_linear.more());
  if (fp8.count) refuse(fp8.first + ".weight", "R13", "WFP8AFP8_DYNAMIC is called W8A8FP8_DYNAMIC: rename the entries" + fp8.more());
  for (const auto& [key, which] : strangers)
    refuse(which.first + ".weight", "AV1-support", key.first + " has no scheme for " + (key.second ? "experts" : "linear layers") + which.more());
  // The loader takes a linear for float when any float weight's name starts with its own.
  for (const std::string& m : modules) {
    if (std::ranges::binary_search(float_names, m)) continue;
    const std::string last = m.substr(m.rfind('.') + 1);
    if (is_expert(m) || last == "q_proj" || last == "k_proj" || last == "v_proj" || last == "gate_proj" || last == "up_proj") continue;
    const auto at = std::ranges::upper_bound(float_names, m);
    if (at != float_names.end() && at->starts_with(m))
      f.refused_by(engine::vllm_ascend, file, m + ".weight", "AV1-prefix",
                   "is quantized, but taken for float because the name of " + *at + " starts with its name");
  }
}

/// Scales [heads, 1] with offsets of their shape. Queries have one a head; keys and values one a key head, and one for the compressed vector of
/// latent attention. A model that is not known keeps the number of heads it has.
inline void verify_fa_scales(findings& f, const ascend_description& d) {
  const weight_folder& folder = f.folder();
  model_description model;
  const bool known = read_model_description(folder.config_text(), "config.json", model).empty() && model.attention.heads > 0;
  const std::uint64_t heads = model.attention.heads, key_heads = model.attention.latent ? 1 : model.attention.kv_heads;
  std::set<std::string> modules;
  for (const stored_tensor& t : folder.tensors()) {
    const std::string& name = t.info.name;
    const std::size_t at = name.rfind(".fa_");
    if (at == std::string::npos || !name.ends_with(".scale")) continue;
    const std::string attention = name.substr(0, at), which = name.substr(at, 5);
    modules.insert(attention);
    const std::vector<std::uint64_t> shape = known ? std::vector<std::uint64_t>{which == ".fa_q" ? heads : key_heads, 1} : t.info.shape;
    f.check_scale(f.need(name, float_dtypes, shape));
    f.check_zero(f.need(attention + which + ".offset", {dtype::i8, dtype::f32}, shape), "AV1-value", "FA quantization is symmetric");
  }
  for (const std::string& m : modules)
    if (const auto type = d.entries.find(m + ".quant_type"); type != d.entries.end() && type->second == "INT8")
      for (const char* operand : {".fa_q", ".fa_k", ".fa_v"})
        if (!folder.find(m + operand + ".scale"))
          f.add({}, m + operand + ".scale", "AV1-missing", "is not stored, but quant_type INT8 is of queries, keys and values");
}

/// R8, R11, R12: what is not a linear.
inline void verify_attention_and_norms(findings& f, const ascend_description& d) {
  const weight_folder& folder = f.folder();
  const std::string& file = folder.description_file();
  const auto key = [&](std::string_view name) {
    const auto it = d.keys.find(name);
    return it == d.keys.end() ? std::string{} : it->second;
  };
  bool cache = false, attention = false;
  for (const stored_tensor& t : folder.tensors()) {
    const std::string& name = t.info.name;
    if (name.ends_with(".kv_cache_scale")) {
      cache = true;
      f.check_scale(f.need(name, float_dtypes, t.info.shape));
      const stored_tensor* offset =
          f.need(name.substr(0, name.size() - 5) + "offset", {dtype::f32, dtype::f16, dtype::bf16, dtype::i32, dtype::i8}, t.info.shape);
      if (offset && std::ranges::any_of(f.values(*offset), [](double v) { return v != 0; }))
        f.refused_by(engine::vllm_ascend, folder.file_of(*offset), offset->info.name, "R8",
                     "is not 0: the decode path dequantizes with the scale alone");
      const std::string other = name.ends_with(".k_proj.kv_cache_scale") ? ".v_proj.kv_cache_scale" : ".k_proj.kv_cache_scale";
      if (name.ends_with("_proj.kv_cache_scale")) {
        const std::string twin = name.substr(0, name.size() - other.size()) + other;
        if (!folder.find(twin)) f.add({}, twin, "AV1-missing", "is not stored, but its twin is");
      }
    }
    if (name.find(".fa_") != std::string::npos && name.ends_with(".scale")) {
      attention = true;
    }
    if (name.ends_with("norm.bias")) {
      const stored_tensor* weight = folder.find(name.substr(0, name.size() - 4) + "weight");
      if (!weight) f.add(t, "R11", "there is no such norm: a bias switches biases on for every RMSNorm of the model");
      else if (weight->info.shape != t.info.shape) f.add(t, "R11", "is " + shape_text(t.info.shape) + ", its norm " + shape_text(weight->info.shape));
    }
    if (name.ends_with(".heads_rotation") || name.ends_with(".kronecker_rotation_m"))
      f.refused_by(engine::vllm_ascend, folder.file_of(t), name, "AV1-support", "online rotations are unknown");
  }
  if (attention) verify_fa_scales(f, d);
  if (cache)
    for (const char* name : {"kv_cache_type", "kv_quant_type"})
      if (key(name) != "C8")
        f.add(file, name, "AV1-kv", key(name).empty() ? "is missing; key-value scales need \"C8\"" : "is \"" + key(name) + "\", not \"C8\"");
  if (!cache && !key("kv_cache_type").empty())
    f.add(file, "kv_cache_type", "AV1-kv", "is \"" + key("kv_cache_type") + "\", but no kv_cache_scale is stored");
  if ((attention || !key("fa_quant_type").empty()) && key("fa_quant_type") != "FAKQuant")
    f.refused_by(
        engine::vllm_ascend, file, "fa_quant_type", "R12",
        key("fa_quant_type").empty() ? "is missing; fa_* scales need \"FAKQuant\"" : "is \"" + key("fa_quant_type") + "\", not \"FAKQuant\"");
}

/// The file of `optional.quarot`: one square matrix of the hidden size, whose rows have length 1 and, one and the next, are orthogonal.
inline void verify_rotation(findings& f, const std::string& name, const std::string& path, const nlohmann::json& config) {
  safetensors_file file;
  if (errors found = safetensors_file::open(f.folder().directory() + "/" + path, file); !found.empty()) {
    for (const error& e : found) f.add(path, e.subject, "FILE-damaged", e.problem);
    return;
  }
  const tensor_info* t = file.find(name);
  if (!t) return f.add(path, name, "AV1-missing", "is not stored, but " + f.folder().description_file() + " says that it is");
  if (std::ranges::find(float_dtypes, t->dtype) == std::end(float_dtypes))
    return f.add(path, name, "AV1-dtype", "is " + std::string{name_of(t->dtype)} + ", not a float");
  std::uint64_t width = t->shape.empty() ? 0 : t->shape.front();
  for (const nlohmann::json* level : {&config, config.contains("text_config") ? &config["text_config"] : &config})
    if (level->is_object())
      if (const auto hidden = level->find("hidden_size"); hidden != level->end() && hidden->is_number_unsigned())
        width = hidden->get<std::uint64_t>();
  const shape_list wanted{width, width};
  if (t->shape != wanted) return f.add(path, name, "AV1-shape", "is " + shape_text(t->shape) + ", not " + shape_text(wanted));
  std::vector<double> row(width), before(width);
  const std::size_t row_bytes = width * bits_of(t->dtype) / 8;
  for (std::size_t r = 0; r < width; ++r) {
    row.swap(before);
    for_each_value(t->dtype, file.bytes(*t).subspan(r * row_bytes, row_bytes), [&](std::size_t c, double v) { row[c] = v; });
    double length = 0, product = 0;
    for (std::size_t c = 0; c < width; ++c) length += row[c] * row[c], product += r > 0 ? row[c] * before[c] : 0;
    if (!(std::abs(length - 1) < 0.01 && std::abs(product) < 0.01))  // bf16 rounds by 2^-9
      return f.add(path, name, "AV1-value", "row " + std::to_string(r) + " is not that of a rotation");
  }
}

QLIB_INLINE void verify_ascend_v1(findings& f) {
  const weight_folder& folder = f.folder();
  const std::string& file = folder.description_file();
  const bool for_mindie = f.for_engine(engine::mindie) || file != "quant_model_description.json";
  if (file != "quant_model_description.json")
    f.refused_by(engine::vllm_ascend, file, {}, "R1", "is not found: the name must be quant_model_description.json");
  verify_json(f, file);
  const auto text = read_text_file(folder.directory() + "/" + file);
  const nlohmann::json json = text ? nlohmann::json::parse(*text, nullptr, false) : nlohmann::json{};
  if (!json.is_object()) {
    if (!json.is_discarded()) f.add(file, {}, "FILE-json", "is not a JSON object");
    return;
  }
  const nlohmann::json config = parse_python_json(folder.config_text());
  if (config.is_object()) {
    const auto left = [&](const nlohmann::json& part) { return part.is_object() && part.contains("quantization_config"); };
    if (!for_mindie && (left(config) || (config.contains("text_config") && left(config["text_config"]))))
      f.add("config.json", "quantization_config", "R2", "is still there: without quant_method it hides " + file);
    if (f.for_engine(engine::mindie) && !config.contains("quantize"))
      f.warn("config.json", "quantize", "MINDIE-quantize", "is missing: MindIE releases before the description file need it");
  }

  ascend_description d;
  read_description(f, json, d);
  verify_entries(f, d, config);
  if (folder.has_file("model.safetensors.index.json")) {
    std::set<std::string> named;
    if (auto index = read_text_file(folder.directory() + "/model.safetensors.index.json"))
      if (const auto j = nlohmann::json::parse(*index, nullptr, false); j.is_object() && j.contains("weight_map") && j["weight_map"].is_object())
        for (const auto& [tensor, holder] : j["weight_map"].items())
          if (holder.is_string()) named.insert(holder.get<std::string>());
    for (const std::string& weights : folder.weight_names())
      if (!named.contains(weights)) f.add(weights, {}, "R14", "model.safetensors.index.json does not name this file: vLLM does not load it");
  }
  const auto optional = nlohmann::json::json_pointer{"/optional/quarot/rotation_map"};
  if (json.contains(optional) && json[optional].is_object())
    for (const auto& [name, path] : json[optional].items()) {
      std::error_code code;
      if (!path.is_string() || !std::filesystem::is_regular_file(folder.directory() + "/" + path.get<std::string>(), code))
        f.add(file, "optional.quarot." + name, "AV1-optional", "names " + path.dump() + ", which does not exist");
      else verify_rotation(f, name, path.get<std::string>(), config);
    }

  const dtype run = config.is_object() ? ascend_run_dtype(config, folder) : dtype::f32;
  std::vector<std::string> modules;
  for (const auto& [name, type] : d.entries) {
    if (!name.ends_with(".weight") || !ascend_type_of(type).known) continue;
    std::string module = name.substr(0, name.size() - 7);
    if (module.find("norm") != std::string::npos && module.ends_with(".module")) continue;  // the legacy saver's copy of a norm
    const stored_tensor* weight = folder.find(name);
    if (weight && ascend_type_of(type).base == "FLOAT" && std::ranges::find(float_dtypes, weight->info.dtype) == std::end(float_dtypes))
      f.add(*weight, "AV1-dtype", "is " + std::string{name_of(weight->info.dtype)} + ", but its entry says " + type);
    modules.push_back(std::move(module));
  }
  std::ranges::sort(modules);
  verify_fusion(f, d, modules);
  verify_model_types(f, d, modules);
  verify_attention_and_norms(f, d);
  for (const std::string& m : modules) {
    const std::string& type = *d.type_of(m + ".weight");
    if (type != "FLOAT" && folder.find(m + ".weight")) verify_ascend_linear(f, d, m, type, for_mindie ? dtype::f64 : run);
  }
}

}  // namespace qlib::inline v0::detail
