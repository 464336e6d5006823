#pragma once
#include <qlib/format/compressed_tensors_config.hpp>
#include <qlib/recipe/presets.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <span>

namespace qlib::inline v0 {

namespace detail {

class scheme_reader {
 public:
  explicit scheme_reader(std::vector<config_fault>& faults) : faults_{faults} {}

  void fault(std::string rule, std::string key, std::string message) { faults_.push_back({std::move(rule), std::move(key), std::move(message)}); }

  template <std::size_t N>
  void only_keys(const nlohmann::json& object, const std::string& where, const std::array<std::string_view, N>& known) {
    for (const auto& [key, value] : object.items())
      if (std::ranges::find(known, key) == known.end())
        fault("CT-schema", where + "." + key, "is no key of compressed-tensors, which forbids others here");
  }

  /// The member, or null when it is absent, null, or of another type (a fault).
  const nlohmann::json* member(const nlohmann::json& object, const std::string& where, const char* key, bool (nlohmann::json::*is)() const noexcept,
                               const char* wanted) {
    const auto it = object.find(key);
    if (it == object.end() || it->is_null()) return nullptr;
    if ((*it.*is)()) return &*it;
    fault("CT-schema", where + "." + key, std::string{"is "} + it->type_name() + ", not " + wanted);
    return nullptr;
  }

  std::vector<std::string> strings(const nlohmann::json& list, const std::string& where) {
    std::vector<std::string> out;
    for (const auto& e : list) {
      if (e.is_string()) out.push_back(e.get<std::string>());
      else fault("CT-schema", where, std::string{"holds "} + e.type_name() + ", not strings only");
    }
    return out;
  }

  template <std::size_t N>
  void one_of(const std::string& value, const std::string& where, const std::array<std::string_view, N>& allowed) {
    if (std::ranges::find(allowed, value) == allowed.end()) fault("CT-schema", where, "\"" + value + "\" is no value that compressed-tensors knows");
  }

