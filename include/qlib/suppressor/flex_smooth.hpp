#pragma once
#include <qlib/concepts.hpp>
#include <qlib/suppressor/search.hpp>
#include <qlib/suppressor/smoothing_scale.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qlib::inline v0 {

struct flex_smooth_options {
  std::optional<double> alpha = {}, beta = {};
  std::string group_method = "mean";
  bool own_specs = false;

  static constexpr auto fields() {
    return std::tuple{
        field{"alpha", &flex_smooth_options::alpha, "exponent of the inputs, 0 to 1; auto: search both"},
        field{"beta", &flex_smooth_options::beta, "exponent of the weights, 0 to 1; auto: search both"},
        field{"group_method", &flex_smooth_options::group_method, "columns that share a channel: mean of their scales, or max of their statistics"},
        field{"own_specs", &flex_smooth_options::own_specs,
              "search with the specs that inputs and weights will have, instead of int8 a token and a row"}};
  }
};

/// scale = max|x|^alpha / max|w|^beta, at least 1e-5, of the exponents that lose least: alpha in steps of .05 with beta = 1 - alpha, then beta
/// in steps of .05; the last of equal ones.
///
/// msModelSlim's `flex_smooth_quant`, whose loss has symmetric int8 inputs a token and weights a row. own_specs and group_method max: its m6, but
/// for the alpha: the smallest that loses hardly more (exponent_slack) than the best. What is tried for grouped-query attention is what is
/// applied, one scale a channel; the peer searches with one a column. The identity wins over what is not better. Cost: 41 products.
struct flex_smooth {
  static constexpr std::string_view name = "flex_smooth_quant";
  static constexpr qlib::needs needs = qlib::needs::column_absmax | qlib::needs::inputs;
  using options = flex_smooth_options;

  explicit flex_smooth(options o = {}) : options_{std::move(o)} {}

  static std::optional<std::string> check(const options& o) {
    for (const auto& [key, value] : {std::pair{"alpha", o.alpha}, std::pair{"beta", o.beta}})
      if (auto wrong = outside_unit(key, value)) return wrong;
    if (o.group_method != "mean" && o.group_method != "max") return "group_method '" + o.group_method + "' is neither mean nor max";
    return std::nullopt;
  }

  std::size_t tried() const { return options_.alpha && options_.beta ? 0 : 2 * steps + 2; }
  smoothing_group searched(smoothing_group group) const {
    if (!options_.own_specs) group.weight_spec = group.input_spec = quant_spec{};
    return group;
  }

  transform solve(const smoothing_group& group, const statistics_view& stats) const {
    const bool mean = options_.group_method == "mean";
    std::vector<float> x(stats.column_absmax.begin(), stats.column_absmax.end()), w = group.column_absmax();
    if (!mean) {
      x = group.channels.largest(x);
      w = group.channels.largest(w);
    }
    at_least(w, smallest_weight);
    const auto at = [&](double alpha, double beta) {
      std::vector<float> s = smoothing_scale(x, w, alpha, beta, 1e-5);
      return transform{mean ? group.channels.mean(s) : std::move(s), {}};
    };
    if (options_.alpha && options_.beta) return at(*options_.alpha, *options_.beta);

    output_error error{searched(group), stats};
    const double unchanged = error.of({});
    std::vector<double> errors;
    for (int i = 0; i <= steps; ++i) errors.push_back(error.of(at(exponent(i), 1 - exponent(i))));
    std::size_t found = last_lowest(errors);
    if (options_.own_specs) found = std::min(first_near_lowest(errors, unchanged), found);
    const double alpha = exponent(static_cast<int>(found)), known = errors[found];
    errors.clear();
    for (int i = 0; i <= steps; ++i) errors.push_back(i == steps - static_cast<int>(found) ? known : error.of(at(alpha, exponent(i))));
    const std::size_t best = last_lowest(errors);
    return errors[best] < unchanged ? at(alpha, exponent(static_cast<int>(best))) : transform{};
  }

 private:
  static constexpr int steps = 20;
  static constexpr double exponent(int i) { return i / 20.0; }

  static std::size_t last_lowest(const std::vector<double>& errors) {
    return static_cast<std::size_t>(std::min_element(errors.rbegin(), errors.rend()).base() - errors.begin()) - 1;
  }

  options options_;
};
static_assert(OutlierSuppressor<flex_smooth>);

}  // namespace qlib::inline v0
