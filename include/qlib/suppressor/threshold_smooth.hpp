#pragma once
#include <qlib/concepts.hpp>
#include <qlib/suppressor/search.hpp>
#include <qlib/suppressor/smoothing_scale.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace qlib::inline v0 {

struct threshold_smooth_options {
  std::int64_t steps = 100;
  std::string tokens = "all";
  bool symmetric = true;

  static constexpr auto fields() {
    return std::tuple{
        field{"steps", &threshold_smooth_options::steps, "thresholds that are tried"},
        field{"tokens", &threshold_smooth_options::tokens, "the loss is of all tokens that are kept, or of the first sample's (msModelSlim)"},
        field{"symmetric", &threshold_smooth_options::symmetric, "false: the middle of each channel is moved to a bias too"}};
  }
};

/// SmoothQuant+: scale = sqrt(extreme / max|w|) of the channels whose extreme is above a threshold, 1 of the others. Thresholds between the
/// deviation of all values and the largest extreme are tried; the first best wins.
///
/// msModelSlim's m2. A channel's extreme is its largest value above its running middle. Where three deviations reach the largest extreme
/// there is no outlier: SmoothQuant with alpha .5 for all channels. The loss is that of asymmetric int8 inputs, one scale for all, in the first
/// linear alone, whose weights stay float. Grouped-query attention: the largest of the columns that share a channel. Cost: 100 products.
struct threshold_smooth {
  static constexpr std::string_view name = "threshold_smooth";
  static constexpr qlib::needs needs = qlib::needs::column_absmax | qlib::needs::column_range | qlib::needs::column_deviation | qlib::needs::inputs;
  using options = threshold_smooth_options;

  explicit threshold_smooth(options o = {}) : options_{std::move(o)} {}

  static std::optional<std::string> check(const options& o) {
    if (o.steps < 2 || o.steps > 10000) return "steps " + std::to_string(o.steps) + " is not in 2 to 10000";
    if (o.tokens != "all" && o.tokens != "first") return "tokens '" + o.tokens + "' is neither all nor first";
    return std::nullopt;
  }

  bool shifts() const { return !options_.symmetric; }
  /// At most: none where no channel stands out.
  std::size_t tried() const { return static_cast<std::size_t>(options_.steps); }
  static smoothing_group searched(smoothing_group group) {
    if (!group.weights.empty()) group.weights = group.weights.first(1);
    group.weight_spec.reset();
    group.input_spec = quant_spec{.symmetric = false, .granularity = tile::per_tensor()};
    return group;
  }

  transform solve(const smoothing_group& group, const statistics_view& stats) const {
    if (group.columns() == 0 || stats.column_min.empty()) return {};
    std::vector<float> w = group.channels.largest(group.column_absmax());
    at_least(w, smallest_weight);
    const std::vector<float> shift = middles(group.channels.smallest(stats.column_min), group.channels.largest(stats.column_max));
    const std::vector<float> extreme = group.channels.largest(extremes_above_middles(stats));
    const float largest = *std::max_element(extreme.begin(), extreme.end()), deviation = stats.deviation;
    transform out;
    if (3 * deviation >= largest) {
      out.scale = smoothing_scale(group.channels.largest(stats.column_absmax), w, 0.5, 0.5, 1e-5);
    } else {
      const std::vector<float> all = smoothing_scale(extreme, w, 0.5, 0.5, 1e-5);
      statistics_view seen = stats;
      if (options_.tokens == "first") {
        seen.inputs = stats.inputs.strip(0, stats.first_inputs);
        seen.column_min = seen.column_max = {};  // its own range
      }
      output_error error{searched(group), seen};
      double lowest = std::numeric_limits<double>::infinity();
      for (std::int64_t i = 0; i < options_.steps; ++i) {
        const float threshold = deviation + (largest - deviation) * static_cast<float>(i) / static_cast<float>(options_.steps - 1);
        transform t{all, shift};
        for (std::size_t c = 0; c < t.scale.size(); ++c)
          if (!(extreme[c] / threshold > 1)) t.scale[c] = 1.0f;
        if (i + 1 == options_.steps) t.scale.assign(all.size(), 1.0f);
        const double e = t.scale == out.scale ? lowest : error.of(t);
        if (e < lowest) {
          lowest = e;
          out.scale = std::move(t.scale);
        }
      }
    }
    if (!options_.symmetric && group.may_shift) out.shift = shift;
    return out;
  }

 private:
  /// [in_features]: the largest, over the samples, of a channel's maximum less the middle of what it was seen to span until then.
  static std::vector<float> extremes_above_middles(const statistics_view& stats) {
    const std::size_t n = stats.column_min.size();
    std::vector<float> out(n);
    for (std::size_t c = 0; c < n; ++c) out[c] = (stats.column_max[c] - stats.column_min[c]) / 2;
    if (stats.sample_ranges.rows() == 0) return out;
    std::vector<float> low(n, std::numeric_limits<float>::infinity()), high(n, -std::numeric_limits<float>::infinity());
    out.assign(n, -std::numeric_limits<float>::infinity());
    for (std::size_t s = 0; s + 1 < stats.sample_ranges.rows(); s += 2)
      for (std::size_t c = 0; c < n; ++c) {
        low[c] = std::min(low[c], stats.sample_ranges(s, c));
        high[c] = std::max(high[c], stats.sample_ranges(s + 1, c));
        out[c] = std::max(out[c], stats.sample_ranges(s + 1, c) - (low[c] + high[c]) / 2);
      }
    return out;
  }

  options options_;
};
static_assert(OutlierSuppressor<threshold_smooth>);

}  // namespace qlib::inline v0
