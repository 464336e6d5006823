#pragma once
#include <qlib/concepts.hpp>
#include <qlib/suppressor/search.hpp>
#include <qlib/suppressor/smoothing_scale.hpp>

namespace qlib::inline v0 {

/// SmoothQuant's scale, with the smallest alpha of migration_strengths that loses hardly more (exponent_slack) than the best with int8 weights a
/// row and asymmetric int8 inputs, one scale for all.
///
/// MindSpore Golden Stick's OutlierSuppressionLite. It rescales one linear at a time at run time, measures the output of the decoder layer and
/// takes the lowest error; this folds, and measures the outputs of the linears that read the input. Channels of zeros and columns of zero
/// weights: 1. Grouped-query attention: the largest statistic of the columns that share a channel. Cost: 13 products.
struct outlier_suppression_lite {
  static constexpr std::string_view name = "outlier_suppression_lite";
  static constexpr qlib::needs needs = qlib::needs::column_absmax | qlib::needs::column_range | qlib::needs::inputs;
  using options = no_options;

  explicit outlier_suppression_lite(options = {}) {}

  static std::size_t tried() { return migration_strengths.size() + 1; }
  static smoothing_group searched(smoothing_group group) {
    group.weight_spec = quant_spec{.rule = scale_rule::compressed_tensors};
    group.input_spec = quant_spec{.symmetric = false, .granularity = tile::per_tensor(), .rule = scale_rule::compressed_tensors};
    return group;
  }

  transform solve(const smoothing_group& group, const statistics_view& stats) const {
    const std::vector<float> x = group.channels.largest(stats.column_absmax), w = group.channels.largest(group.column_absmax());
    return search_alpha(searched(group), stats, [&](double alpha) { return transform{smoothing_scale(x, w, alpha, 1 - alpha, 1e-5), {}}; });
  }
};
static_assert(OutlierSuppressor<outlier_suppression_lite>);

}  // namespace qlib::inline v0
