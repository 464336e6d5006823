#pragma once
#include <qlib/concepts.hpp>
#include <qlib/observer/merge_law.hpp>
#include <qlib/observer/tile_views.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <vector>

namespace qlib::inline v0 {

struct recall_window_options {
  double ratio = 1.0;

  static constexpr auto fields() {
    return std::tuple{field{"ratio", &recall_window_options::ratio, "share of each tile's values that the range holds, above 0 and up to 1"}};
  }
};

/// The narrowest interval that holds a given share of each tile's values in a sample; the union of these over the samples.
///
/// msModelSlim's recall window, which it uses for attention heads: tile {0, head_dim} (specs: sort; n = int(ratio * count), at least 1 here; the
/// first window of n consecutive values whose width, in f32, is the smallest). Ratio 1 is min-max. Cost: a pass over x where windows are few,
/// a sort of it where they are not; memory: one tile's values.
struct recall_window_observer {
  static constexpr std::string_view name = "recall_window";
  static constexpr merge_law law = merge_law::samples;
  using options = recall_window_options;

  explicit recall_window_observer(options o = {}) : options_{o} {}

  void reset(tile t, grid g) {
    tile_ = t;
    ranges_.assign(g.tiles(), range::empty());
  }

  /// x: [rows, cols], one sample.
  template <class B, class T>
  void observe(const B& backend, matrix_view<const T> x) {
    if (options_.ratio >= 1) return backend.ranges(x, tile_, std::span{ranges_});
    for_each_tile(x, tile_, [&](std::size_t i, matrix_view<const T> part) {
      values_.resize(part.size());
      backend.to_float(part, matrix_view<float>{values_.data(), part.rows(), part.cols()});
      ranges_[i] = join(ranges_[i], narrowest(values_));
    });
  }

  void merge(const recall_window_observer& other) { std::transform(ranges_.begin(), ranges_.end(), other.ranges_.begin(), ranges_.begin(), join); }

  std::span<const range> ranges() const { return ranges_; }

 private:
  /// May sort its argument.
  range narrowest(std::span<float> values) {
    if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) return range::undefined();
    const auto wanted = static_cast<std::size_t>(options_.ratio * static_cast<double>(values.size()));
    const std::size_t n = std::clamp<std::size_t>(wanted, 1, values.size()), windows = values.size() - n + 1;
    // Window i is [low[i], high[i]].
    std::span<float> low = values.first(windows), high = values.last(windows);
    if (windows < values.size() / 32) {
      ends_.resize(2 * windows);
      low = std::span{ends_}.first(windows);
      high = std::span{ends_}.last(windows);
      std::partial_sort_copy(values.begin(), values.end(), low.begin(), low.end());
      std::partial_sort_copy(values.begin(), values.end(), high.begin(), high.end(), std::greater<>{});
      std::reverse(high.begin(), high.end());
    } else {
      std::sort(values.begin(), values.end());
    }
    std::size_t best = 0;
    for (std::size_t i = 1; i < windows; ++i)
      if (high[i] - low[i] < high[best] - low[best]) best = i;
    return {low[best] + 0.0f, high[best] + 0.0f};  // -0 counts as 0
  }

  options options_;
  tile tile_;
  std::vector<range> ranges_;
  std::vector<float> values_, ends_;  ///< kept for their memory only
};
static_assert(Observer<recall_window_observer>);

}  // namespace qlib::inline v0
