/// Small matrices with which a path is tried before it is used, and how its results are compared.
#pragma once
#include <qlib/backend/ascend/numeric_bounds.hpp>
#include <qlib/concepts.hpp>

#include <cmath>
#include <cstdlib>
#include <vector>

namespace qlib::inline v0::ascend {

/// v rounded to T.
template <Element T>
T narrowed(float v) {
  if constexpr (std::is_same_v<T, float>) return v;
  else if constexpr (std::is_same_v<T, bf16>) return to_bf16(v);
  else return to_f16(v);
}

/// 16 x 64 values of both signs and several magnitudes, the same everywhere.
template <Element T>
struct test_matrix {
  std::size_t rows = 16, cols = 64;
  std::vector<T> values;

  explicit test_matrix(std::uint32_t seed = 1) : values(rows * cols) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      seed = seed * 1664525u + 1013904223u;
      const float v = static_cast<float>(seed >> 8) * 0x1p-23f - 1.0f;  // [-1, 1)
      values[i] = narrowed<T>(i % 64 == 17 ? v * 8 : v * v * v * 0.25f);
    }
  }
  std::size_t size() const { return values.size(); }
  matrix_view<const T> view() const { return {values.data(), rows, cols}; }
};

inline bool codes_agree(std::span<const std::int8_t> found, std::span<const std::int8_t> expected, const numeric_bounds& bounds, double rate) {
  std::size_t different = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const int d = std::abs(found[i] - expected[i]);
    if (d > bounds.code_difference) return false;
    different += d != 0;
  }
  return different <= bounds.mismatches(rate, found.size());
}

}  // namespace qlib::inline v0::ascend
