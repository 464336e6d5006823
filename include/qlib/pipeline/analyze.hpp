/// Which layers lose most when they are quantized, and which to keep float.
#pragma once
#include <qlib/model/decoder.hpp>
#include <qlib/pipeline/calibration.hpp>
#include <qlib/pipeline/fused_layers.hpp>
#include <qlib/pipeline/plan.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// What layers are ranked by, cheapest first; L is the number of layers, G that of fused_layers in one.
enum class sensitivity_metric {
  range,  ///< largest magnitude over standard deviation of the input, as --disable_level: 1 forward
  mse,    ///< error of the layer's own output, part of its mean square: about 3 forwards
  kl,     ///< KL(float ‖ this one quantized) of the next token: about G (L + 1) / 2 forwards
};

constexpr std::string_view name_of(sensitivity_metric m) {
  switch (m) {
    case sensitivity_metric::range:
      return "range";
    case sensitivity_metric::mse:
      return "mse";
    default:
      return "kl";
  }
}

struct layer_sensitivity {
  fused_layers layers;
  double range_score = 0;         ///< the largest of its inputs; of found operands where the plan has them
  std::optional<double> mse, kl;  ///< mse: sum of squared errors over that of squares, mean over its linears by the rows they saw
};

/// What a run will cost, before it begins.
struct analysis_cost {
  sensitivity_metric metric = sensitivity_metric::kl;
  double operations = 0;     ///< floating-point
  double forwards = 0;       ///< the same, in forward passes of these tokens with their logits
  double seconds = 0;        ///< at the speed that the float forward had; 0 when nothing is left to do
  std::uint64_t memory = 0;  ///< bytes at most, weights that are resident included
};

struct analysis_progress {
  std::size_t groups_done = 0, groups = 0;
  double work_done = 0;  ///< part of all operations, 0 to 1
};

struct analyze_options {
  /// Without: kl up to kl_operations, mse beyond.
  std::optional<sensitivity_metric> metric = {};
  double kl_operations = 1e15;
  std::size_t tokens = 2048;  ///< the first of the samples; the last one is cut there
  decoder_options forward = {};
  std::size_t keep = 0;                                     ///< keep so many of the most sensitive float
  std::optional<std::uint64_t> budget = {};                 ///< or as many as make the result at most so many bytes larger, by sensitivity a byte
  std::uint64_t max_memory = 0;                             ///< bytes; 0: no limit
  std::function<void(const analysis_cost&)> on_start = {};  ///< after the float forward
  std::function<void(const analysis_progress&)> on_progress = {};
};

struct analysis {
  analysis_cost cost;
  std::vector<layer_sensitivity> layers;  ///< most sensitive first; equal ones in model order
  std::size_t samples = 0, tokens = 0;
  std::optional<double> kl_all;   ///< everything quantized; of metric kl
  std::vector<std::size_t> kept;  ///< indices into `layers`, ascending: what keep or budget keeps float
  std::uint64_t added_bytes = 0;  ///< what that adds to the result
  std::optional<double> kl_kept;  ///< everything else quantized; of metric kl with something kept
  std::string products;           ///< what computed the matrix products
  std::vector<std::string> warnings;

  double score(const layer_sensitivity& l) const;

  /// What `--disable_names` takes, in model order.
  std::vector<std::string> disable_names() const;
};

/// Quantizes one group of fused layers at a time, weights and inputs as the plan's engine has them, and measures what that changes against the
/// float model. Quantized caches and attention stay float. `found`: of plans with operands, else null.
///
/// The float states enter each layer once; from there the groups of that layer run to the logits, side by side. Memory: G + 2 states of all
/// tokens, and one layer. The result does not depend on the number of threads. Errors: no token, types that are not simulated, a weight, state or
/// logit that is not finite, max_memory.
result<analysis> analyze(const model_description& description, const parameter_source& floats, const quantization_plan& plan,
                         const calibration* found, std::span<const std::vector<std::int32_t>> samples, const analyze_options& options = {});

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/analyze.ipp>
#endif
