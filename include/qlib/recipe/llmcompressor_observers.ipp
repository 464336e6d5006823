/// Observers of LLM-Compressor's recipes. Part of llmcompressor.ipp.
#pragma once
#include <qlib/observer/mse.hpp>
#include <qlib/recipe/policy_options.hpp>
#include <qlib/recipe/recipe.hpp>
#include <qlib/recipe/yaml_tree.hpp>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace qlib::inline v0::detail {

namespace llmcompressor {

// One set of weights is observed once: the first three then see the same range, the last two make the same search.
inline constexpr std::array<std::string_view, 5> weight_observers{"minmax", "memoryless_minmax", "static_minmax", "mse", "memoryless_mse"};
inline constexpr std::array<std::string_view, 3> unbuilt_weight_observers{"static_mse", "imatrix_mse", "nvfp4_expanded_mse"};
inline constexpr std::array<std::string_view, 4> observers{"minmax", "memoryless_minmax", "static_minmax", "mse"};
inline constexpr std::array<std::string_view, 4> unbuilt_observers{"memoryless_mse", "static_mse", "imatrix_mse", "nvfp4_expanded_mse"};
inline constexpr std::array<std::string_view, 7> mse_keys{"grid", "maxshrink", "norm", "expand", "patience", "chunk_size", "averaging_constant"};
inline constexpr std::array<std::string_view, 1> minmax_keys{"averaging_constant"};

}  // namespace llmcompressor

QLIB_INLINE std::optional<std::string> read_observer(const yaml_reader& in, const yaml_field& field, bool weights) {
  namespace known = llmcompressor;
  if (weights) return in.one_of(field, {"observer", known::weight_observers, known::unbuilt_weight_observers});
  return in.one_of(field, {"observer", known::observers, known::unbuilt_observers});
}

/// observer_kwargs of mse. `chunk_size`, which is about memory, decides nothing here. Nor do two more for weights: `patience` ends the search
/// before its last candidates, which are all tried here, and one weight is one sample, so that nothing is averaged.
QLIB_INLINE void read_mse_options(const yaml_reader& in, const yaml_field& map, bool weights, quantization_args& args) {
  if (!in.expect(map, yaml_type::map)) return;
  in.only_keys(map, llmcompressor::mse_keys);
  mse_options options;
  for (const yaml_field& e : in.entries(map)) {
    const auto text = in.text(e);
    if (!text) continue;
    const bool whole = e.key == "grid" || e.key == "patience" || e.key == "chunk_size";
    if (whole ? !value_of<int>(*text) : !value_of<double>(*text)) {
      in.fail(e, "'" + *text + "' is no " + (whole ? "whole " : "") + "number");
      continue;
    }
    if (e.key == "chunk_size" || (weights && (e.key == "patience" || e.key == "averaging_constant"))) continue;
    args.observer_options.emplace_back(e.key, *text);
    if (!set_options(options, {"mse", {args.observer_options.back()}}, {}))
      if (auto wrong = mse_observer::check(options)) in.fail(e, *std::move(wrong));
  }
}

/// observer_kwargs of minmax: the weight of each sample after the first, which decides nothing for weights, one sample.
QLIB_INLINE void read_minmax_options(const yaml_reader& in, const yaml_field& map, bool weights, quantization_args& args) {
  if (!in.expect(map, yaml_type::map)) return;
  in.only_keys(map, llmcompressor::minmax_keys);
  for (const yaml_field& e : in.entries(map)) {
    const auto text = in.text(e);
    if (!text) continue;
    const auto constant = value_of<double>(*text);
    if (!constant || *constant < 0 || *constant > 1) in.fail(e, "'" + *text + "' is no weight of a sample", "give a number from 0 to 1");
    else if (!weights) args.observer_options.emplace_back(e.key, *text);
  }
}

/// What LLM-Compressor calls `minmax` is, for activations, a moving average that begins with the first batch; so is its `mse`, of ranges whose
/// search ends after five steps that find nothing.
QLIB_INLINE policy_choice input_observer_of(const quantization_args& args) {
  if (args.observer == "minmax") return {"moving_average", args.observer_options};
  if (args.observer != "mse") return {"minmax", {}};  // of all samples; as memoryless_minmax has it, only with --compat (pipeline/planner.ipp)
  policy_choice mse{"mse", args.observer_options};
  const auto is_patience = [](const auto& option) { return option.first == "patience"; };
  if (std::none_of(mse.options.begin(), mse.options.end(), is_patience)) mse.options.emplace_back("patience", "5");
  return mse;
}

QLIB_INLINE policy_choice weight_observer_of(const quantization_args& args) {
  if (args.observer.ends_with("mse")) return {"mse", args.observer_options};
  return {"minmax", {}};
}

}  // namespace qlib::inline v0::detail
