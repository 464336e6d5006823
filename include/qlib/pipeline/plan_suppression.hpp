/// Which sub-graphs a recipe rescales, and which tensors change for it: known before any number is.
#pragma once
#include <qlib/model/description.hpp>
#include <qlib/model/parameters.hpp>
#include <qlib/recipe/recipe.hpp>

#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace qlib::inline v0 {

struct quantization_plan;

/// What folding touches.
struct folded_names {
  std::set<std::string, std::less<>> matrices;  ///< modules whose weights change
  std::set<std::string, std::less<>> vectors;   ///< tensors that are replaced: gains and biases
  /// Tensors of `vectors` that the checkpoint does not have, and their lengths.
  std::vector<std::pair<std::string, std::size_t>> made;
};

/// `model` has the names of `source`; `scheme_of` says how a module will be quantized, null: not at all. Errors: a pattern or policy that is wrong,
/// a mapping whose layers are none or do not belong together. Warnings: patterns and mappings without effect, mappings that do not name all that is
/// balanced, stages that rescale nothing, searches that are told to quantize to something else, shifts that no bias can take.
errors plan_suppressions(const recipe& r, const model_description& model, const parameter_source& source,
                         const std::function<const scheme*(const std::string&)>& scheme_of, quantization_plan& plan, folded_names& folded);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/plan_suppression.ipp>
#endif
