#pragma once
#include <qlib/recipe/ascii_case.hpp>
#include <qlib/recipe/llmcompressor.hpp>
#include <qlib/recipe/llmcompressor_observers.ipp>
#include <qlib/recipe/llmcompressor_suppression.ipp>
#include <qlib/recipe/match.hpp>
#include <qlib/recipe/presets.hpp>

#include <algorithm>
#include <array>
#include <charconv>

namespace qlib::inline v0::detail {

namespace llmcompressor {

inline constexpr std::array<std::string_view, 4> modifiers{"QuantizationModifier", "SmoothQuantModifier", "AWQModifier", "SpinQuantModifier"};
inline constexpr std::array<std::string_view, 11> unbuilt_modifiers{"GPTQModifier",
                                                                    "AutoRoundModifier",
                                                                    "QuIPModifier",
                                                                    "SparseGPTModifier",
                                                                    "WandaPruningModifier",
                                                                    "MagnitudePruningModifier",
                                                                    "ConstantPruningModifier",
                                                                    "OBCQModifier",
                                                                    "TransformModifier",
                                                                    "vLLMQuantizationModifier",
                                                                    "LogarithmicEqualizationModifier"};
inline constexpr std::array<std::string_view, 11> modifier_keys{"targets",
                                                                "ignore",
                                                                "scheme",
                                                                "config_groups",
                                                                "kv_cache_scheme",
                                                                "weight_observer",
                                                                "input_observer",
                                                                "output_observer",
                                                                "actorder",
                                                                "bypass_divisibility_checks",
                                                                "requires_calibration_data"};
inline constexpr std::array<std::string_view, 5> scheme_keys{"targets", "weights", "input_activations", "output_activations", "format"};
inline constexpr std::array<std::string_view, 12> args_keys{"num_bits", "type",     "symmetric",   "strategy", "group_size", "block_structure",
                                                            "dynamic",  "actorder", "scale_dtype", "zp_dtype", "observer",   "observer_kwargs"};
inline constexpr std::array<std::string_view, 2> types{"int", "float"};
inline constexpr std::array<std::string_view, 5> strategies{"tensor", "channel", "group", "block", "token"};
inline constexpr std::array<std::string_view, 2> unbuilt_strategies{"tensor_group", "attn_head"};
inline constexpr std::array<std::string_view, 5> formats{"dense", "naive-quantized", "int-quantized", "float-quantized", "pack-quantized"};
inline constexpr std::array<std::string_view, 7> unbuilt_formats{
    "nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp8-quantized", "mixed-precision", "marlin-24", "sparse-24-bitmask", "sparse-bitmask"};

/// What the keys beside the schemes of one modifier say.
struct common_keys {
  std::vector<std::string> targets{"Linear"};
  std::optional<yaml_field> targets_field;
  std::vector<std::string> ignore;
  std::string weight_observer, input_observer;
};

}  // namespace llmcompressor

/// [128, 128] or "128x128".
QLIB_INLINE void read_block_structure(const yaml_reader& in, const yaml_field& field, quantization_args& args) {
  constexpr std::int64_t largest = 1 << 30;
  if (field.is(yaml_type::sequence)) {
    const auto sizes = in.items(field);
    if (sizes.size() != 2) return in.fail(field, std::to_string(sizes.size()) + " sizes", "give two: [rows, columns]");
    args.block_rows = static_cast<std::size_t>(in.integer(sizes[0], 1, largest).value_or(0));
    args.block_cols = static_cast<std::size_t>(in.integer(sizes[1], 1, largest).value_or(0));
    return;
  }
  const auto text = in.text(field);
  if (!text) return;
  const char* const end = text->data() + text->size();
  std::int64_t rows = 0, cols = 0;
  const auto [middle, bad_rows] = std::from_chars(text->data(), end, rows);
  bool right = bad_rows == std::errc{} && middle != end && *middle == 'x';
  if (right) {
    const auto [last, bad_cols] = std::from_chars(middle + 1, end, cols);
    right = bad_cols == std::errc{} && last == end && rows >= 1 && rows <= largest && cols >= 1 && cols <= largest;
  }
  if (!right) return in.fail(field, "expected [rows, columns] or \"128x128\", found '" + *text + "'");
  args.block_rows = static_cast<std::size_t>(rows);
  args.block_cols = static_cast<std::size_t>(cols);
}

QLIB_INLINE std::optional<quantization_args> read_quantization_args(const yaml_reader& in, const yaml_field& map, bool weights) {
  namespace known = llmcompressor;
  const std::size_t before = in.failures();
  if (!in.expect(map, yaml_type::map)) return std::nullopt;
  in.only_keys(map, known::args_keys);

  quantization_args args;
  if (const auto f = in.get_set(map, "type"))
    if (const auto type = in.one_of(*f, {"type", known::types})) args.type = *type == "int" ? number::integer : number::floating;
  if (const auto f = in.get_set(map, "num_bits")) {
    args.num_bits = static_cast<int>(in.integer(*f, 2, 8).value_or(8));
    if (args.type == number::floating && args.num_bits != 8)
      in.fail(*f, "float with " + std::to_string(args.num_bits) + " bits is not built yet in this version", "use 8 bits");
  }
  if (const auto f = in.get_set(map, "symmetric")) {
    args.symmetric = in.boolean(*f).value_or(true);
    if (!args.symmetric && args.type == number::floating) in.fail(*f, "float8 has no zero point", "set symmetric: true");
  }

  std::optional<yaml_field> group = in.get_set(map, "group_size");
  std::int64_t group_size = 0;  // as if it were null
  if (group) {
    group_size = in.integer(*group, -1, std::int64_t{1} << 30).value_or(0);
    if (group->is(yaml_type::scalar) && group->node->text == "0")
      in.fail(*group, "group_size 0", "use a positive size, or -1 for one scale a channel");
  }
  std::optional<std::string> strategy_name;
  const auto strategy_field = in.get_set(map, "strategy");
  if (strategy_field) strategy_name = in.one_of(*strategy_field, {"strategy", known::strategies, known::unbuilt_strategies});
  if (!strategy_name) strategy_name = group_size > 0 ? "group" : group_size == -1 ? "channel" : "tensor";
  for (std::size_t i = 0; i < known::strategies.size(); ++i)
    if (known::strategies[i] == *strategy_name)
      args.strategy = std::array{strategy::tensor, strategy::channel, strategy::group, strategy::block, strategy::token}[i];
  const yaml_field& at = strategy_field ? *strategy_field : map;
  if (group_size > 0 && args.strategy != strategy::group)
    in.fail(*group, "group_size " + std::to_string(group_size) + " with strategy " + *strategy_name, "use strategy: group, or group_size: null");
  if (args.strategy == strategy::group && group_size <= 0) in.fail(at, "strategy group needs a group_size > 0");
  if (group_size > 0) args.group_size = static_cast<std::size_t>(group_size);

  const auto block = in.get_set(map, "block_structure");
  if (block && args.strategy != strategy::block) in.fail(*block, "block_structure with strategy " + *strategy_name, "use strategy: block");
  if (!block && args.strategy == strategy::block) in.fail(at, "strategy block needs a block_structure", "for example block_structure: [128, 128]");
  if (block) read_block_structure(in, *block, args);

  const auto dynamic = in.get_set(map, "dynamic");
  if (dynamic) {
    if (dynamic->is(yaml_type::scalar) && lower_case(dynamic->node->text) == "local")
      in.fail(*dynamic, "dynamic: local belongs to strategy tensor_group, which is not built yet in this version", "known: true, false");
    else args.dynamic = in.boolean(*dynamic).value_or(false);
  }
  if (weights) {
    if (args.dynamic) in.fail(*dynamic, "weights cannot be dynamic: they are stored", "set dynamic: false");
    if (args.strategy == strategy::token) in.fail(at, "strategy token is for activations", "weights have tensor, channel, group, block");
  } else {
    if (args.strategy == strategy::channel || args.strategy == strategy::block)
      in.fail(at, "activations cannot have strategy " + *strategy_name, "use token, tensor or group");
    else if (!args.dynamic && args.strategy != strategy::tensor)
      in.fail(dynamic ? *dynamic : map, "static activations with strategy " + *strategy_name + " do not exist",
              "use strategy: tensor, or set dynamic: true");
  }

  if (const auto f = in.get_set(map, "actorder"); f && !(f->is(yaml_type::scalar) && f->node->plain && lower_case(f->node->text) == "false"))
    in.fail(*f, "actorder is part of GPTQ, which is not built yet in this version", "set actorder: null");
  if (const auto f = in.get_set(map, "scale_dtype"))
    in.fail(*f, "scales of another dtype are not built yet in this version", "set scale_dtype: null");
  if (const auto f = in.get_set(map, "zp_dtype"))
    if (const auto dtype = in.text(*f)) {
      if (args.symmetric) in.fail(*f, "symmetric operands have no zero point", "set zp_dtype: null");
      else if (*dtype != "torch.int8" && *dtype != "int8") in.fail(*f, "unknown zp_dtype '" + *dtype + "'", "known: torch.int8");
    }
  if (const auto f = in.get_set(map, "observer"))
    if (const auto name = read_observer(in, *f, weights); name && (weights || !args.dynamic)) args.observer = *name;
  if (const auto f = in.get_set(map, "observer_kwargs")) {
    const bool is_average = args.observer == "minmax" || (args.observer.empty() && !weights && !args.dynamic);  // the default of static inputs
    if (args.observer.ends_with("mse")) read_mse_options(in, *f, weights, args);
    else if (is_average) read_minmax_options(in, *f, weights, args);
    else in.expect_empty(*f, (args.observer.empty() ? "the default observer" : args.observer) + " has no options");
  }
  if (in.failures() != before) return std::nullopt;
  return args;
}

/// weights, input_activations, output_activations and format of one scheme; `targets` is the caller's.
QLIB_INLINE scheme read_scheme(const yaml_reader& in, const yaml_field& map) {
  scheme out;
  in.only_keys(map, llmcompressor::scheme_keys);
  const auto weights = in.get_set(map, "weights"), inputs = in.get_set(map, "input_activations");
  if (weights) out.weights = read_quantization_args(in, *weights, true);
  if (inputs) out.input_activations = read_quantization_args(in, *inputs, false);
  if (inputs && !weights) in.fail(*inputs, "activations without weights", "give weights, or set input_activations: null");
  if (const auto f = in.get_set(map, "output_activations"))
    in.fail(*f, "output activations are not built yet in this version", "set output_activations: null");
  if (const auto f = in.get_set(map, "format"))
    out.format = in.one_of(*f, {"format", llmcompressor::formats, llmcompressor::unbuilt_formats}).value_or("");
  return out;
}

QLIB_INLINE std::optional<scheme> read_preset(const yaml_reader& in, const yaml_field& at, std::string_view name) {
  if (const preset* p = find_preset(name)) return p->scheme;
  std::vector<std::string_view> built;
  for (const preset& p : presets()) built.push_back(p.name);
  (void)in.one_of(at, name, {"scheme", built, unbuilt_presets()});
  return std::nullopt;
}

/// The patterns of `field`, or of nothing, which is an error that names `owner`.
QLIB_INLINE std::vector<std::string> read_targets(const yaml_reader& in, const yaml_field& owner, const std::optional<yaml_field>& field) {
  const std::size_t before = in.failures();
  auto targets = field ? in.patterns(*field, pattern_syntax::compressed_tensors) : std::vector<std::string>{};
  if (targets.empty() && in.failures() == before) in.fail(owner, "no targets", "for example targets: [Linear]");
  return targets;
}

QLIB_INLINE void add_stage(const yaml_reader& in, const llmcompressor::common_keys& keys, const yaml_field& at, std::string name,
                           std::vector<std::string> targets, qlib::scheme scheme, recipe& out) {
  if (scheme.weights && !keys.weight_observer.empty()) scheme.weights->observer = keys.weight_observer;
  const bool is_static = scheme.input_activations && !scheme.input_activations->dynamic;
  if (is_static && !keys.input_observer.empty()) scheme.input_activations->observer = keys.input_observer;
  if (is_static && scheme.input_activations->observer.empty()) scheme.input_activations->observer = "minmax";
  stage s;
  if (scheme.weights) s.observer = weight_observer_of(*scheme.weights);
  if (is_static) s.input_observer = input_observer_of(*scheme.input_activations);
  s.name = std::move(name);
  s.targets = std::move(targets);
  s.ignore = keys.ignore;
  s.scheme = std::move(scheme);
  s.where = in.where(at.line);
  out.stages.push_back(std::move(s));
}

/// `scheme`: the name of a preset, a map from presets to their targets, or a scheme written out.
QLIB_INLINE void read_scheme_key(const yaml_reader& in, const yaml_field& field, const llmcompressor::common_keys& keys, recipe& out) {
  if (field.is(yaml_type::scalar)) {
    if (auto scheme = read_preset(in, field, field.node->text)) add_stage(in, keys, field, "group_0", keys.targets, *std::move(scheme), out);
    return;
  }
  const auto entries = in.entries(field);
  if (entries.empty() && field.is(yaml_type::map)) return in.fail(field, "an empty scheme", "name a preset");
  const auto& scheme_keys = llmcompressor::scheme_keys;
  const bool written_out = !entries.empty() && std::find(scheme_keys.begin(), scheme_keys.end(), entries[0].key) != scheme_keys.end();
  if (written_out) {
    const auto targets = in.get_set(field, "targets");
    if (targets && keys.targets_field) in.fail(*targets, "targets are written twice", "remove one of them");
    add_stage(in, keys, field, "group_0", targets ? read_targets(in, field, targets) : keys.targets, read_scheme(in, field), out);
    return;
  }
  if (keys.targets_field && keys.targets != std::vector<std::string>{"Linear"})
    in.fail(*keys.targets_field, "targets have no effect beside a scheme with its own targets", "remove them");
  std::size_t group = 0;
  for (const yaml_field& e : entries) {
    auto scheme = read_preset(in, e, e.key);
    auto targets = read_targets(in, e, e);
    if (scheme) add_stage(in, keys, e, "group_" + std::to_string(group), std::move(targets), *std::move(scheme), out);
    ++group;
  }
}

QLIB_INLINE void read_config_groups(const yaml_reader& in, const yaml_field& field, const llmcompressor::common_keys& keys, recipe& out) {
  std::vector<std::string> all_targets;
  for (const yaml_field& group : in.entries(field)) {
    std::string name = group.key;
    if (group.is(yaml_type::map)) {
      auto scheme = read_scheme(in, group);
      auto targets = read_targets(in, group, in.get_set(group, "targets"));
      all_targets.insert(all_targets.end(), targets.begin(), targets.end());
      add_stage(in, keys, group, std::move(name), std::move(targets), std::move(scheme), out);
    } else {  // preset: [targets]
      auto scheme = read_preset(in, group, name);
      auto targets = read_targets(in, group, group);
      all_targets.insert(all_targets.end(), targets.begin(), targets.end());
      if (scheme) add_stage(in, keys, group, std::move(name), std::move(targets), *std::move(scheme), out);
    }
  }
  // LLM-Compressor's own recipes repeat the default, [Linear], beside groups.
  if (keys.targets_field && keys.targets != std::vector<std::string>{"Linear"} && keys.targets != all_targets)
    in.fail(*keys.targets_field, "targets have no effect beside config_groups", "write them into the groups");
}

/// What a modifier quantizes to; its keys have been checked.
QLIB_INLINE void read_quantization(const yaml_reader& in, const yaml_field& map, recipe& out) {
  namespace known = llmcompressor;

  known::common_keys keys;
  if ((keys.targets_field = in.get_set(map, "targets"))) keys.targets = read_targets(in, *keys.targets_field, keys.targets_field);
  if (const auto f = in.get_set(map, "ignore")) keys.ignore = in.patterns(*f, pattern_syntax::compressed_tensors);
  if (const auto f = in.get_set(map, "weight_observer")) keys.weight_observer = read_observer(in, *f, true).value_or("");
  for (const std::string_view key : {"bypass_divisibility_checks", "requires_calibration_data"})
    if (const auto f = in.get_set(map, key)) (void)in.boolean(*f);
  if (const auto f = in.get_set(map, "actorder"))
    in.fail(*f, "actorder is part of GPTQ, which is not built yet in this version", "set actorder: null");
  if (const auto f = in.get_set(map, "input_observer")) keys.input_observer = read_observer(in, *f, false).value_or("");
  if (const auto f = in.get_set(map, "kv_cache_scheme"))
    if (auto args = read_quantization_args(in, *f, false)) {
      attention_stage s;
      s.name = "kv_cache_scheme";
      s.targets = {"Attention"};
      s.where = in.where(f->line);
      if (args->observer.empty()) args->observer = "minmax";
      s.observer = s.value_observer = input_observer_of(*args);
      s.args = *std::move(args);
      if (s.args.dynamic) in.fail(*f, "a dynamic cache has no scales to store", "set dynamic: false");
      else out.attention.push_back(std::move(s));
    }

  const std::size_t first = out.stages.size(), before = in.failures();
  const auto scheme = in.get_set(map, "scheme"), groups = in.get_set(map, "config_groups");
  if (scheme && groups)
    in.fail(*scheme, "scheme and config_groups (line " + std::to_string(groups->line) + ") exclude each other", "remove one of them");
  else if (scheme) read_scheme_key(in, *scheme, keys, out);
  else if (groups) read_config_groups(in, *groups, keys, out);
  if (in.failures() == before && out.stages.size() == first && out.attention.empty())
    in.fail(map, "nothing says what to quantize to", "give scheme, for example scheme: W8A8, or config_groups");

  const bool dynamic = std::any_of(out.stages.begin() + static_cast<std::ptrdiff_t>(first), out.stages.end(),
                                   [](const stage& s) { return s.scheme.input_activations.has_value(); });
  for (const std::string_view key : {"input_observer", "output_observer"})
    if (const auto f = in.get_set(map, key)) {
      if (key == "output_observer") (void)read_observer(in, *f, false);  // the other was read above
      if (in.failures() == before && !dynamic) in.fail(*f, "no scheme here quantizes activations", "remove it");
    }
}

QLIB_INLINE void read_quantization_modifier(const yaml_reader& in, const yaml_field& map, recipe& out) {
  if (!map.is(yaml_type::null) && !in.expect(map, yaml_type::map)) return;
  in.only_keys(map, llmcompressor::modifier_keys);
  read_quantization(in, map, out);
}

/// AWQModifier quantizes too, if it has the keys of QuantizationModifier.
QLIB_INLINE void read_awq_modifier(const yaml_reader& in, const yaml_field& map, recipe& out) {
  std::vector<std::string_view> keys{llmcompressor::awq_keys.begin(), llmcompressor::awq_keys.end()};
  for (const std::string_view key : llmcompressor::modifier_keys)
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  read_awq(in, map, keys, out);
  if (map.is(yaml_type::map) && (in.get_set(map, "scheme") || in.get_set(map, "config_groups"))) read_quantization(in, map, out);
}

QLIB_INLINE void read_modifier(const yaml_reader& in, const yaml_field& field, recipe& out) {
  const yaml_field map{field.node, field.line, field.key, field.key};
  if (field.key == "QuantizationModifier") read_quantization_modifier(in, map, out);
  else if (field.key == "SmoothQuantModifier") read_smooth_quant(in, map, out);
  else if (field.key == "AWQModifier") read_awq_modifier(in, map, out);
  else if (field.key == "SpinQuantModifier") read_spin_quant(in, map, out);
  else (void)in.one_of(field, field.key, {"modifier", llmcompressor::modifiers, llmcompressor::unbuilt_modifiers});
}

enum class llmcompressor_level { document, stage, group };

QLIB_INLINE void read_level(const yaml_reader& in, const yaml_field& field, llmcompressor_level level, recipe& out) {
  if (field.is(yaml_type::sequence)) {
    for (const yaml_field& item : in.items(field))
      if (in.expect(item, yaml_type::map)) read_level(in, item, level, out);
    return;
  }
  for (const yaml_field& e : in.entries(field)) {
    const std::string& key = e.key;
    if (level == llmcompressor_level::group || key.ends_with("Modifier")) read_modifier(in, e, out);
    else if (key.ends_with("_modifiers") || key == "modifiers") read_level(in, e, llmcompressor_level::group, out);
    else if (level == llmcompressor_level::document) read_level(in, e, llmcompressor_level::stage, out);
    else if (key == "run_type" && e.is(yaml_type::scalar) && e.node->text == "oneshot") continue;
    else in.fail(e, "unknown key '" + key + "' in a stage", "known: <name>_modifiers, run_type: oneshot, " + comma_list(llmcompressor::modifiers));
  }
}

QLIB_INLINE void read_llmcompressor(const yaml_reader& in, const yaml_field& document, recipe& out) {
  out.source = "llmcompressor";
  const std::size_t before = in.failures();
  if (document.is(yaml_type::scalar)) {
    (void)in.expect(document, yaml_type::map);
    return;
  }
  read_level(in, document, llmcompressor_level::document, out);
  if (in.failures() == before && out.stages.empty() && out.attention.empty())
    in.fail(document, out.suppression.empty() ? "the recipe has no modifier" : "nothing is quantized behind the modifiers that rescale",
            "known: " + comma_list(llmcompressor::modifiers));
}

}  // namespace qlib::inline v0::detail
