#pragma once
#include <qlib/observer/histogram.hpp>
#include <qlib/observer/minmax.hpp>
#include <qlib/observer/range_score.hpp>

namespace qlib::inline v0 {

struct auto_mixed_options {
  double threshold = 50;
  int samples = 5;
  bool running = false;
  int upsample = 128;

  static constexpr auto fields() {
    return std::tuple{field{"threshold", &auto_mixed_options::threshold, "histogram up to this range score, min-max above it"},
                      field{"samples", &auto_mixed_options::samples, "the first samples, which decide the score"},
                      field{"running", &auto_mixed_options::running, "min-max: extremes over all samples; false: the mean of each sample's extremes"},
                      field{"upsample", &auto_mixed_options::upsample, "histogram: parts of a bin when the limits grow"}};
  }
};

/// Histogram or min-max, chosen for the layer by its range score: far outliers are not clipped, for they carry meaning.
///
/// msModelSlim's `act_method 3`. Both observe everything, and `ranges` gives those of the chosen one. Cost: that of both, and of the score on
/// the first samples. `merge` is of consecutive portions (see histogram_observer).
class auto_mixed_observer {
 public:
  static constexpr std::string_view name = "auto_mixed";
  static constexpr merge_law law = merge_law::portions;
  using options = auto_mixed_options;

  explicit auto_mixed_observer(options o = {})
      : options_{o}, score_{static_cast<std::size_t>(o.samples)}, histogram_{{.upsample = o.upsample}}, minmax_{{.running = o.running}} {}

  void reset(tile t, grid g) {
    score_.reset();
    histogram_.reset(t, g);
    minmax_.reset(t, g);
  }

  /// x: [tokens, channels], one sample.
  template <class B, class T>
  void observe(const B& backend, matrix_view<const T> x) {
    score_.observe(backend, x);
    histogram_.observe(backend, x);
    minmax_.observe(backend, x);
  }

  /// `later` saw the samples that come next.
  void merge(const auto_mixed_observer& later) {
    score_.merge(later.score_);
    histogram_.merge(later.histogram_);
    minmax_.merge(later.minmax_);
  }

  double score() const { return score_.score(); }
  bool uses_histogram() const { return score() <= options_.threshold; }
  /// Not for several threads at once (see histogram_observer).
  std::span<const range> ranges() const { return uses_histogram() ? histogram_.ranges() : minmax_.ranges(); }

 private:
  options options_;
  range_score score_;
  histogram_observer histogram_;
  minmax_observer minmax_;
};
static_assert(Observer<auto_mixed_observer>);

}  // namespace qlib::inline v0
