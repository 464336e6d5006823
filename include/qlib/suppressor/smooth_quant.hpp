#pragma once
#include <qlib/concepts.hpp>
#include <qlib/suppressor/search.hpp>
#include <qlib/suppressor/smoothing_scale.hpp>

#include <optional>
#include <string>

namespace qlib::inline v0 {

struct smooth_quant_options {
  std::optional<double> alpha = 0.5;
  std::string statistic = "absmax";
  bool symmetric = true;
  bool log_equalization = false;

  static constexpr auto fields() {
    return std::tuple{field{"alpha", &smooth_quant_options::alpha, "how much of the range moves from inputs to weights, 0 to 1; auto: search"},
                      field{"statistic", &smooth_quant_options::statistic, "of an input channel: absmax, or range (max - min), LLM-Compressor's"},
                      field{"symmetric", &smooth_quant_options::symmetric, "false: the middle of each channel is moved to a bias too"},
                      field{"log_equalization", &smooth_quant_options::log_equalization, "scale = range / log2(2 + range), whatever the weights"}};
  }
};

/// SmoothQuant (Xiao et al. 2022): scale = max|x|^alpha / max|w|^(1 - alpha) for each channel, at least 1e-5.
///
/// msModelSlim's `smooth_quant` and m1; with statistic `range` LLM-Compressor's SmoothQuantModifier, whose weight statistic is 2 max|w|.
/// Without an alpha, the smallest of migration_strengths that loses hardly more (exponent_slack) than the best with the specs that inputs and
/// weights will have; the identity if none is better. Grouped-query attention: the largest of the columns that share a channel, of inputs and
/// weights.
struct smooth_quant {
  static constexpr std::string_view name = "smooth_quant";
  static constexpr qlib::needs needs = qlib::needs::column_absmax | qlib::needs::column_range | qlib::needs::inputs;
  using options = smooth_quant_options;

  explicit smooth_quant(options o = {}) : options_{std::move(o)} {}

  static std::optional<std::string> check(const options& o) {
    if (o.statistic != "absmax" && o.statistic != "range") return "statistic '" + o.statistic + "' is neither absmax nor range";
    return outside_unit("alpha", o.alpha);
  }

  bool shifts() const { return !options_.symmetric; }
  std::size_t tried() const { return options_.alpha || options_.log_equalization ? 0 : migration_strengths.size() + 1; }

  transform solve(const smoothing_group& group, const statistics_view& stats) const {
    const bool range = options_.statistic == "range" || options_.log_equalization;
    std::vector<float> x(stats.column_absmax.begin(), stats.column_absmax.end());
    std::vector<float> w = group.column_absmax();
    transform out;
    if (!options_.symmetric && group.may_shift) out.shift = middles(stats.column_min, stats.column_max);
    for (std::size_t c = 0; c < x.size(); ++c) {
      if (range) x[c] = stats.column_max[c] - stats.column_min[c];
      else if (!out.shift.empty()) x[c] = (stats.column_max[c] - stats.column_min[c]) / 2;
    }
    x = group.channels.largest(x);
    w = group.channels.largest(w);
    if (options_.log_equalization) {
      out.scale.resize(x.size());
      for (std::size_t c = 0; c < x.size(); ++c) out.scale[c] = x[c] > 0 ? x[c] / std::log2(2 + x[c]) : 1.0f;
      return out;
    }
    if (range)
      for (std::size_t c = 0; c < w.size(); ++c) w[c] = w[c] == 0 ? x[c] : 2 * w[c];
    else at_least(w, smallest_weight);
    const auto scale = [&](double alpha) { return smoothing_scale(x, w, alpha, 1 - alpha, 1e-5); };
    if (options_.alpha) {
      out.scale = scale(*options_.alpha);
      return out;
    }
    return search_alpha(group, stats, [&](double alpha) { return transform{scale(alpha), out.shift}; });
  }

 private:
  options options_;
};
static_assert(OutlierSuppressor<smooth_quant>);

}  // namespace qlib::inline v0
