/// The formulas that SmoothQuant's family shares.
#pragma once
#include <qlib/config.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
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

/// Alphas that searches of SmoothQuant's scale try (Golden Stick's OutlierSuppressionLite).
inline constexpr std::array<double, 13> migration_strengths{0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0};

/// What is wrong with an exponent that must lie in 0 to 1; a NaN does not.
inline std::optional<std::string> outside_unit(std::string_view key, std::optional<double> value) {
  if (!value || (*value >= 0 && *value <= 1)) return std::nullopt;
  std::string text = std::to_string(*value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return std::string{key} + " " + text + " is not in 0 to 1";
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
