/// Root-mean-square norms.
#pragma once
#include <qlib/core/view.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <span>

namespace qlib::inline v0 {

/// What multiplies the normalized value: the stored weight, or 1 + it (Gemma, Qwen3-Next).
enum class norm_gain { weight, one_plus_weight };

/// The sum of x², in f64 over eight interleaved lanes that are added in order.
inline double sum_of_squares(const float* x, std::size_t n) {
  std::array<double, 8> lanes{};
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (std::size_t l = 0; l < 8; ++l) lanes[l] += static_cast<double>(x[i + l]) * static_cast<double>(x[i + l]);
  for (std::size_t l = 0; i < n; ++i, ++l) lanes[l] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

/// y = x / sqrt(mean(x²) + eps) * gain; `gains` are ready to multiply, empty for none. y may be x.
inline void rms_norm(const float* x, std::span<const float> gains, float eps, float* y, std::size_t n) {
  const float scale = static_cast<float>(1.0 / std::sqrt(sum_of_squares(x, n) / static_cast<double>(n) + static_cast<double>(eps)));
  if (gains.empty()) {
    for (std::size_t i = 0; i < n; ++i) y[i] = x[i] * scale;
  } else {
    const float* g = gains.data();
    for (std::size_t i = 0; i < n; ++i) y[i] = x[i] * scale * g[i];
  }
}

/// Every run of `width` columns of x by itself, in place: heads, or whole rows.
inline void rms_norm_runs(matrix_view<float> x, std::size_t width, std::span<const float> gains, float eps) {
  for (std::size_t r = 0; r < x.rows(); ++r)
    for (std::size_t c = 0; c < x.cols(); c += width) rms_norm(x.row(r) + c, gains, eps, x.row(r) + c, width);
}

}  // namespace qlib::inline v0
