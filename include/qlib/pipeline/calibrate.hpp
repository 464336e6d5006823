/// The calibration pass: runs the float model over samples, and finds what a plan asks for.
#pragma once
#include <qlib/model/decoder.hpp>
#include <qlib/pipeline/calibration.hpp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/suppress.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace qlib::inline v0 {

struct calibration_progress {
  std::size_t layers_done = 0, layers = 0;
  double work_done = 0;    ///< part of all floating-point operations, 0 to 1
  double work_before = 0;  ///< of these, what an interrupted pass had done
};

/// Where a pass leaves what it knows between two layers, so that another one can go on after it is killed.
struct keep_pass {
  std::string path;       ///< of a file; its folder is made
  std::uint64_t key = 0;  ///< calibration_key
  bool resume = false;    ///< go on where the file ends, if it is there
  double seconds = 20;    ///< between two writes; more where a write takes more than a twentieth of it. 0: after every layer
};

struct calibrate_options {
  /// Experts that saw fewer tokens are named in the warnings.
  std::size_t few_tokens = 16;
  bool histograms = false;   ///< fill operand_parameters::histogram: one more read of every input
  bool range_scores = true;  ///< fill operand_parameters::range_score
  suppress_options suppress = {};
  /// Token ids that sub-graphs are solved with instead of the samples that operands see; empty: the same ones.
  std::span<const std::vector<std::int32_t>> suppress_samples = {};
  std::optional<keep_pass> keep = {};
  std::function<void(const calibration_progress&)> on_progress = {};
};

/// Observes every operand of `plan.operands` over `samples` of token ids, layer by layer in one pass: the residual stream of all samples
/// is one buffer [tokens, hidden_size] of f32, updated in place, and each layer's weights are resident while it runs.
///
/// Sub-graphs of `plan.suppressions` are solved layer by layer from the same pass. Ranges behind them follow from what was seen before them
/// where observers ask for extremes alone; for other observers, histograms and range scores the layer runs a second time. With samples of their
/// own, these run through each layer first, in a second buffer.
///
/// Linears that read the same rows share one observer. An operand of an expert that no token reached takes the joined range of the
/// layer's other experts, and a warning says so. The result does not depend on the number of threads, nor on where a kept pass was interrupted.
/// Errors: activations that become NaN or infinite (names layer, sample, channel), ids outside of the vocabulary, an operand that the model never
/// computed.
result<calibration> calibrate(const decoder& model, const quantization_plan& plan, std::span<const std::vector<std::int32_t>> samples,
                              const calibrate_options& options = {});

/// What a plan without operands and sub-graphs has to find: the folds of its rotation, if it has one.
result<calibration> rotate_only(const quantization_plan& plan, const parameter_source& source);

/// The linears with the highest range scores of their inputs, highest first: `count` groups of equal score, as msModelSlim's LayerSelector counts
/// `disable_level`, so that layers which read the same input go together and count once. A group brings along what engines load into one matrix with
/// one of its linears (format/fused_groups.hpp): all experts of a layer.
std::vector<std::string> layers_by_range_score(const quantization_plan& plan, const calibration& found, std::size_t count);

/// How many groups layers_by_range_score has at most: those that are loaded into one matrix count once.
std::size_t most_range_groups(const quantization_plan& plan);

/// What was found for `from`, in the order of `to`, whose operands are among those of `from`.
calibration for_plan(const calibration& found, const quantization_plan& from, const quantization_plan& to);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/calibrate.ipp>
#endif
