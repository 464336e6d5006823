#pragma once
#include <qlib/concepts.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace qlib::inline v0 {

struct cbq_mask_options {
  double spread = 1.5;
  double exponent = 0.7;

  static constexpr auto fields() {
    return std::tuple{field{"spread", &cbq_mask_options::spread, "how many spans of the middle 60 % of channels beyond them a channel is suspect"},
                      field{"exponent", &cbq_mask_options::exponent, "scale = (extreme / largest normal extreme) ^ exponent, 0 to 1"}};
  }
};

/// Scales outlier channels alone, by how far they stand out: the coarse-to-fine mask of CBQ (Ding et al. 2023). Weights do not matter.
///
/// msModelSlim's m5. Of the channels' maxima: suspects lie `spread` spans above the 20 % to 80 % quantiles; of two suspects and more, those
/// above the split whose gap less the variance below it is largest are outliers. Minima likewise. Grouped-query attention: extremes of all
/// columns that share a channel. Cost: the channels are sorted.
struct cbq_mask {
  static constexpr std::string_view name = "cbq_mask";
  static constexpr qlib::needs needs = qlib::needs::column_range;
  using options = cbq_mask_options;

  explicit cbq_mask(options o = {}) : options_{o} {}

  static std::optional<std::string> check(const options& o) {
    if (!(o.spread >= 0)) return "spread " + std::to_string(o.spread) + " is negative";
    if (!(o.exponent >= 0 && o.exponent <= 1)) return "exponent " + std::to_string(o.exponent) + " is not in 0 to 1";
    return std::nullopt;
  }

  transform solve(const smoothing_group& group, const statistics_view& stats) const {
    const std::vector<float> high = group.channels.largest(stats.column_max);
    std::vector<float> low = group.channels.smallest(stats.column_min);
    if (high.empty()) return {};
    for (float& v : low) v = -v;
    transform out{one_side(high), {}};
    const std::vector<float> other = one_side(low);
    for (std::size_t c = 0; c < out.scale.size(); ++c) out.scale[c] = std::max(out.scale[c], other[c]);
    return out;
  }

 private:
  /// The scales that one side of the channels' extremes asks for. Sides whose normal channels are not positive ask for none.
  std::vector<float> one_side(const std::vector<float>& extremes) const {
    std::vector<float> sorted = extremes;
    std::sort(sorted.begin(), sorted.end());
    const double q20 = quantile(sorted, 0.2), q80 = quantile(sorted, 0.8);
    float threshold = static_cast<float>(q80 + options_.spread * (q80 - q20));
    const auto suspects = std::upper_bound(sorted.begin(), sorted.end(), threshold);
    if (sorted.end() - suspects > 1) threshold = largest_gap({suspects, sorted.end()});
    float normal = -std::numeric_limits<float>::infinity();
    for (const float v : extremes)
      if (!(v > threshold)) normal = std::max(normal, v);
    std::vector<float> out(extremes.size(), 1.0f);
    if (!(normal > 0)) return out;
    for (std::size_t c = 0; c < out.size(); ++c)
      if (extremes[c] > threshold)
        out[c] = static_cast<float>(std::pow(static_cast<double>(extremes[c]) / static_cast<double>(normal), options_.exponent));
    return out;
  }

  /// Between order statistics, linear.
  static double quantile(const std::vector<float>& sorted, double p) {
    const double at = p * static_cast<double>(sorted.size() - 1), below = std::floor(at);
    const std::size_t i = static_cast<std::size_t>(below), j = std::min(i + 1, sorted.size() - 1);
    return static_cast<double>(sorted[i]) + (at - below) * (static_cast<double>(sorted[j]) - static_cast<double>(sorted[i]));
  }

  /// The last value below the split of `sorted` (two or more) whose gap less the variance of what is below it is largest; of equal ones the
  /// highest.
  static float largest_gap(std::span<const float> sorted) {
    double sum = 0, squares = 0, best = -std::numeric_limits<double>::infinity();
    float threshold = sorted.front();
    for (std::size_t n = 1; n < sorted.size(); ++n) {  // n values are below
      const double v = static_cast<double>(sorted[n - 1]) - static_cast<double>(sorted.front());
      sum += v;
      squares += v * v;
      const double count = static_cast<double>(n), variance = n == 1 ? 0 : std::max(0.0, (squares - sum * sum / count) / (count - 1));
      const double metric = static_cast<double>(sorted[n]) - static_cast<double>(sorted[n - 1]) - variance;
      if (metric >= best) {
        best = metric;
        threshold = sorted[n - 1];
      }
    }
    return threshold;
  }

  options options_;
};
static_assert(OutlierSuppressor<cbq_mask>);

}  // namespace qlib::inline v0
