/// LLM-Compressor's recipe language: stages of groups of modifiers, of which `QuantizationModifier` is built.
#pragma once
#include <qlib/recipe/recipe.hpp>
#include <qlib/recipe/yaml_tree.hpp>

namespace qlib::inline v0::detail {

/// Accepts `<stage>: <x>_modifiers: <Modifier>: {...}`, and the same with the stage, or stage and group, left out; each map may also
/// be a list of maps. Every config group, preset or scheme becomes one stage of the recipe.
///
/// Keys that LLM-Compressor has and that cannot change a data-free result are checked and then have no effect:
/// `requires_calibration_data`; `bypass_divisibility_checks` (shapes that a group size does not divide stay an error of the plan);
/// observers of dynamic activations (LLM-Compressor sets them to null).
void read_llmcompressor(const yaml_reader& in, const yaml_field& document, recipe& out);

/// compressed-tensors' QuantizationArgs; `weights` tells which operand. Empty after an error.
std::optional<quantization_args> read_quantization_args(const yaml_reader& in, const yaml_field& map, bool weights);

}  // namespace qlib::inline v0::detail

#if !defined(QLIB_COMPILED)
#include <qlib/recipe/llmcompressor.ipp>
#endif
