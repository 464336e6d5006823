/// What a calibration pass found.
#pragma once
#include <qlib/core/range.hpp>
#include <qlib/model/folds.hpp>
#include <qlib/pipeline/magnitude_histogram.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// Parameters of one calibrated operand, a value a tile of its granularity.
struct operand_parameters {
  std::vector<float> scales;
  std::vector<std::int32_t> zero_points;  ///< empty for symmetric specs
  range seen = range::empty();            ///< of everything that passed
  double range_score = 0;                 ///< largest magnitude over standard deviation: how much outliers rule the range
  std::size_t tokens = 0;
  std::optional<magnitude_histogram> histogram = {};  ///< of everything that passed, if it was asked for
};

/// What came of one sub-graph that a recipe rescales.
struct suppression_report {
  std::string source, kind, suppressor;
  /// Sum of squared output errors over the sum of squared outputs, as if the linears behind it were quantized: without, and with the transform.
  double error_before = 0, error_after = 0;
  bool kept = false;                ///< false: the error would have grown, or no token came by: nothing is rescaled
  std::size_t dead = 0;             ///< channels that are always the same: scale 1
  std::size_t limited = 0;          ///< channels whose scale the dtype of the gain could not hold
  float smallest = 1, largest = 1;  ///< scale
};

struct calibration {
  std::vector<operand_parameters> operands;      ///< as quantization_plan::operands
  model_folds folds;                             ///< what suppression does to the weights
  std::vector<suppression_report> suppressions;  ///< as quantization_plan::suppressions
  std::size_t samples = 0, tokens = 0;
  std::string products;               ///< what computed the matrix products
  std::vector<std::string> warnings;  ///< experts that saw few tokens, and the like
};

}  // namespace qlib::inline v0
