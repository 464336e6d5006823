#pragma once
#include <qlib/concepts.hpp>
#include <qlib/suppressor/search.hpp>
#include <qlib/suppressor/smoothing_scale.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace qlib::inline v0 {

struct awq_options {
  std::int64_t n_grid = 20;
  std::string duo_scaling = "false";
  bool inclusive = false;
  bool clip = false;

  static constexpr auto fields() {
    return std::tuple{
        field{"n_grid", &awq_options::n_grid, "how many scales are tried"},
        field{"duo_scaling", &awq_options::duo_scaling, "true: scales follow the weights too; false: inputs alone; both: half of the grid each"},
        field{"inclusive", &awq_options::inclusive, "without duo_scaling: exponents up to 1 (LLM-Compressor's) instead of below it"},
        field{"clip", &awq_options::clip, "then limit each tile of the weights, but not those of queries and keys, where that lowers their error"}};
  }
};

/// AWQ (Lin et al. 2023): scale = mean|x|^r, or with duo_scaling mean|x|^r / mean|w|^(1 - r), of the exponent r that loses least when the
/// weights are quantized by `group.weight_spec` and inputs stay float.
///
/// msModelSlim's `awq` and m3 (r = i / 20); LLM-Compressor's AWQModifier with duo_scaling and inclusive. A weight counts relative to the largest
/// of its quantization tile. The loss is the output error of the group's linears; both peers take the output of the module around them, which
/// for one linear is the same. Scales are divided by sqrt(largest * smallest). Grouped-query attention: the largest mean of the columns that
/// share a channel, before the scale is made. Cost: n_grid products.
///
/// `clip` is the second half of the paper's program, which neither peer has: a run clips the weights behind the scale (weight_clip.hpp).
/// `quantize()` folds the scale alone.
struct awq {
  static constexpr std::string_view name = "awq";
  static constexpr qlib::needs needs = qlib::needs::column_mean | qlib::needs::inputs;
  using options = awq_options;

  explicit awq(options o = {}) : options_{std::move(o)} {}

  static std::optional<std::string> check(const options& o) {
    if (o.n_grid < 1 || o.n_grid > 10000) return "n_grid " + std::to_string(o.n_grid) + " is not in 1 to 10000";
    if (o.duo_scaling != "false" && o.duo_scaling != "true" && o.duo_scaling != "both")
      return "duo_scaling '" + o.duo_scaling + "' is none of false, true, both";
    return std::nullopt;
  }

  std::size_t tried() const { return static_cast<std::size_t>(options_.n_grid); }
  bool clips() const { return options_.clip; }
  static smoothing_group searched(smoothing_group group) {
    group.input_spec.reset();
    return group;
  }

  transform solve(const smoothing_group& group, const statistics_view& stats) const {
    if (group.weights.empty() || stats.column_mean.empty()) return {};
    const std::vector<float> x = group.channels.largest(stats.column_mean), w = group.channels.largest(relative_means(group));
    transform_search search{searched(group), stats};
    const double n = static_cast<double>(options_.n_grid);
    const auto offer = [&](double count, double last, bool duo) {
      for (double i = 0; i < count; ++i) {
        const double r = last > 0 ? i / last : 0;
        if (duo || r > 0) search.offer({scale(x, w, r, duo), {}});  // r = 0 alone is the identity, which the search begins with
      }
    };
    if (options_.duo_scaling == "true") offer(n - 1, n - 2, true);
    else if (options_.duo_scaling == "false") offer(n, options_.inclusive ? n - 1 : n, false);
    else
      for (const bool duo : {false, true}) offer(std::floor(n / 2), std::floor(n / 2) - 1, duo);
    return std::move(search).best();
  }

  /// x, w: a value a channel. A scale that is not finite is 1.
  static std::vector<float> scale(std::span<const float> x, std::span<const float> w, double r, bool duo) {
    std::vector<float> out(x.size());
    float low = std::numeric_limits<float>::infinity(), high = 0;
    for (std::size_t c = 0; c < out.size(); ++c) {
      double s = std::pow(static_cast<double>(x[c]), r);
      if (duo) s /= std::pow(static_cast<double>(w[c]), 1 - r) + 1e-4;
      out[c] = static_cast<float>(std::max(s, 1e-4));
      low = std::min(low, out[c]);
      high = std::max(high, out[c]);
    }
    const float middle = std::sqrt(high * low);
    for (float& s : out)
      if (s /= middle; !std::isfinite(s)) s = 1.0f;
    return out;
  }

  /// Of each column the mean, over all rows of all linears, of |w| / (largest |w| of its quantization tile + 1e-6).
  static std::vector<float> relative_means(const smoothing_group& group) {
    const tile granularity = group.weight_spec ? group.weight_spec->granularity : tile::per_channel();
    std::vector<double> sums(group.columns(), 0.0);
    std::vector<range> ranges;
    std::size_t rows = 0;
    const native_backend backend;
    for (const auto& w : group.weights) {
      const tile t = resolve(granularity, w.rows(), w.cols());
      const grid g = grid_of(t, w.rows(), w.cols());
      ranges.assign(g.tiles(), range::empty());
      backend.ranges(w, t, std::span{ranges});
      for (std::size_t r = 0; r < w.rows(); ++r)
        for (std::size_t j = 0; j < g.cols; ++j) {
          const range& seen = ranges[r / t.rows * g.cols + j];
          const float largest = std::max(-seen.min, seen.max) + 1e-6f;
          const std::size_t end = std::min(w.cols(), (j + 1) * t.cols);
          for (std::size_t c = j * t.cols; c < end; ++c) sums[c] += static_cast<double>(std::fabs(w(r, c)) / largest);
        }
      rows += w.rows();
    }
    std::vector<float> out(sums.size());
    for (std::size_t c = 0; c < out.size(); ++c) out[c] = static_cast<float>(sums[c] / static_cast<double>(std::max<std::size_t>(1, rows)));
    return out;
  }

 private:
  options options_;
};
static_assert(OutlierSuppressor<awq>);

}  // namespace qlib::inline v0
