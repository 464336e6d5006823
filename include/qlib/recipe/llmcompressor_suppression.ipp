/// LLM-Compressor's SmoothQuantModifier and AWQModifier. Part of llmcompressor.ipp.
#pragma once
#include <qlib/recipe/recipe.hpp>
#include <qlib/recipe/yaml_option.hpp>
#include <qlib/recipe/yaml_tree.hpp>

#include <array>

namespace qlib::inline v0::detail {

namespace llmcompressor {

inline constexpr std::array<std::string_view, 7> smooth_quant_keys{
    "smoothing_strength", "mappings", "ignore", "num_calibration_steps", "calibration_function", "algorithm", "requires_calibration_data"};
inline constexpr std::array<std::string_view, 6> awq_keys{"mappings", "ignore",         "duo_scaling",
                                                          "n_grid",   "offload_device", "requires_calibration_data"};
inline constexpr std::array<std::string_view, 3> mapping_keys{"smooth_layer", "balance_layers", "activation_hook_target"};
inline constexpr std::array<std::string_view, 2> smooth_algorithms{"smoothquant", "log_equalization"};

inline constexpr std::array<std::string_view, 10> spin_quant_keys{"rotations",        "transform_type",           "randomize", "learnable",
                                                                  "precision",        "transform_block_size",     "mappings",  "norm_mappings",
                                                                  "transform_config", "requires_calibration_data"};
inline constexpr std::array<std::string_view, 2> rotations{"R1", "R2"};
inline constexpr std::array<std::string_view, 2> online_rotations{"R3", "R4"};
inline constexpr std::array<std::string_view, 2> transform_types{"hadamard", "random-hadamard"};
inline constexpr std::array<std::string_view, 1> unbuilt_transform_types{"random-matrix"};

}  // namespace llmcompressor

/// Both sides of each mapping. What is balanced is, as it must be, everything that reads the smoothed side: a plan compares the other with it.
inline void read_mappings(const yaml_reader& in, const yaml_field& list, suppression_stage& out) {
  if (!in.expect(list, yaml_type::sequence)) return;
  if (list.node->items.empty()) in.fail(list, "an empty list: nothing would be rescaled", "remove it to have the default, or remove the modifier");
  for (const yaml_field& item : in.items(list)) {
    std::optional<yaml_field> smooth, balance, hook;
    if (item.is(yaml_type::map)) {  // AWQ's
      in.only_keys(item, llmcompressor::mapping_keys);
      smooth = in.get_set(item, "smooth_layer");
      balance = in.get_set(item, "balance_layers");
      hook = in.get_set(item, "activation_hook_target");
    } else if (in.expect(item, yaml_type::sequence)) {  // SmoothQuant's pair, and AWQ's with the layers the other way round
      const auto pair = in.items(item);
      if (pair.size() != 2) {
        in.fail(item, std::to_string(pair.size()) + " entries", "give two: [balance_layers, smooth_layer]");
        continue;
      }
      const bool smooth_first = pair[0].is(yaml_type::scalar) && pair[1].is(yaml_type::sequence);
      balance = pair[smooth_first ? 1 : 0];
      smooth = pair[smooth_first ? 0 : 1];
    } else {
      continue;
    }
    if (!smooth || !balance) {
      in.fail(item, "a mapping without smooth_layer and balance_layers");
      continue;
    }
    const std::size_t before = in.failures();
    smoothing_mapping m;
    m.name = item.path;
    m.where = in.where(item.line);
    m.smooth = in.patterns(*smooth, pattern_syntax::compressed_tensors);
    m.balance = in.patterns(*balance, pattern_syntax::compressed_tensors);
    if (hook) m.hook = in.text(*hook).value_or("");
    if (in.failures() == before && m.smooth.empty()) in.fail(item, "a mapping without a layer to smooth", "name the layer whose output is divided");
    if (in.failures() == before && m.balance.empty()) in.fail(item, "a mapping without balance_layers", "name the layers that read the smoothed one");
    out.targets.insert(out.targets.end(), m.smooth.begin(), m.smooth.end());
    out.mappings.push_back(std::move(m));
  }
}

inline suppression_stage suppression_of(const yaml_reader& in, const yaml_field& map, const yaml_field& mappings_and_ignore, std::string suppressor) {
  suppression_stage s;
  s.name = map.key;
  s.where = in.where(map.line);
  s.suppressor.name = std::move(suppressor);
  s.ov = s.up_down = false;
  if (const auto f = in.get_set(mappings_and_ignore, "mappings")) {
    read_mappings(in, *f, s);
    s.ov = s.up_down = true;
  }
  if (const auto f = in.get_set(mappings_and_ignore, "ignore")) s.ignore = in.patterns(*f, pattern_syntax::compressed_tensors);
  return s;
}

inline void read_smooth_quant(const yaml_reader& in, const yaml_field& map, recipe& out) {
  if (!map.is(yaml_type::null) && !in.expect(map, yaml_type::map)) return;
  in.only_keys(map, llmcompressor::smooth_quant_keys);
  suppression_stage s = suppression_of(in, map, map, "smooth_quant");
  s.experts = !s.mappings.empty();  // of the default mappings its own rule: one scale for all experts hurt
  s.suppressor.options.emplace_back("statistic", "range");
  if (const auto f = in.get_set(map, "smoothing_strength"))
    if (auto text = in.text(*f)) read_suppressor_option(in, *f, "alpha", *std::move(text), s.suppressor);
  if (const auto f = in.get_set(map, "num_calibration_steps")) (void)in.integer(*f, 1, std::int64_t{1} << 40);
  if (const auto f = in.get_set(map, "calibration_function")) in.fail(*f, "a function of Python cannot be called", "remove it");
  if (const auto f = in.get_set(map, "requires_calibration_data")) (void)in.boolean(*f);
  if (const auto f = in.get_set(map, "algorithm"))
    if (const auto name = in.one_of(*f, {"algorithm", llmcompressor::smooth_algorithms}); name && *name == "log_equalization")
      s.suppressor.options.emplace_back("log_equalization", "true");
  out.suppression.push_back(std::move(s));
}

/// `keys`: all that the modifier may have. It may say what to quantize to as well, which the caller reads.
inline void read_awq(const yaml_reader& in, const yaml_field& map, std::span<const std::string_view> keys, recipe& out) {
  if (!map.is(yaml_type::null) && !in.expect(map, yaml_type::map)) return;
  in.only_keys(map, keys);
  suppression_stage s = suppression_of(in, map, map, "awq");
  s.ov = s.up_down = true;
  if (const auto f = in.get_set(map, "duo_scaling")) {
    if (const auto text = in.text(*f))
      read_suppressor_option(in, *f, "duo_scaling", *text == "True" ? "true" : *text == "False" ? "false" : *text, s.suppressor);
  } else {
    s.suppressor.options.emplace_back("duo_scaling", "true");
  }
  s.suppressor.options.emplace_back("inclusive", "true");
  if (const auto f = in.get_set(map, "n_grid"))
    if (const auto n = in.integer(*f, 1, 10000)) s.suppressor.options.emplace_back("n_grid", std::to_string(*n));
  if (const auto f = in.get_set(map, "offload_device")) (void)in.text(*f);
  if (const auto f = in.get_set(map, "requires_calibration_data")) (void)in.boolean(*f);
  out.suppression.push_back(std::move(s));
}

inline void read_spin_quant(const yaml_reader& in, const yaml_field& map, recipe& out) {
  namespace known = llmcompressor;
  if (!map.is(yaml_type::null) && !in.expect(map, yaml_type::map)) return;
  in.only_keys(map, known::spin_quant_keys);
  if (out.rotation || !out.suppression.empty()) return in.fail(map, "a rotation comes first, and once", "move it to the front of the recipe");
  rotation_stage s;
  s.name = map.key;
  s.where = in.where(map.line);
  s.random_signs = false;
  s.strict_heads = true;
  if (const auto f = in.get_set(map, "rotations")) {
    s.residual = s.heads = false;
    for (const yaml_field& item : in.items(*f))
      if (const auto name = in.one_of(
              item, {"rotation", known::rotations, known::online_rotations, "an online rotation: no engine that qlib writes for multiplies by it"})) {
        s.residual |= *name == "R1";
        s.heads |= *name == "R2";
      }
  }
  if (const auto f = in.get_set(map, "transform_type"))
    if (const auto type = in.one_of(*f, {"transform_type", known::transform_types, known::unbuilt_transform_types}))
      s.random_signs = *type == "random-hadamard";
  for (const std::string_view key : {"randomize", "learnable"})
    if (const auto f = in.get_set(map, key); f && in.boolean(*f).value_or(false)) in.fail(*f, "not built yet in this version", "set it to false");
  if (const auto f = in.get_set(map, "transform_block_size"))
    s.block_size = static_cast<std::size_t>(in.integer(*f, 1, std::int64_t{1} << 30).value_or(0));
  for (const std::string_view key : {"mappings", "norm_mappings", "transform_config"})
    if (const auto f = in.get_set(map, key))
      in.fail(*f, "is not needed: what reads and writes the residual stream is known of every family", "remove it");
  out.rotation = std::move(s);
}

}  // namespace qlib::inline v0::detail
