#pragma once
#include <qlib/core/view.hpp>

#include <cstddef>
#include <span>

namespace qlib::inline v0 {

/// What a policy wants to know about a layer's inputs. Only what somebody needs is collected; 0 makes a recipe data-free.
enum class needs : unsigned {
  nothing = 0,
  column_absmax = 1,  ///< max |x| of each input channel
  column_range = 2,   ///< min and max of each input channel
  gram = 4,           ///< sum of x xT over tokens, [in_features, in_features]
};
constexpr needs operator|(needs a, needs b) { return static_cast<needs>(static_cast<unsigned>(a) | static_cast<unsigned>(b)); }
constexpr bool includes(needs set, needs one) { return (static_cast<unsigned>(set) & static_cast<unsigned>(one)) != 0; }

/// Calibration statistics of one layer input, owned by the calibration pass. Empty where nobody needed them.
struct statistics_view {
  std::span<const float> column_absmax;  ///< [in_features]
  matrix_view<const float> gram;         ///< [in_features, in_features], symmetric
  std::size_t tokens = 0;
};

}  // namespace qlib::inline v0
