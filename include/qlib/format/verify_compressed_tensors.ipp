#pragma once
#include <qlib/format/verify_compressed_tensors.hpp>
#include <qlib/model/module_name.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <set>

namespace qlib::inline v0::detail {

/// A module that stores a matrix, and what the configuration makes of it.
struct covered_module {
  std::string name;
  bool linear = false;     ///< by its name
  bool quantized = false;  ///< by its tensors
  const stored_scheme* scheme = nullptr;
};

QLIB_INLINE std::vector<covered_module> covered_modules(const weight_folder& folder, const stored_config& config) {
  std::map<std::string, covered_module> found;
  for (const stored_tensor& t : folder.tensors()) {
    const std::string& name = t.info.name;
    const bool packed = name.ends_with(".weight_packed");
    if (!packed && !(name.ends_with(".weight") && t.info.shape.size() == 2)) continue;
    covered_module& m = found[name.substr(0, name.rfind('.'))];
    const bool is_float = t.info.dtype == dtype::f32 || t.info.dtype == dtype::f16 || t.info.dtype == dtype::bf16;
    m.quantized = m.quantized || packed || !is_float;
  }
  std::vector<covered_module> out;
  for (auto& [name, m] : found) {
    m.name = name;
    m.quantized = m.quantized || folder.find(name + ".weight_scale") != nullptr;
    m.linear = is_linear_name(name);
    m.scheme = config.scheme_of(name, m.linear ? "Linear" : "Embedding");
    out.push_back(std::move(m));
  }
  return out;
}

/// Shards that an engine fuses have one scheme; NVFP4 shards one global scale.
QLIB_INLINE void verify_fused_schemes(findings& f, const std::vector<covered_module>& modules, const std::string& file) {
  std::map<std::string, std::string> types;
  std::vector<std::string> names;
  for (const covered_module& m : modules)
    if (m.linear) {
      types[m.name] = m.quantized && m.scheme ? type_text(*m.scheme) : "FLOAT";
      names.push_back(m.name);
    }
  for (const fused_group& g : fused_groups(names)) {
    const members_by_type seen = types_in(g, types);
    if (seen.size() > 1) {
      std::string all;
      for (const auto& [t, members] : seen) all += (all.empty() ? "" : ", ") + t;
      f.add(file, g.name, "CT-fused", std::string{g.experts ? "is one fused layer of experts" : "is fused"} + ", but the types are " + all);
      continue;
    }
    if (g.experts) continue;
    for (const char* suffix : {".weight_global_scale", ".input_global_scale", ".input_scale"}) {
      std::set<double> values;
      for (const std::string& m : g.members)
        if (const stored_tensor* t = f.folder().find(m + suffix); t && t->info.elements() == 1)
          for (double v : f.values(*t)) values.insert(v);
      if (values.size() < 2) continue;
      const std::string message = std::string{suffix + 1} + " differs between the shards";
      if (std::string_view{suffix} == ".input_scale")
        f.refused_by(engine::vllm_ascend, file, g.name, "CT-fused", message + "; the fused layer keeps the last one loaded");
      else f.warn(file, g.name, "CT-fused", message + "; engines keep one of them");
    }
  }
}

QLIB_INLINE void verify_cache_scales(findings& f, const stored_config& config, const std::vector<covered_module>& modules) {
  for (const stored_tensor& t : f.folder().tensors())
    for (std::string_view suffix : {".k_scale", ".v_scale", ".q_scale"})
      if (t.info.name.ends_with(suffix) && !config.kv_cache && suffix != ".q_scale") f.add(t, "CT-kv", "is stored, but kv_cache_scheme is null");
  if (!config.kv_cache) return;
  f.refused_by(engine::vllm_ascend, "config.json", "kv_cache_scheme", "CT-engine", "is ignored");
  if (config.kv_cache->dynamic) return;
  std::set<std::string> attentions;
  for (const covered_module& m : modules)
    for (std::string_view tail : {"k_proj", "qkv_proj", "kv_b_proj"})
      if (ends_with_component(m.name, tail) && in_decoder_layer(m.name) && m.name.find("vision") == std::string::npos &&
          m.name.find("visual") == std::string::npos)
        attentions.insert(m.name.substr(0, m.name.rfind('.')));
  for (const std::string& a : attentions)
    for (const char* suffix : {".k_scale", ".v_scale"}) {
      const stored_tensor* t = f.folder().find(a + suffix);
      if (!t) {
        f.add({}, a + suffix, "CT-kv", "is not stored, but kv_cache_scheme is static");
        continue;
      }
      const bool per_head = config.kv_cache->strategy == "attn_head";
      if (per_head ? t->info.shape.size() != 3 : t->info.elements() != 1)
        f.add(*t, "CT-kv", "is " + shape_text(t->info.shape) + ", not " + (per_head ? "[heads, 1, 1]" : "[1]"));
      f.check_scale(t, "CT-kv");
      if (!config.kv_cache->symmetric) f.warn({}, a + suffix, "CT-kv", "is asymmetric: vLLM does not support it");
    }
}

QLIB_INLINE void verify_compressed_tensors(findings& f) {
  const weight_folder& folder = f.folder();
  const found_config found = quantization_config_of(folder);
  stored_config config;
  config.names = loaded_names_of(folder);
  for (config_fault& fault : read_compressed_tensors_config(found.text, config))
    f.add(found.file, std::move(fault.key), std::move(fault.rule), std::move(fault.message));
  if (!config.status.empty() && config.status != "compressed")
    f.warn(found.file, "quantization_config.quantization_status", "CT-config", "is \"" + config.status + "\"; a stored checkpoint is \"compressed\"");
  if (config.format.empty()) f.add(found.file, "quantization_config.format", "CT-config", "is missing");

  const std::vector<covered_module> modules = covered_modules(folder, config);
  std::set<const stored_scheme*> used;
  std::set<std::size_t> ignored;
  std::set<std::string> containers;
  std::map<std::string, std::vector<std::string>> refused;
  for (const covered_module& m : modules) {
    for (const std::string& name : {m.name, config.names.of(m.name)})
      for (std::size_t i : config.ignore_patterns.matching(name, m.linear ? "Linear" : "Embedding")) ignored.insert(i);
    if (m.scheme) used.insert(m.scheme);
    if (m.scheme && m.scheme->unknown) continue;
    const bool wanted = m.scheme && m.scheme->weights && m.scheme->format != "dense";
    if (wanted && !m.quantized && m.linear)
      f.add(found.file, m.name, "CT-ignore", "is float, but " + m.scheme->name + " targets it: add it to ignore");
    if (!m.scheme && m.quantized)
      f.add(found.file, m.name, "CT-target", config.ignored(m.name) ? "is quantized, but in ignore" : "is quantized, but no target matches it");
    if (!wanted || !m.quantized) continue;
    containers.insert(m.scheme->format);
    verify_compressed_tensors_module(f, *m.scheme, m.name);
    if (f.target())
      if (std::string why = refusal(*f.target(), *m.scheme, is_expert(m.name), config); !why.empty()) refused[why].push_back(m.name);
  }
  for (const auto& [why, names] : refused)
    f.refused_by(*f.target(), found.file, names[0], "CT-engine",
                 why + (names.size() > 1 ? " (and " + std::to_string(names.size() - 1) + " more like it)" : ""));
  for (const stored_scheme& s : config.groups)
    if (!used.contains(&s)) f.warn(found.file, "config_groups." + s.name, "CT-target", "its targets match no module");
  for (std::size_t i = 0; i < config.ignore.size(); ++i) {
    const std::string& name = config.ignore[i];
    if (ignored.contains(i) || name == "lm_head" || name.starts_with("re:")) continue;
    // A name in memory may stand for one on disk (stored_config::ignored), or for a module without a matrix.
    const auto same = [&](const covered_module& m) { return without_model_prefix(m.name) == without_model_prefix(name); };
    if (std::ranges::none_of(modules, same) && folder.starting_with(name + ".").empty())
      f.warn(found.file, name, "CT-ignore", "is in ignore, but no such module is stored");
  }
  if (containers.size() > 1 && config.format != "mixed-precision")
    f.add(found.file, "quantization_config.format", "CT-format", "is \"" + config.format + "\", but the groups have several formats");
  if (modules.empty()) f.add({}, {}, "CT-target", "there is no matrix at all");
  verify_fused_schemes(f, modules, found.file);
  verify_cache_scales(f, config, modules);
  const bool static_input = std::ranges::any_of(config.groups, [](const stored_scheme& s) { return s.input && !s.input->dynamic; });
  if (static_input && f.for_engine(engine::vllm_ascend))
    f.warn(found.file, "config_groups", "CT-engine", "input_offset is not part of compressed-tensors, and nothing sets it: a dynamic scheme is safe");
}

QLIB_INLINE std::string refusal(engine e, const stored_scheme& s, bool expert, const stored_config& config) {
  const stored_arguments& w = *s.weights;
  const std::string type = type_text(s), of = expert ? " of experts" : " of linear layers";
  const bool int8_input = s.input && !s.input->floating && s.input->num_bits == 8, fp8_input = s.input && s.input->floating && s.input->num_bits == 8;
  const bool by_token = s.input && s.input->dynamic && s.input->strategy == "token",
             by_tensor = s.input && !s.input->dynamic && s.input->strategy == "tensor";
  const bool channel = w.strategy == "channel", tensor = w.strategy == "tensor", group = w.strategy == "group", block = w.strategy == "block";
  switch (e) {
    case engine::vllm_ascend: {
      if (!w.symmetric || (s.input && !s.input->symmetric)) return "asymmetric schemes have no kernel";
      if (!w.floating && w.num_bits == 8 && channel && int8_input && s.format == "int-quantized" && (by_token || by_tensor))
        return by_tensor && expert ? "static W8A8" + of + " has no kernel" : "";
      if (w.floating && w.num_bits == 8 && channel && fp8_input && by_token) return "";
      if (!w.floating && w.num_bits == 4 && int8_input && by_token && s.format == "int-quantized")
        return expert && channel ? "" : type + of + " has no kernel";
      if (!w.floating && w.num_bits == 4 && group && !s.input && s.format == "pack-quantized") {
        if (!expert) return "W4A16 is for experts only";
        const std::uint64_t assumed = config.group_size.value_or(32);
        return assumed == w.group_size ? ""
                                       : "group_size " + std::to_string(w.group_size) + " is taken for " + std::to_string(assumed) +
                                             ", which a top-level group_size of quantization_config would say";
      }
      return "No compressed-tensors compatible quantization type was found (" + type + ", " + s.format + ")";
    }
    case engine::vllm_gcu:
      if (!w.floating && w.num_bits == 8 && w.symmetric && (channel || tensor) && int8_input && (by_token || by_tensor)) return "";
      return "only int8 W8A8 has a kernel, not " + type;
    case engine::vllm:
      if (w.floating && w.num_bits == 4) return "";
      if (w.floating) return (tensor || channel || block) && (!s.input || fp8_input) ? "" : type + " per " + w.strategy + " has no kernel";
      if (!s.input)
        return (group || channel) && (w.num_bits == 4 || w.num_bits == 8) && s.format == "pack-quantized"
                   ? ""
                   : type + " per " + w.strategy + " in " + s.format + " has no kernel";
      if (w.num_bits == 8) return w.symmetric && (channel || tensor) && int8_input && (by_token || by_tensor) ? "" : type + " has no kernel";
      if (w.num_bits == 4) return w.symmetric && (channel || group) && by_token ? "" : type + " has no kernel";
      return type + " has no kernel";
    default:
      return {};
  }
}

}  // namespace qlib::inline v0::detail
