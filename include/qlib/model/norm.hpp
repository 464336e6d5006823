/// Root-mean-square norms and layer norms.
#pragma once
#include <qlib/core/view.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace qlib::inline v0 {

/// What multiplies the normalized value: the stored weight, or 1 + it (Gemma, Qwen3-Next).
enum class norm_gain { weight, one_plus_weight };

/// Whether the mean is subtracted first.
enum class norm_kind { rms, layer };

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

/// y = (x - mean) / sqrt(variance + eps) * gain + bias; both may be empty. y may be x.
inline void layer_norm(const float* x, std::span<const float> gains, std::span<const float> biases, float eps, float* y, std::size_t n) {
  std::array<double, 8> lanes{};
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (std::size_t l = 0; l < 8; ++l) lanes[l] += static_cast<double>(x[i + l]);
  for (std::size_t l = 0; i < n; ++i, ++l) lanes[l] += static_cast<double>(x[i]);
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  const float mean = static_cast<float>(sum / static_cast<double>(n));
  for (i = 0; i < n; ++i) y[i] = x[i] - mean;
  rms_norm(y, gains, eps, y, n);
  for (i = 0; i < biases.size(); ++i) y[i] += biases[i];
}

/// What a norm multiplies and adds, ready to use: gains of one_plus_weight have their 1. A layer has none where `active` is false.
struct norm_weights {
  norm_kind kind = norm_kind::rms;
  bool active = false;
  std::vector<float> gains = {}, biases = {};  ///< of the whole width, or of one run; empty: 1 and 0
  float eps = 0;

  void apply(const float* x, float* y, std::size_t n) const { apply_part(x, y, n, 0); }

  /// Every run of `width` columns of x by itself, in place: heads, or whole rows. Gains of more than one run belong to the runs in order.
  void apply_runs(matrix_view<float> x, std::size_t width) const {
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t c = 0; c < x.cols(); c += width) apply_part(x.row(r) + c, x.row(r) + c, width, c);
  }

 private:
  void apply_part(const float* x, float* y, std::size_t n, std::size_t column) const {
    const std::span<const float> g = part(gains, n, column), b = part(biases, n, column);
    if (kind == norm_kind::layer) layer_norm(x, g, b, eps, y, n);
    else rms_norm(x, g, eps, y, n);
  }
  static std::span<const float> part(const std::vector<float>& all, std::size_t n, std::size_t column) {
    return all.empty() ? std::span<const float>{} : std::span{all}.subspan(column % all.size(), n);
  }
};

/// Every run of `width` columns of x by itself, in place: heads, or whole rows.
inline void rms_norm_runs(matrix_view<float> x, std::size_t width, std::span<const float> gains, float eps) {
  for (std::size_t r = 0; r < x.rows(); ++r)
    for (std::size_t c = 0; c < x.cols(); c += width) rms_norm(x.row(r) + c, gains, eps, x.row(r) + c, width);
}

}  // namespace qlib::inline v0
