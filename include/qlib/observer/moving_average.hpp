#pragma once
#include <qlib/concepts.hpp>
#include <qlib/observer/merge_law.hpp>
#include <qlib/observer/sample_history.hpp>

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

  explicit moving_average_observer(options o = {}) : history_{o.averaging_constant} {}

  void reset(tile t, grid g) {
    tile_ = t;
    history_.reset(g.tiles());
  }

  /// x: [rows, cols], one sample. An empty x is no sample.
  template <class B, class T>
  void observe(const B& backend, matrix_view<const T> x) {
    if (x.size() != 0) history_.add([&](std::span<range> sample) { backend.ranges(x, tile_, sample); });
  }

  /// `later` saw the samples that come next.
  void merge(const moving_average_observer& later) { history_.merge(later.history_); }

  std::span<const range> ranges() const { return history_.ranges(); }

 private:
  tile tile_;
  sample_history history_;
};
static_assert(Observer<moving_average_observer>);

}  // namespace qlib::inline v0