  std::optional<stored_arguments> arguments(const nlohmann::json& scheme, const std::string& parent, const char* key, bool activation) {
    const nlohmann::json* j = member(scheme, parent, key, &nlohmann::json::is_object, "an object");
    if (!j) return std::nullopt;
    const std::string where = parent + "." + key;
    static constexpr std::array<std::string_view, 13> keys{"num_bits", "type",     "symmetric",   "strategy", "group_size", "block_structure",
                                                           "dynamic",  "actorder", "scale_dtype", "zp_dtype", "observer",   "observer_kwargs",
                                                           "is_online"};
    only_keys(*j, where, keys);
    stored_arguments a;
    if (const auto* v = member(*j, where, "num_bits", &nlohmann::json::is_number_unsigned, "a whole number")) a.num_bits = v->get<std::uint64_t>();
    if (const auto* v = member(*j, where, "type", &nlohmann::json::is_string, "\"int\" or \"float\"")) {
      one_of(v->get<std::string>(), where + ".type", std::array<std::string_view, 2>{"int", "float"});
      a.floating = *v == "float";
    }
    if (a.num_bits == 0 || a.num_bits > 16 || (a.floating && a.num_bits != 4 && a.num_bits != 8))
      fault("CT-schema", where + ".num_bits", std::to_string(a.num_bits) + " bits of type " + (a.floating ? "float" : "int") + " do not exist");
    if (const auto* v = member(*j, where, "symmetric", &nlohmann::json::is_boolean, "true or false")) a.symmetric = v->get<bool>();
    bool per_channel = false;
    if (const auto* v = member(*j, where, "group_size", &nlohmann::json::is_number_integer, "a whole number")) {
      const auto g = v->get<std::int64_t>();
      if (g < -1 || g == 0) fault("CT-schema", where + ".group_size", std::to_string(g) + " is neither positive nor -1");
      a.group_size = g > 0 ? static_cast<std::uint64_t>(g) : 0;
      per_channel = g == -1;
    }
    if (const auto* v = member(*j, where, "strategy", &nlohmann::json::is_string, "a string")) {
      a.strategy = v->get<std::string>();
      one_of(a.strategy, where + ".strategy",
             std::array<std::string_view, 7>{"tensor", "channel", "group", "block", "token", "tensor_group", "attn_head"});
    } else {
      a.strategy = a.group_size ? "group" : per_channel ? "channel" : "tensor";
    }
    const bool grouped = a.strategy == "group" || a.strategy == "tensor_group";
    if (const auto it = j->find("dynamic"); it != j->end() && !it->is_null()) {
      if (it->is_boolean()) a.dynamic = it->get<bool>();
      else if (*it == "local") a.dynamic = a.local = true;
      else fault("CT-schema", where + ".dynamic", it->dump() + " is neither true, false nor \"local\"");
    }
    if (grouped && a.group_size == 0) fault("CT-schema", where + ".group_size", "is missing for strategy " + a.strategy);
    if (!grouped && a.group_size != 0) fault("CT-schema", where + ".group_size", "is given, but the strategy is " + a.strategy);
    if (a.strategy == "token" && !a.dynamic) fault("CT-schema", where + ".dynamic", "must be true for strategy token");
    if (a.local && a.strategy != "tensor_group") fault("CT-schema", where + ".dynamic", "\"local\" is for strategy tensor_group");
    if (a.dynamic && !a.local && !grouped && a.strategy != "token" && a.strategy != "tensor")
      fault("CT-schema", where + ".dynamic", "cannot be true for strategy " + a.strategy);
    if (const auto it = j->find("block_structure"); it != j->end() && !it->is_null()) {
      if (it->is_array() && it->size() == 2 && (*it)[0].is_number_unsigned() && (*it)[1].is_number_unsigned() && (*it)[0] != 0 && (*it)[1] != 0) {
        a.block = {(*it)[0].get<std::uint64_t>(), (*it)[1].get<std::uint64_t>()};
      } else if (!it->is_string()) {
        fault("CT-schema", where + ".block_structure", "is not [rows, columns]");
      }
      if (a.strategy != "block") fault("CT-schema", where + ".block_structure", "is given, but the strategy is " + a.strategy);
    }
    if (const auto it = j->find("actorder"); it != j->end() && !it->is_null()) {
      if (it->is_boolean()) a.actorder = it->get<bool>() ? "group" : "";
      else if (it->is_string()) a.actorder = it->get<std::string>();
      if (a.actorder == "dynamic") a.actorder = "group";
      if (a.actorder == "static") a.actorder = "weight";
      if (!a.actorder.empty()) one_of(a.actorder, where + ".actorder", std::array<std::string_view, 2>{"group", "weight"});
      if (activation && !a.actorder.empty()) fault("CT-schema", where + ".actorder", "activations have no order");
      if (a.actorder == "group" && !grouped) fault("CT-schema", where + ".actorder", "\"group\" needs strategy group");
    }
    if (const auto* v = member(*j, where, "scale_dtype", &nlohmann::json::is_string, "a string")) a.scale_dtype = v->get<std::string>();
    member(*j, where, "zp_dtype", &nlohmann::json::is_string, "a string");
    member(*j, where, "observer", &nlohmann::json::is_string, "a string");
    member(*j, where, "observer_kwargs", &nlohmann::json::is_object, "an object");
    if (activation && (a.strategy == "channel" || a.strategy == "block"))
      fault("CT-schema", where + ".strategy", "activations cannot be quantized per " + a.strategy);
    return a;
  }

