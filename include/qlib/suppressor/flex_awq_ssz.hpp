#pragma once
#include <qlib/concepts.hpp>
#include <qlib/suppressor/search.hpp>
#include <qlib/suppressor/smoothing_scale.hpp>

#include <limits>
#include <vector>

namespace qlib::inline v0 {

/// scale = mean|x|^alpha, at least 1e-5, of the alpha in steps of .05 for which max|x|^alpha loses least with the specs that inputs and weights
/// will have.
///
/// msModelSlim's `flex_awq_ssz`. The last of equal alphas wins; of more than three linears the first two are searched with. Weights are rounded
/// to nearest, by their extremes: the peer takes the rounder of its recipe. Grouped-query attention: the largest statistic of the columns that
/// share a channel. The identity wins over an applied scale that is not better. Cost: 23 products.
struct flex_awq_ssz {
  static constexpr std::string_view name = "flex_awq_ssz";
  static constexpr qlib::needs needs = qlib::needs::column_absmax | qlib::needs::column_mean | qlib::needs::inputs;
  using options = no_options;

  explicit flex_awq_ssz(options = {}) {}

  transform solve(const smoothing_group& group, const statistics_view& stats) const {
    if (stats.column_mean.empty()) return {};
    const std::vector<float> largest = group.channels.largest(stats.column_absmax), mean = group.channels.largest(stats.column_mean);
    const std::vector<float> ones(largest.size(), 1.0f);
    const auto scale = [&](const std::vector<float>& x, double alpha) { return transform{smoothing_scale(x, ones, alpha, 0, 1e-5), {}}; };
    smoothing_group searched = group;
    if (group.weights.size() > 3) searched.weights = group.weights.first(2);
    output_error error{searched, stats};
    double lowest = std::numeric_limits<double>::infinity(), alpha = 0;
    for (int i = 0; i <= 20; ++i)
      if (const double e = error.of(scale(largest, i / 20.0)); e <= lowest) {
        lowest = e;
        alpha = i / 20.0;
      }
    transform found = scale(mean, alpha);
    return error.of(found) < error.of({}) ? found : transform{};
  }
};
static_assert(OutlierSuppressor<flex_awq_ssz>);

}  // namespace qlib::inline v0
