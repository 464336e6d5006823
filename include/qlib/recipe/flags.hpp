/// A recipe from the flags of the command line, msModelSlim's names and meaning.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/recipe/recipe.hpp>

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// What the user gave; the initial values mean "not given".
struct quant_flags {
  std::string quant_type{};  ///< any case; empty: made of w_bit, a_bit (8 each if not given) and is_dynamic
  int w_bit = 0, a_bit = 0;
  std::optional<bool> w_sym{};
  std::size_t group_size = 0;                ///< w8a16: default per channel; w4a16: default 128
  std::vector<std::string> disable_names{};  ///< exact module names, or globs (`*`, `?`, `[seq]`, `{a,b}`) over whole names
  std::vector<std::string> targets{};        ///< default "Linear"; compressed-tensors' syntax, as in `ignore`
  std::vector<std::string> ignore{};
  std::string observer{}, rounder{};   ///< of weights; default minmax, rtn
  std::optional<double> percentile{};  ///< with observer percentile: its upper end, above 50 to 100; default 99.9
  std::optional<bool> is_dynamic{};
  int act_method = 0;  ///< of static activations: 1 min-max (mean of samples), 2 histogram, 3 either by range score; 0: 3
  std::optional<bool> pdmix{}, use_kvcache_quant{};
  std::string anti_method{};  ///< outlier suppression: m1 to m6, or a suppressor's name; empty: none
};

/// The outlier suppression of msModelSlim's `anti_method`: m1 smooth_quant, m2 threshold_smooth, m3 awq, m4 iter_smooth, m5 cbq_mask, m6
/// flex_smooth_quant, with its choice of sub-graphs (of m3 that of `awq` in its newer recipes: all); or of a suppressor by its registry name, on all
/// sub-graphs. Nothing: unknown.
std::optional<suppression_stage> find_anti_method(std::string_view name);

/// The quant types that `recipe_from_flags` accepts, and those that exist but are not built yet.
std::span<const std::string_view> built_quant_types();
std::span<const std::string_view> unbuilt_quant_types();

/// The observers that a weight's range can be found with.
std::span<const std::string_view> weight_observers();

/// One stage named after the flags. As msModelSlim does, "lm_head" is ignored, unless a target is written exactly so.
/// Globs in `disable_names` become "re:" patterns. Returns every error; flags that contradict each other are named both.
errors recipe_from_flags(const quant_flags& flags, recipe& out);

/// Puts a stage before those of a recipe from flags whose inputs are static: routed experts are W8A8_DYNAMIC. vLLM-Ascend has no other int8 scheme
/// for them, and msModelSlim's recipes for mixtures of experts do the same (docs/formats.md). False: nothing to change.
bool make_experts_dynamic(recipe& r);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/recipe/flags.ipp>
#endif
