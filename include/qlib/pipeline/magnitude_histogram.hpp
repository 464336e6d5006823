#pragma once
#include <qlib/core/view.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace qlib::inline v0 {

/// How many values lie in each power of two, signs apart: [2^e, 2^(e+1)) for e in [lowest, highest], the last bin without an end.
///
/// It needs no range beforehand, so one pass does. Exact counts: `merge` is associative and commutative.
struct magnitude_histogram {
  static constexpr int lowest = -24, highest = 16;
  static constexpr std::size_t bins = highest - lowest + 1;

  std::uint64_t below = 0;  ///< |x| < 2^lowest, zeros among them
  std::array<std::uint64_t, bins> negative{}, positive{};

  /// Finite values. Cost: one read of x and one addition a value.
  void observe(matrix_view<const float> x) {
    // Sign and exponent of an f32 are its top nine bits. Neighbours often share them: two tables keep additions independent.
    std::array<std::array<std::uint64_t, 512>, 2> counts{};
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t c = 0; c < x.cols(); ++c) {
        const float value = x(r, c);
        std::uint32_t bits = 0;
        std::memcpy(&bits, &value, sizeof bits);
        ++counts[c & 1][bits >> 23];
      }
    for (std::size_t sign = 0; sign < 2; ++sign)
      for (std::size_t biased = 0; biased < 256; ++biased) {
        const std::uint64_t n = counts[0][sign * 256 + biased] + counts[1][sign * 256 + biased];
        const int exponent = static_cast<int>(biased) - 127;
        if (exponent < lowest) below += n;
        else (sign ? negative : positive)[static_cast<std::size_t>(std::min(exponent, highest) - lowest)] += n;
      }
  }

  void merge(const magnitude_histogram& other) {
    below += other.below;
    for (std::size_t i = 0; i < bins; ++i) {
      negative[i] += other.negative[i];
      positive[i] += other.positive[i];
    }
  }

  std::uint64_t total() const {
    std::uint64_t sum = below;
    for (std::size_t i = 0; i < bins; ++i) sum += negative[i] + positive[i];
    return sum;
  }
};

}  // namespace qlib::inline v0