 private:
  std::vector<config_fault>& faults_;
};

inline constexpr std::array<std::string_view, 12> container_names{
    "dense",           "naive-quantized", "int-quantized", "float-quantized",   "pack-quantized", "nvfp4-pack-quantized", "mxfp4-pack-quantized",
    "mxfp8-quantized", "mixed-precision", "marlin-24",     "sparse-24-bitmask", "sparse-bitmask"};

/// The container that compressed-tensors infers; "" when nothing is quantized.
QLIB_INLINE std::string inferred_container(const stored_scheme& s) {
  if (!s.weights) return "dense";
  const stored_arguments& w = *s.weights;
  if (w.floating && w.num_bits == 4) return w.group_size == 32 ? "mxfp4-pack-quantized" : "nvfp4-pack-quantized";
  if (w.floating) return w.scale_dtype == "torch.uint8" ? "mxfp8-quantized" : s.input ? "float-quantized" : "naive-quantized";
  return s.input ? "int-quantized" : w.num_bits <= 8 ? "pack-quantized" : "naive-quantized";
}

QLIB_INLINE stored_arguments stored(const quantization_args& a) {
  static constexpr std::array<const char*, 5> strategies{"tensor", "channel", "group", "block", "token"};
  stored_arguments out;
  out.num_bits = static_cast<std::uint64_t>(a.num_bits);
  out.floating = a.type == number::floating;
  out.symmetric = a.symmetric;
  out.strategy = strategies[static_cast<std::size_t>(a.strategy)];
  out.group_size = a.group_size;
  out.block = {a.block_rows, a.block_cols};
  out.dynamic = a.dynamic;
  return out;
}

QLIB_INLINE std::string_view without_model_prefix(std::string_view name) {
  for (bool again = true; again;) {
    again = false;
    for (std::string_view prefix : {"model.", "language_model."})
      if (name.starts_with(prefix)) {
        name.remove_prefix(prefix.size());
        again = true;
      }
  }
  return name;
}

}  // namespace detail

QLIB_INLINE std::vector<config_fault> read_compressed_tensors_config(const std::string& text, stored_config& out) {
  std::vector<config_fault> faults;
  detail::scheme_reader read{faults};
  loaded_names names = out.names;
  out = {};
  out.names = names;
  const nlohmann::json q = nlohmann::json::parse(text, nullptr, false);
  if (!q.is_object()) {
    read.fault("CT-config", "quantization_config", "is not an object");
    return faults;
  }
  const std::string top = "quantization_config";
  if (const auto* v = read.member(q, top, "format", &nlohmann::json::is_string, "a string")) out.format = v->get<std::string>();
  if (!out.format.empty()) read.one_of(out.format, top + ".format", detail::container_names);
  if (const auto* v = read.member(q, top, "quantization_status", &nlohmann::json::is_string, "a string")) {
    out.status = v->get<std::string>();
    read.one_of(out.status, top + ".quantization_status",
                std::array<std::string_view, 5>{"initialized", "calibration", "frozen", "compressed", "decompressed"});
  }
  if (const auto* v = read.member(q, top, "group_size", &nlohmann::json::is_number_unsigned, "a whole number"))
    out.group_size = v->get<std::uint64_t>();
  if (const auto* v = read.member(q, top, "ignore", &nlohmann::json::is_array, "a list")) out.ignore = read.strings(*v, top + ".ignore");
  read.member(q, top, "transform_config", &nlohmann::json::is_object, "an object");
  out.kv_cache = read.arguments(q, top, "kv_cache_scheme", false);

  const nlohmann::json* groups = read.member(q, top, "config_groups", &nlohmann::json::is_object, "an object");
  if (!groups) read.fault("CT-config", top + ".config_groups", "is missing");
  else if (groups->empty()) read.fault("CT-config", top + ".config_groups", "is empty: nothing is quantized");
  const nlohmann::json none = nlohmann::json::object();
  for (const auto& [name, value] : (groups ? *groups : none).items()) {
    const std::string where = "config_groups." + name;
    stored_scheme s;
    s.name = name;
    if (value.is_array()) {  // a preset's name and its targets
      s.targets = read.strings(value, where);
      if (const preset* known = find_preset(name)) {
        s.weights = known->scheme.weights ? std::optional{detail::stored(*known->scheme.weights)} : std::nullopt;
        s.input = known->scheme.input_activations ? std::optional{detail::stored(*known->scheme.input_activations)} : std::nullopt;
        s.format = known->scheme.format.empty() ? detail::inferred_container(s) : known->scheme.format;
      } else {
        s.unknown = true;
        if (std::ranges::find(unbuilt_presets(), name) == unbuilt_presets().end()) read.fault("CT-config", where, "is the name of no preset");
      }
      out.groups.push_back(std::move(s));
      continue;
    }
    if (!value.is_object()) {
      read.fault("CT-schema", where, std::string{"is "} + value.type_name() + ", not a scheme");
      continue;
    }
    read.only_keys(value, where, std::array<std::string_view, 5>{"targets", "weights", "input_activations", "output_activations", "format"});
    if (const auto* v = read.member(value, where, "targets", &nlohmann::json::is_array, "a list")) s.targets = read.strings(*v, where + ".targets");
    if (s.targets.empty()) read.fault("CT-schema", where + ".targets", "is missing or empty");
    s.weights = read.arguments(value, where, "weights", false);
    s.input = read.arguments(value, where, "input_activations", true);
    s.output = read.arguments(value, where, "output_activations", true);
    if (const auto* v = read.member(value, where, "format", &nlohmann::json::is_string, "a string")) {
      s.format = v->get<std::string>();
      if (s.format == "mixed-precision") read.fault("CT-format", where + ".format", "\"mixed-precision\" is for the model, never for a group");
      else if (std::ranges::find(detail::container_names, s.format) == detail::container_names.end())
        read.fault("CT-format", where + ".format", "\"" + s.format + "\" is no format");
      else if (out.format != s.format && out.format != "mixed-precision" && !out.format.empty())
        read.fault("CT-format", where + ".format", "is \"" + s.format + "\", but the model's format is \"" + out.format + "\"");
    } else {
      s.format = out.format.empty() || out.format == "mixed-precision" ? detail::inferred_container(s) : out.format;
    }
    out.groups.push_back(std::move(s));
  }

  const auto compile = [&](const std::vector<std::string>& patterns, const std::string& where) -> pattern_set {
    auto set = pattern_set::compile(patterns, pattern_syntax::compressed_tensors, where);
    if (set) return *std::move(set);
    read.fault("CT-target", where, set.error().subject + (set.error().subject.empty() ? "" : ": ") + set.error().problem);
    return {};
  };
  for (const stored_scheme& s : out.groups) out.group_patterns.push_back(compile(s.targets, "config_groups." + s.name + ".targets"));
  out.ignore_patterns = compile(out.ignore, top + ".ignore");
  for (const std::string& name : out.ignore)
    if (!name.starts_with("re:")) out.ignore_tails.emplace_back(detail::without_model_prefix(name));
  std::ranges::sort(out.ignore_tails);
  return faults;
}

QLIB_INLINE bool stored_config::ignored(std::string_view module) const {
  // Names in memory and on disk differ in their first components ("model.language_model.layers", "language_model.model.layers").
  if (const std::string loaded = names.of(module); loaded != module && ignore_patterns.matches(loaded, "Linear")) return true;
  return ignore_patterns.matches(module, "Linear") || std::ranges::binary_search(ignore_tails, std::string{detail::without_model_prefix(module)});
}

QLIB_INLINE const stored_scheme* stored_config::scheme_of(std::string_view module, std::string_view class_name) const {
  if (ignored(module)) return nullptr;
  const stored_scheme* best = nullptr;
  pattern_match best_match;
  const std::string loaded = names.of(module);
  for (std::size_t i = 0; i < groups.size(); ++i)
    for (const std::string_view name : {module, std::string_view{loaded}}) {
      auto found = group_patterns[i].find(name, class_name);
      if (!found || !*found || (best && !(**found < best_match))) continue;
      best = &groups[i];
      best_match = **found;
    }
  return best;
}

QLIB_INLINE std::string type_text(const stored_scheme& s) {
  if (!s.weights) return "FLOAT";
  const stored_arguments& w = *s.weights;
  std::string text = !w.floating                  ? "W" + std::to_string(w.num_bits)
                     : w.num_bits != 4            ? "FP" + std::to_string(w.num_bits)
                     : s.format.starts_with("mx") ? "MXFP4"
                                                  : "NVFP4";
  if (!w.floating || (s.input && s.input->num_bits != w.num_bits)) text += "A" + std::to_string(s.input ? s.input->num_bits : 16);
  else if (!s.input) text += "A16";
  if (s.input && s.input->dynamic) text += "_DYNAMIC";
  if (w.group_size && !w.floating) text += " g" + std::to_string(w.group_size);
  if (!w.symmetric) text += " asym";
  return text;
}

}  // namespace qlib::inline v0
