/// The formulas that SmoothQuant's family shares.
#pragma once
#include <qlib/config.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace qlib::inline v0 {

/// activation^alpha / weight^beta, at least `floor`; 1 where the activation is zero (a dead channel) or the quotient is not finite.
/// SmoothQuant (Xiao et al. 2022, eq. 4) with beta = 1 - alpha. Computed in f64, rounded once.
inline std::vector<float> smoothing_scale(std::span<const float> activation, std::span<const float> weight, double alpha, double beta, double floor) {
  std::vector<float> out(activation.size());
  for (std::size_t c = 0; c < out.size(); ++c) {
    const double s = std::pow(static_cast<double>(activation[c]), alpha) / std::pow(static_cast<double>(weight[c]), beta);
    out[c] = activation[c] == 0.0f || !std::isfinite(s) ? 1.0f : static_cast<float>(std::max(s, floor));
  }
  return out;
}

/// Smallest weight magnitude that enters a scale (msModelSlim, LLM-Compressor).
inline constexpr float smallest_weight = 1e-5f;

inline void at_least(std::vector<float>& values, float floor) {
  for (float& v : values) v = std::max(v, floor);
}

/// (min + max) / 2 of each channel.
inline std::vector<float> middles(std::span<const float> low, std::span<const float> high) {
  std::vector<float> out(low.size());
  for (std::size_t c = 0; c < out.size(); ++c) out[c] = (low[c] + high[c]) / 2;
  return out;
}

}  // namespace qlib::inline v0
