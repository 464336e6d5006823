#pragma once
#include <qlib/concepts.hpp>

namespace qlib::inline v0 {

/// The identity: weights are quantized as they are.
struct no_suppressor {
  static constexpr std::string_view name = "none";
  static constexpr qlib::needs needs = qlib::needs::nothing;
  using options = no_options;

  explicit no_suppressor(options = {}) {}

  transform solve(const smoothing_group&, const statistics_view&) const { return {}; }
};
static_assert(OutlierSuppressor<no_suppressor>);

}  // namespace qlib::inline v0
