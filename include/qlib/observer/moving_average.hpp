#pragma once
#include <qlib/concepts.hpp>
#include <qlib/observer/merge_law.hpp>
#include <qlib/observer/sample_history.hpp>

#include <vector>

namespace qlib::inline v0 {

struct moving_average_options {
  double averaging_constant = 0.01;

  static constexpr auto fields() {
    return std::tuple{field{"averaging_constant", &moving_average_options::averaging_constant, "weight of each sample after the first, 0 to 1"}};
  }
};

/// Moving average of each sample's extremes: the first sample's, then `old * (1 - c) + new * c`.
///
/// LLM-Compressor's `minmax` and torch's MovingAverageMinMaxObserver, bit for bit. Hangs on the first sample: `minmax` is the better choice
/// where the data fit. Cost: one read of x, and 8 bytes a tile and sample, which make `merge` of consecutive portions exact.
struct moving_average_observer {
  static constexpr std::string_view name = "moving_average";
  static constexpr merge_law law = merge_law::sequence;
  using options = moving_average_options;

  explicit moving_average_observer(options o = {}) : options_{o} {}

  void reset(tile t, grid g) {
    tile_ = t;
    history_.reset(g.tiles());
    ranges_.assign(g.tiles(), range::empty());
  }

  /// x: [rows, cols], one sample. An empty x is no sample.
  template <class B, class T>
  void observe(const B& backend, matrix_view<const T> x) {
    if (x.size() == 0) return;
    const std::span<range> sample = history_.append();
    backend.ranges(x, tile_, sample);
    for (std::size_t i = 0; i < ranges_.size(); ++i)
      ranges_[i] = history_.samples() == 1 ? sample[i] : sample_history::advanced(ranges_[i], sample[i], options_.averaging_constant);
  }

  /// `later` saw the samples that come next.
  void merge(const moving_average_observer& later) {
    history_.append(later.history_);
    history_.moving_average(options_.averaging_constant, ranges_);
  }

  std::span<const range> ranges() const { return ranges_; }

 private:
  options options_;
  tile tile_;
  sample_history history_;
  std::vector<range> ranges_;
};
static_assert(Observer<moving_average_observer>);

}  // namespace qlib::inline v0
