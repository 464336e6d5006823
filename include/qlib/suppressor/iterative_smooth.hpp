#pragma once
#include <qlib/concepts.hpp>
#include <qlib/suppressor/smoothing_scale.hpp>

#include <optional>
#include <string>

namespace qlib::inline v0 {

struct iterative_smooth_options {
  double alpha = 0.9;
  double scale_min = 1e-5;
  bool symmetric = true;

  static constexpr auto fields() {
    return std::tuple{
        field{"alpha", &iterative_smooth_options::alpha, "how much of the range moves from inputs to weights, 0 to 1"},
        field{"scale_min", &iterative_smooth_options::scale_min, "smallest scale"},
        field{"symmetric", &iterative_smooth_options::symmetric, "false: the middle of each channel behind a norm is moved to a bias too"}};
  }
};

/// msModelSlim's `iter_smooth` and m4: SmoothQuant's scale with alpha .9, sub-graph after sub-graph, each seeing the weights that the ones
/// before it left. Grouped-query attention: the mean of the scales of the columns that share a channel.
struct iterative_smooth {
  static constexpr std::string_view name = "iter_smooth";
  static constexpr qlib::needs needs = qlib::needs::column_absmax | qlib::needs::column_range;
  using options = iterative_smooth_options;

  explicit iterative_smooth(options o = {}) : options_{o} {}

  static std::optional<std::string> check(const options& o) {
    if (!(o.scale_min > 0)) return "scale_min " + std::to_string(o.scale_min) + " is not positive";
    return outside_unit("alpha", o.alpha);
  }

  bool shifts() const { return !options_.symmetric; }

  transform solve(const smoothing_group& group, const statistics_view& stats) const {
    std::vector<float> x(stats.column_absmax.begin(), stats.column_absmax.end()), w = group.column_absmax();
    transform out;
    if (!options_.symmetric && group.may_shift) {
      out.shift = middles(stats.column_min, stats.column_max);
      for (std::size_t c = 0; c < x.size(); ++c) x[c] = (stats.column_max[c] - stats.column_min[c]) / 2;
    }
    at_least(w, smallest_weight);
    out.scale = group.channels.mean(smoothing_scale(x, w, options_.alpha, 1 - options_.alpha, options_.scale_min));
    return out;
  }

 private:
  options options_;
};
static_assert(OutlierSuppressor<iterative_smooth>);

}  // namespace qlib::inline v0
