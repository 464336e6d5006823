#pragma once
#include <qlib/config.hpp>

#include <cstddef>
#include <string>

namespace qlib::inline v0 {

/// What came of one sub-graph that a recipe rescales.
struct suppression_report {
  std::string source = {}, kind = {}, suppressor = {};
  /// Sum of squared output errors over the sum of squared outputs, as if the linears behind it were quantized: without, and with the transform.
  /// Both 0: not compared.
  double error_before = 0, error_after = 0;
  bool kept = false;                ///< false: the error would have grown, or no token came by: nothing is rescaled
  std::size_t dead = 0;             ///< channels that are always the same: scale 1
  std::size_t limited = 0;          ///< channels whose gain the dtype could not hold: scale 1
  float smallest = 1, largest = 1;  ///< scale
};

}  // namespace qlib::inline v0
