#pragma once
#include <qlib/concepts.hpp>
#include <qlib/suppressor/search.hpp>
#include <qlib/suppressor/smoothing_scale.hpp>

#include <limits>
#include <vector>

namespace qlib::inline v0 {

struct flex_awq_ssz_options {
  std::optional<double> alpha, beta;

  static constexpr auto fields() {
    return std::tuple{field{"alpha", &flex_awq_ssz_options::alpha, "exponent of the inputs, 0 to 1; auto: search"},
                      field{"beta", &flex_awq_ssz_options::beta, "exponent of the weights beside a given alpha, 0 to 1; auto: 0"}};
  }
};

/// scale = mean|x|^alpha, at least 1e-5, of the alpha in steps of .05 for which max|x|^alpha loses least with the specs that inputs and weights
/// will have.
///
/// msModelSlim's `flex_awq_ssz`. The last of equal alphas wins; of more than three linears the first two are searched with. Weights are rounded
/// to nearest, by their extremes: the peer takes the rounder of its recipe. Grouped-query attention: the largest statistic of the columns that
/// share a channel. The identity wins over an applied scale that is not better. Cost: 23 products.
struct flex_awq_ssz {
  static constexpr std::string_view name = "flex_awq_ssz";
  static constexpr qlib::needs needs = qlib::needs::column_absmax | qlib::needs::column_mean | qlib::needs::inputs;
  using options = flex_awq_ssz_options;

  explicit flex_awq_ssz(options o = {}) : options_{o} {}

  static std::optional<std::string> check(const options& o) {
    if (o.beta && !o.alpha) return "beta without alpha: the search is over alpha alone";
    if (auto wrong = outside_unit("alpha", o.alpha)) return wrong;
    return outside_unit("beta", o.beta);
  }

  std::size_t tried() const { return options_.alpha ? 0 : 23; }
  static smoothing_group searched(smoothing_group group) {
    if (group.weights.size() > 3) group.weights = group.weights.first(2);
    return group;
  }

  transform solve(const smoothing_group& group, const statistics_view& stats) const {
    if (stats.column_mean.empty()) return {};
    const std::vector<float> largest = group.channels.largest(stats.column_absmax), mean = group.channels.largest(stats.column_mean);
    const std::vector<float> ones(largest.size(), 1.0f);
    if (options_.alpha) {
      std::vector<float> w = group.channels.largest(group.column_absmax());
      at_least(w, smallest_weight);
      return {smoothing_scale(mean, w, *options_.alpha, options_.beta.value_or(0), 1e-5), {}};
    }
    const auto scale = [&](const std::vector<float>& x, double alpha) { return transform{smoothing_scale(x, ones, alpha, 0, 1e-5), {}}; };
    output_error error{searched(group), stats};
    double lowest = std::numeric_limits<double>::infinity(), alpha = 0;
    for (int i = 0; i <= 20; ++i)
      if (const double e = error.of(scale(largest, i / 20.0)); e <= lowest) {
        lowest = e;
        alpha = i / 20.0;
      }
    transform found = scale(mean, alpha);
    return error.of(found) < error.of({}) ? found : transform{};
  }

 private:
  options options_;
};
static_assert(OutlierSuppressor<flex_awq_ssz>);

}  // namespace qlib::inline v0
