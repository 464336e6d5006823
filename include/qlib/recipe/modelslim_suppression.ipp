/// msModelSlim's outlier suppression processors. Part of modelslim.ipp.
#pragma once
#include <qlib/recipe/recipe.hpp>
#include <qlib/recipe/yaml_option.hpp>
#include <qlib/recipe/yaml_tree.hpp>

#include <algorithm>
#include <array>

namespace qlib::inline v0::detail {

namespace modelslim {

inline constexpr std::array<std::string_view, 6> suppressors{"smooth_quant", "iter_smooth", "flex_smooth_quant", "flex_awq_ssz", "awq", "kv_smooth"};
inline constexpr std::array<std::string_view, 4> subgraph_types{"norm-linear", "linear-linear", "ov", "up-down"};
inline constexpr std::array<std::string_view, 5> search_qconfig_keys{"dtype", "scope", "symmetric", "method", "ext"};

/// A processor's keys beside type, include and exclude.
struct suppressor_keys {
  std::string_view processor;
  std::vector<std::string_view> numbers, booleans, qconfigs;
  bool kinds;  ///< has enable_subgraph_type
};

inline suppressor_keys keys_of(std::string_view processor) {
  if (processor == "smooth_quant") return {processor, {"alpha"}, {"symmetric"}, {}, false};
  if (processor == "iter_smooth") return {processor, {"alpha", "scale_min"}, {"symmetric"}, {}, true};
  if (processor == "flex_smooth_quant") return {processor, {"alpha", "beta"}, {}, {}, true};
  if (processor == "flex_awq_ssz") return {processor, {"alpha", "beta"}, {}, {"qconfig"}, true};
  if (processor == "awq") return {processor, {"n_grid"}, {}, {"weight_qconfig"}, true};
  return {"kv_smooth", {"smooth_factor"}, {}, {}, false};
}

}  // namespace modelslim

/// The qconfig of a search is checked for its keys; what is searched for is what linear_quant makes of the linears.
inline void check_search_qconfig(const yaml_reader& in, const yaml_field& map, bool both) {
  if (!in.expect(map, yaml_type::map)) return;
  if (!both) return in.only_keys(map, modelslim::search_qconfig_keys);
  constexpr std::array<std::string_view, 2> operands{"act", "weight"};
  in.only_keys(map, operands);
  for (const std::string_view operand : operands)
    if (const auto f = in.get_set(map, operand); f && in.expect(*f, yaml_type::map)) in.only_keys(*f, modelslim::search_qconfig_keys);
}

inline void read_suppression(const yaml_reader& in, const yaml_field& map, const std::string& type, recipe& out) {
  const modelslim::suppressor_keys keys = modelslim::keys_of(type);
  std::vector<std::string_view> known{"type", "include", "exclude"};
  for (const auto* list : {&keys.numbers, &keys.booleans, &keys.qconfigs}) known.insert(known.end(), list->begin(), list->end());
  if (keys.kinds) known.push_back("enable_subgraph_type");
  in.only_keys(map, known);
  suppression_stage s;
  s.name = map.path.substr(map.path.find('.') + 1) + " " + type;
  s.where = in.where(map.line);
  s.syntax = pattern_syntax::glob;
  s.suppressor.name = type;
  for (const std::string_view key : keys.numbers)
    if (const auto f = in.get_set(map, key))
      if (auto text = in.text(*f)) read_suppressor_option(in, *f, key, *std::move(text), s.suppressor);
  for (const std::string_view key : keys.booleans)
    if (const auto f = in.get_set(map, key))
      if (const auto value = in.boolean(*f)) s.suppressor.options.emplace_back(key, *value ? "true" : "false");
  for (const std::string_view key : keys.qconfigs) {
    if (const auto f = in.get_set(map, key)) check_search_qconfig(in, *f, key == "qconfig");
    else in.fail(map, "the key '" + std::string{key} + "' is missing", type + " needs it");
  }
  if (type == "smooth_quant") s.ov = s.up_down = false;
  if (type == "kv_smooth") {
    s.norm_linear = s.ov = s.up_down = false;
    s.query_key = true;
  }
  if (const auto f = in.get_set(map, "enable_subgraph_type")) {
    s.norm_linear = s.ov = s.up_down = false;
    for (const yaml_field& item : in.items(*f))
      if (const auto kind = in.one_of(item, {"sub-graph type", modelslim::subgraph_types})) {
        s.norm_linear |= *kind == "norm-linear";
        s.ov |= *kind == "ov";
        s.up_down |= *kind == "up-down";  // linear-linear: no family here has one
      }
  }
  if (const auto f = in.get_set(map, "include")) s.targets = in.patterns(*f, s.syntax);
  if (const auto f = in.get_set(map, "exclude")) s.ignore = in.patterns(*f, s.syntax);
  out.suppression.push_back(std::move(s));
}

inline void read_quarot(const yaml_reader& in, const yaml_field& map, recipe& out) {
  constexpr std::array<std::string_view, 6> known{"type", "online", "block_size", "down_proj_online_layers", "max_tp_size", "export_extra_info"};
  in.only_keys(map, known);
  if (out.rotation || !out.suppression.empty()) return in.fail(map, "a rotation comes first, and once", "move it to the front of process");
  rotation_stage s;
  s.name = map.path.substr(map.path.find('.') + 1) + " quarot";
  s.where = in.where(map.line);
  if (const auto f = in.get_set(map, "online"); f && in.boolean(*f).value_or(false))
    in.fail(*f, "online rotations have no consumer: no engine multiplies by them", "set online: false");
  if (const auto f = in.get_set(map, "down_proj_online_layers"); f && in.expect(*f, yaml_type::sequence) && !f->node->items.empty())
    in.fail(*f, "online rotations have no consumer: no engine multiplies by them", "leave the list empty");
  if (const auto f = in.get_set(map, "block_size")) {
    const std::int64_t size = in.integer(*f, -1, std::int64_t{1} << 30).value_or(-1);
    if (size == 0) in.fail(*f, "block_size 0", "use a positive size, or -1 for one block");
    s.block_size = size > 0 ? static_cast<std::size_t>(size) : 0;
  }
  if (const auto f = in.get_set(map, "max_tp_size")) (void)in.integer(*f, 1, 1 << 20);  // of online rotations
  s.stored = true;
  if (const auto f = in.get_set(map, "export_extra_info")) s.stored = in.boolean(*f).value_or(true);
  out.rotation = std::move(s);
}

}  // namespace qlib::inline v0::detail
