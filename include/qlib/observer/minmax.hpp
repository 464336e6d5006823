#pragma once
#include <qlib/concepts.hpp>
#include <qlib/observer/merge_law.hpp>

#include <algorithm>
#include <vector>

namespace qlib::inline v0 {

struct minmax_options {
  bool running = true;

  static constexpr auto fields() {
    return std::tuple{field{"running", &minmax_options::running, "extremes over all samples; false: the mean of each sample's extremes"}};
  }
};

/// Smallest and largest value of each tile: over everything seen, or averaged over the samples.
///
/// Running: LLM-Compressor's `memoryless_minmax` and `static_minmax`, msModelSlim's `minmax` (docs/rounding.md); exact, order independent.
/// Averaged: msModelSlim's `act_method 1` and `aggregation: mean`: sums of the samples' extremes in f64, divided by their number; portions may
/// be cut between samples only, and merging them is exact while the sums are (53 bits). Cost: one read of x.
struct minmax_observer {
  static constexpr std::string_view name = "minmax";
  static constexpr bool keeps_extremes = true;  ///< of one sample: backends may find range and parameters in one pass (solve_tiles)
  static constexpr merge_law law = merge_law::elements;
  using options = minmax_options;

  explicit minmax_observer(options o = {}) : options_{o} {}

  /// Forgets everything; from now on x is cut into tiles `t`, `g` of them.
  void reset(tile t, grid g) {
    tile_ = t;
    ranges_.assign(g.tiles(), range::empty());
    if (options_.running) return;
    sums_.assign(g.tiles(), {});
    samples_ = 0;
  }

  /// x: [rows, cols], one sample; grid_of(tile, rows, cols) is the grid given to `reset`. An empty x is no sample.
  template <class B, class T>
  void observe(const B& backend, matrix_view<const T> x) {
    if (options_.running) return backend.ranges(x, tile_, std::span{ranges_});
    if (x.size() == 0) return;
    std::fill(ranges_.begin(), ranges_.end(), range::empty());
    backend.ranges(x, tile_, std::span{ranges_});
    for (std::size_t i = 0; i < ranges_.size(); ++i) sums_[i].add(ranges_[i].min, ranges_[i].max);
    ++samples_;
    average();
  }

  void merge(const minmax_observer& other) {
    if (options_.running) {
      std::transform(ranges_.begin(), ranges_.end(), other.ranges_.begin(), ranges_.begin(), join);
      return;
    }
    for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i].add(other.sums_[i].min, other.sums_[i].max);
    samples_ += other.samples_;
    average();
  }

  std::span<const range> ranges() const { return ranges_; }
  bool running() const { return options_.running; }

 private:
  struct extremes_sum {
    double min = 0, max = 0;  ///< NaN from the first undefined range on
    void add(double low, double high) {
      min += low;
      max += high;
    }
  };

  void average() {
    const auto n = static_cast<double>(samples_);
    for (std::size_t i = 0; i < sums_.size(); ++i)
      ranges_[i] = samples_ == 0 ? range::empty() : range{static_cast<float>(sums_[i].min / n), static_cast<float>(sums_[i].max / n)};
  }

  options options_;
  tile tile_;
  std::vector<range> ranges_;
  std::vector<extremes_sum> sums_;
  std::size_t samples_ = 0;
};
static_assert(Observer<minmax_observer>);

}  // namespace qlib::inline v0
