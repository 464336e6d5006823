#pragma once
#include <qlib/core/view.hpp>

#include <cstddef>
#include <span>

namespace qlib::inline v0 {

/// What a policy wants to know about a layer's inputs. Only what somebody needs is collected; `nothing` makes a recipe data-free.
enum class needs : unsigned {
  nothing = 0,
  column_absmax = 1,      ///< max |x| of each input channel
  column_range = 2,       ///< min and max of each input channel
  gram = 4,               ///< sum of x xT over tokens, [in_features, in_features]
  column_mean = 8,        ///< mean |x| of each input channel
  column_deviation = 16,  ///< how far values scatter around the middles of their channels
  inputs = 32,            ///< some of the tokens as they are
};
constexpr needs operator|(needs a, needs b) { return static_cast<needs>(static_cast<unsigned>(a) | static_cast<unsigned>(b)); }
constexpr bool includes(needs set, needs one) { return (static_cast<unsigned>(set) & static_cast<unsigned>(one)) != 0; }

/// Calibration statistics of one layer input, owned by the calibration pass. Empty where nobody needed them.
struct statistics_view {
  std::span<const float> column_absmax = {};                ///< [in_features]
  std::span<const float> column_min = {}, column_max = {};  ///< [in_features]
  std::span<const float> column_mean = {};                  ///< [in_features]: mean |x|
  /// [2 samples, in_features]: of sample i the smallest values in row 2 i, the largest in row 2 i + 1.
  matrix_view<const float> sample_ranges = {};
  /// The largest, over the samples, standard deviation of all values of a sample after (min + max) / 2 of what was seen until then was
  /// subtracted from each channel.
  float deviation = 0;
  matrix_view<const float> inputs = {};  ///< [rows, in_features]: tokens spread over the samples, in order
  std::size_t first_inputs = 0;          ///< how many rows of `inputs` are the first sample's
  matrix_view<const float> gram = {};    ///< [in_features, in_features], symmetric
  std::size_t tokens = 0;
};

}  // namespace qlib::inline v0
