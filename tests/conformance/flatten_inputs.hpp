/// The suppressor of docs/add-a-policy.md.
#pragma once
#include <qlib/concepts.hpp>

namespace example {

// [flatten_inputs]
/// Evens out the inputs' largest magnitudes, whatever the weights are.
struct flatten_inputs {
  static constexpr std::string_view name = "flatten_inputs";
  static constexpr qlib::needs needs = qlib::needs::column_absmax;
  using options = qlib::no_options;
  explicit flatten_inputs(options = {}) {}

  qlib::transform solve(const qlib::smoothing_group& group, const qlib::statistics_view& stats) const {
    std::vector<float> scale = group.channels.largest(stats.column_absmax);
    for (float& s : scale)
      if (s == 0) s = 1;  // a channel that is always zero
    return {std::move(scale), {}};
  }
};
static_assert(qlib::OutlierSuppressor<flatten_inputs>);
// [flatten_inputs]

}  // namespace example
