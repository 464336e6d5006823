#pragma once
#include <qlib/concepts.hpp>

#include <algorithm>
#include <vector>

namespace qlib::inline v0 {

/// Smallest and largest value of each tile seen so far.
///
/// LLM-Compressor's `memoryless_minmax` and `static_minmax`, msModelSlim's `minmax` (docs/rounding.md). Exact, order independent;
/// `merge` is associative, so shards of the data can be observed anywhere. Cost: one read of x.
struct minmax_observer {
  static constexpr std::string_view name = "minmax";
  using options = no_options;

  explicit minmax_observer(options = {}) {}

  /// Forgets everything; from now on x is cut into tiles `t`, `g` of them.
  void reset(tile t, grid g) {
    tile_ = t;
    ranges_.assign(g.tiles(), range::empty());
  }

  /// x: [rows, cols]; grid_of(tile, rows, cols) is the grid given to `reset`.
  template <class B, class T>
  void observe(const B& backend, matrix_view<const T> x) {
    backend.ranges(x, tile_, std::span{ranges_});
  }

  void merge(const minmax_observer& other) { std::transform(ranges_.begin(), ranges_.end(), other.ranges_.begin(), ranges_.begin(), join); }

  std::span<const range> ranges() const { return ranges_; }

 private:
  tile tile_;
  std::vector<range> ranges_;
};
static_assert(Observer<minmax_observer>);

}  // namespace qlib::inline v0
