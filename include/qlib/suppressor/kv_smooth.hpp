#pragma once
#include <qlib/concepts.hpp>
#include <qlib/suppressor/smoothing_scale.hpp>

namespace qlib::inline v0 {

struct kv_smooth_options {
  double smooth_factor = 1;

  static constexpr auto fields() {
    return std::tuple{field{"smooth_factor", &kv_smooth_options::smooth_factor, "exponent of the largest magnitude of a key channel"}};
  }
};

/// msModelSlim's `kv_smooth`: keys are divided by max|key|^smooth_factor, channel by channel, and queries multiplied, so that one scale serves
/// a whole key cache. The statistics are those of keys behind RoPE; channels that RoPE mixes share the larger maximum (the caller joins them).
struct kv_smooth {
  static constexpr std::string_view name = "kv_smooth";
  static constexpr qlib::needs needs = qlib::needs::column_absmax;
  static constexpr bool of_keys = true;  ///< for keys and queries, not for linears that read one input
  using options = kv_smooth_options;

  static std::optional<std::string> check(const options& o) {
    if (!(o.smooth_factor >= 0 && o.smooth_factor <= 16)) return "smooth_factor " + std::to_string(o.smooth_factor) + " is not in 0 to 16";
    return std::nullopt;
  }

  explicit kv_smooth(options o = {}) : options_{o} {}

  transform solve(const smoothing_group& group, const statistics_view& stats) const {
    const std::vector<float> x = group.channels.largest(stats.column_absmax), ones(x.size(), 1.0f);
    return {smoothing_scale(x, ones, options_.smooth_factor, 0, 1e-5), {}};
  }

 private:
  options options_;
};
static_assert(OutlierSuppressor<kv_smooth>);

}  // namespace qlib::inline v0
