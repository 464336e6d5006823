/// msModelSlim's outlier suppression processors. Part of modelslim.ipp.
#pragma once
#include <qlib/recipe/modelslim_qconfig.ipp>
#include <qlib/recipe/recipe.hpp>
#include <qlib/recipe/suppressor_names.hpp>
#include <qlib/recipe/yaml_option.hpp>
#include <qlib/recipe/yaml_tree.hpp>

#include <algorithm>
#include <array>

namespace qlib::inline v0::detail {

namespace modelslim {

inline constexpr std::array<std::string_view, 4> subgraph_types{"norm-linear", "linear-linear", "ov", "up-down"};

/// A processor's keys beside type, include and exclude.
struct suppressor_keys {
  std::vector<std::string_view> values, booleans, qconfigs;
  bool kinds = true;  ///< has enable_subgraph_type
};

/// msModelSlim's keys of its processors; of suppressors that it does not have, all their options.
inline suppressor_keys keys_of(std::string_view processor) {
  if (processor == smooth_quant::name) return {{"alpha"}, {"symmetric"}, {}, false};
  if (processor == iterative_smooth::name) return {{"alpha", "scale_min"}, {"symmetric"}, {}};
  if (processor == flex_smooth::name) return {{"alpha", "beta"}, {}, {}};
  if (processor == flex_awq_ssz::name) return {{"alpha", "beta"}, {}, {"qconfig"}};
  if (processor == awq::name) return {{"n_grid"}, {"clip"}, {"weight_qconfig"}};
  if (processor == kv_smooth::name) return {{"smooth_factor"}, {}, {}, false};
  suppressor_keys keys;
  std::visit(
      [&]<class S>(const S&) {
        using options = typename S::options;
        for_each_field<options>([&](const auto& f) {
          const bool is_boolean = std::is_same_v<std::remove_cvref_t<decltype(options{}.*f.member)>, bool>;
          (is_boolean ? keys.booleans : keys.values).push_back(f.key);
        });
      },
      *registry::suppressors::find(processor));
  return keys;
}

}  // namespace modelslim

/// `weight_qconfig`, or `qconfig` with weights and activations: what the recipe wants its search to quantize to. Nothing and errors where
/// linear_quant would refuse a value; which of them go together is linear_quant's affair.
inline std::optional<scheme> read_searched(const yaml_reader& in, const yaml_field& map, bool both) {
  if (!in.expect(map, yaml_type::map)) return std::nullopt;
  const std::size_t before = in.failures();
  scheme out;
  const auto weights = [&](const yaml_field& f) {
    if (const auto q = read_qconfig(in, f, true, true)) out.weights = weight_args(in, *q);
  };
  if (!both) {
    weights(map);
  } else {
    in.only_keys(map, modelslim::operands);
    if (const auto f = in.get_set(map, "weight")) weights(*f);
    else in.fail(map, "the key 'weight' is missing", "for example weight: {dtype: int8, scope: per_channel, symmetric: true, method: minmax}");
    if (const auto f = in.get_set(map, "act"))
      if (const auto q = read_qconfig(in, *f, false, true); q && q->dtype != "float") {
        out.input_activations = input_args(in, *q);
        out.dynamic_prefill = q->scope == "pd_mix";
      }
  }
  if (in.failures() != before) return std::nullopt;
  return out;
}

inline void read_suppression(const yaml_reader& in, const yaml_field& map, const std::string& type, recipe& out) {
  const modelslim::suppressor_keys keys = modelslim::keys_of(type);
  std::vector<std::string_view> known{"type", "include", "exclude"};
  for (const auto* list : {&keys.values, &keys.booleans, &keys.qconfigs}) known.insert(known.end(), list->begin(), list->end());
  if (keys.kinds) known.push_back("enable_subgraph_type");
  in.only_keys(map, known);
  suppression_stage s;
  s.name = map.path.substr(map.path.find('.') + 1) + " " + type;
  s.where = in.where(map.line);
  s.syntax = pattern_syntax::glob;
  s.suppressor.name = type;
  for (const std::string_view key : keys.values)
    if (const auto f = in.get_set(map, key))
      if (auto text = in.text(*f)) read_suppressor_option(in, *f, key, *std::move(text), s.suppressor);
  for (const std::string_view key : keys.booleans)
    if (const auto f = in.get_set(map, key))
      if (const auto value = in.boolean(*f)) s.suppressor.options.emplace_back(key, *value ? "true" : "false");
  for (const std::string_view key : keys.qconfigs) {
    s.searches_inputs = key == "qconfig";
    if (const auto f = in.get_set(map, key)) s.searched = read_searched(in, *f, s.searches_inputs);
    else in.fail(map, "the key '" + std::string{key} + "' is missing", type + " needs it");
  }
  if (type == smooth_quant::name) s.ov = s.up_down = false;
  choose_keys(s);
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
