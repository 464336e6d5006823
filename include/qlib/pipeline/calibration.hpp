/// What a calibration pass found.
#pragma once
#include <qlib/core/range.hpp>
#include <qlib/model/folds.hpp>
#include <qlib/pipeline/magnitude_histogram.hpp>
#include <qlib/pipeline/suppression_report.hpp>

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

struct calibration {
  std::vector<operand_parameters> operands;      ///< as quantization_plan::operands
  model_folds folds;                             ///< what suppression does to the weights
  std::vector<suppression_report> suppressions;  ///< as quantization_plan::suppressions
  std::size_t samples = 0, tokens = 0;
  std::string products;               ///< what computed the matrix products
  std::vector<std::string> warnings;  ///< experts that saw few tokens, and the like
  std::vector<std::string> floats;    ///< linears that stay float for their range scores: the plan it belongs to quantizes them no more
};

}  // namespace qlib::inline v0
