#pragma once
#include <qlib/core/convert.hpp>
#include <qlib/core/parallel.hpp>
#include <qlib/format/activation_arithmetic.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

namespace qlib::inline v0 {

namespace detail {

/// v rounded half to even, for |v| < 2^22. An addition that rounds, because nearbyint is a call on machines without SSE4.1.
inline float round_small(float v) {
  const float shifted = v + 0x1.8p23f;
  return shifted - 0x1.8p23f;
}

inline float clamped_code(float v, float low, float high) {
  v = v < low ? low : v;  // a NaN stays one
  return round_small(v > high ? high : v);
}

inline float e4m3_value(float v) { return e4m3_to_float(to_e4m3(std::clamp(v, -e4m3_max, e4m3_max))); }

/// The nearest of 0, .5, 1, 1.5, 2, 3, 4, 6; a tie goes to the smaller.
inline float e2m1_value(float v) {
  constexpr std::array<float, 7> bounds{.25f, .75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
  constexpr std::array<float, 8> values{0, .5f, 1, 1.5f, 2, 3, 4, 6};
  const float magnitude = std::fabs(v);
  std::size_t i = 0;
  while (i < bounds.size() && magnitude > bounds[i]) ++i;
  return std::copysign(values[i], v);
}

inline float row_absmax(const float* x, std::size_t n) {
  float most = 0;
  for (std::size_t c = 0; c < n; ++c) {
    const float magnitude = std::fabs(x[c]);
    most = magnitude > most ? magnitude : most;
  }
  return most;
}

/// 2^e with e = floor(log2(absmax)) - the exponent of the largest element.
inline float shared_power(float absmax, int largest_exponent) {
  if (absmax == 0) return 1;
  const int exponent = std::max(static_cast<int>(std::bit_cast<std::uint32_t>(absmax) >> 23 & 255u) - 127, -126);
  return std::ldexp(1.0f, exponent - largest_exponent);
}

}  // namespace detail

QLIB_INLINE float fake_quantize(float x, float scale, float zero_point, activation_type type, int num_bits) {
  if (type == activation_type::e4m3) return detail::e4m3_value(x / scale) * scale;
  const float high = static_cast<float>((1 << (num_bits - 1)) - 1);
  return (detail::clamped_code(x / scale + zero_point, -high - 1, high) - zero_point) * scale;
}

QLIB_INLINE void activation_arithmetic::apply_row(const float* x, float* y, std::size_t columns) const {
  if (!shift.empty())
    for (std::size_t c = 0; c < columns; ++c) y[c] = x[c] + shift[c];
  else if (x != y) std::copy_n(x, columns, y);
  if (!factors.empty())
    for (std::size_t c = 0; c < columns; ++c) y[c] *= factors[c];
  if (type == activation_type::floating) return;

  const float high = static_cast<float>((1 << (num_bits - 1)) - 1), low = -high - 1;
  if (!dynamic && type == activation_type::integer) {
    const float inverse = 1 / scale;
    if (reciprocal)
      for (std::size_t c = 0; c < columns; ++c) y[c] = (detail::clamped_code(y[c] * inverse + zero_point, low, high) - zero_point) * scale;
    else
      for (std::size_t c = 0; c < columns; ++c) y[c] = (detail::clamped_code(y[c] / scale + zero_point, low, high) - zero_point) * scale;
    return;
  }
  if (!dynamic && type == activation_type::e4m3) {
    for (std::size_t c = 0; c < columns; ++c) y[c] = detail::e4m3_value(y[c] / scale) * scale;
    return;
  }
  const bool mx = type == activation_type::mxfp8 || type == activation_type::mxfp4;
  const std::size_t group = mx ? 32 : group_size ? group_size : columns;
  for (std::size_t first = 0; first < columns; first += group) {
    const std::size_t n = std::min(group, columns - first);
    float* v = y + first;
    const float absmax = detail::row_absmax(v, n);
    if (mx) {
      const float s = detail::shared_power(absmax, type == activation_type::mxfp8 ? 8 : 2);
      for (std::size_t c = 0; c < n; ++c) v[c] = (type == activation_type::mxfp8 ? detail::e4m3_value(v[c] / s) : detail::e2m1_value(v[c] / s)) * s;
      continue;
    }
    const bool ascend = rule == scale_rule::ascend;
    const auto positive = [&](float s) { return ascend ? std::max(s, 1e-12f) : s == 0 ? 0x1p-23f : s; };
    if (type == activation_type::e4m3) {
      const float s = positive(absmax / e4m3_max);
      for (std::size_t c = 0; c < n; ++c) v[c] = detail::e4m3_value(v[c] / s) * s;
    } else if (symmetric) {
      const float s = positive(absmax / (ascend ? high : (high - low) / 2));
      for (std::size_t c = 0; c < n; ++c) v[c] = detail::clamped_code(v[c] / s, low, high) * s;
    } else {
      float least = 0, most = 0;
      for (std::size_t c = 0; c < n; ++c) least = std::min(least, v[c]), most = std::max(most, v[c]);
      const float s = positive((most - least) / (high - low));
      const float z = detail::clamped_code(low - least / s, low, high);
      for (std::size_t c = 0; c < n; ++c) v[c] = (detail::clamped_code(v[c] / s + z, low, high) - z) * s;
    }
  }
}

QLIB_INLINE void activation_arithmetic::apply(matrix_view<const float> x, matrix_view<float> y, std::size_t threads) const {
  constexpr std::size_t block = 32;
  parallel_for((x.rows() + block - 1) / block, threads, [&](std::size_t, std::size_t task) {
    for (std::size_t r = task * block; r < std::min(x.rows(), (task + 1) * block); ++r) apply_row(x.row(r), y.row(r), x.cols());
    return true;
  });
}

}  // namespace qlib::inline v0
