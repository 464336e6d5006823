#pragma once
#include <qlib/config.hpp>

#include <cmath>
#include <limits>

namespace qlib::inline v0 {

/// Smallest and largest value of a tile. Both are NaN when the tile holds a NaN or an infinity: such a tile has no scale, and
/// whoever owns the tensor reports where it is.
struct range {
  float min = std::numeric_limits<float>::infinity();
  float max = -std::numeric_limits<float>::infinity();

  static constexpr range empty() { return {}; }
  static constexpr range undefined() { return {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::quiet_NaN()}; }
  bool defined() const { return !std::isnan(min); }
};

/// The range of the union of two sets; associative and commutative.
inline range join(const range& a, const range& b) {
  if (!a.defined() || !b.defined()) return range::undefined();
  return {a.min < b.min ? a.min : b.min, a.max > b.max ? a.max : b.max};
}

}  // namespace qlib::inline v0
