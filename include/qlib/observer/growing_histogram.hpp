#pragma once
#include <qlib/core/range.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace qlib::inline v0 {

/// A histogram whose limits grow with the data, by the rule of torch.ao's HistogramObserver up to PyTorch 2.0, which msModelSlim's
/// `act_method 2` uses: the lower limit moves to the new minimum, the upper one so far beyond the new maximum that the new bins are a whole
/// number of the old ones' `upsample`-th parts; old counts are moved as if they lay evenly in their bins. Limits are computed in f32, counts
/// in f64; float limits are kept (torch 1.13 truncates them to integers: its known defect).
class growing_histogram {
 public:
  bool empty() const { return counts_.empty(); }
  /// Lower end of the first bin and upper end of the last. Not before the first `grow`.
  range limits() const { return limits_; }
  std::span<const double> counts() const& { return counts_; }
  std::span<const double> counts() && = delete;  // would outlive them

  /// Makes the limits hold `seen`, which is defined and has min < max. The first call sets them.
  void grow(range seen, std::size_t bins, std::size_t upsample) {
    if (empty()) {
      limits_ = seen;
      counts_.assign(bins, 0);
      return;
    }
    const range both = join(limits_, seen);
    if (both.min == limits_.min && both.max == limits_.max) return;
    const float parts = static_cast<float>(bins * upsample), n = static_cast<float>(bins);
    const float width = (limits_.max - limits_.min) / parts, span = both.max - both.min;
    const float ratio = std::ceil(span / (n * width)), first = std::nearbyint((limits_.min - both.min) / width);
    const float top = both.max + (ratio * (n * width) - span);
    // Where f32 cannot tell the parts apart any more, or overflows, the counts are spread over the plain union instead.
    if (!(ratio < 0x1p24f) || !(first < 0x1p40f) || !(top >= both.max) || !std::isfinite(top)) return spread_over(both);
    regroup(static_cast<double>(ratio), static_cast<double>(first), static_cast<double>(upsample));
    limits_ = {both.min, top};
  }

  /// found: counts of values in equal_bins(limits(), bins).
  void add(std::span<const std::uint32_t> found) {
    for (std::size_t i = 0; i < found.size(); ++i) counts_[i] += found[i];
  }

  /// Grows to hold the other's limits and adds its counts, as if they lay evenly in their bins. Same number of bins.
  void join_with(const growing_histogram& other, std::size_t upsample) {
    if (other.empty()) return;
    if (empty()) {
      *this = other;
      return;
    }
    grow(other.limits_, counts_.size(), upsample);
    growing_histogram moved = other;
    moved.spread_over(limits_);
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += moved.counts_[i];
  }

 private:
  /// Counts below each bin's lower end, and the total.
  std::vector<double> sums() const {
    std::vector<double> below(counts_.size() + 1, 0);
    for (std::size_t i = 0; i < counts_.size(); ++i) below[i + 1] = below[i] + counts_[i];
    return below;
  }

  /// What lies below a position, counted in bins from the lower limit, `sums` given.
  double below(const std::vector<double>& sums, double position) const {
    if (position <= 0) return 0;
    if (position >= static_cast<double>(counts_.size())) return sums.back();
    const auto bin = static_cast<std::size_t>(position);
    return sums[bin] + (position - static_cast<double>(bin)) * counts_[bin];
  }

  /// New bins of `ratio` parts each; the old ones have `upsample` parts and start at part `first`.
  void regroup(double ratio, double first, double upsample) {
    const std::vector<double> old = sums();
    std::vector<double> next(counts_.size());
    double before = 0;
    for (std::size_t i = 0; i < next.size(); ++i) {
      const bool last = i + 1 == next.size();
      const double here = last ? old.back() : below(old, (ratio * static_cast<double>(i + 1) - first) / upsample);
      next[i] = here - before;
      before = here;
    }
    counts_ = std::move(next);
  }

  /// Moves the counts to bins over `wider`, which holds the limits.
  void spread_over(range wider) {
    const std::vector<double> old = sums();
    const double low = limits_.min, old_width = static_cast<double>(limits_.max) - low, n = static_cast<double>(counts_.size());
    const double width = static_cast<double>(wider.max) - wider.min;
    std::vector<double> next(counts_.size());
    double before = 0;
    for (std::size_t i = 0; i < next.size(); ++i) {
      const double edge = wider.min + width * (static_cast<double>(i + 1) / n);
      const double here = i + 1 == next.size() ? old.back() : below(old, (edge - low) / old_width * n);
      next[i] = here - before;
      before = here;
    }
    counts_ = std::move(next);
    limits_ = wider;
  }

  range limits_;
  std::vector<double> counts_;
};

/// The part of the limits whose quantization to `levels` equal steps has the smallest squared error, found by torch.ao's search: take the
/// sparser end off in steps of 1e-5 of the mass until the error rises. Values are taken to lie evenly in their bins.
///
/// counts: one a bin. All zero, or limits without width: the limits.
inline range least_error_range(std::span<const double> counts, range limits, std::size_t levels) {
  const auto bins = counts.size();
  const float n = static_cast<float>(bins), width = limits.max / n - limits.min / n;
  std::vector<double> sums(bins);
  double total = 0;
  for (std::size_t i = 0; i < bins; ++i) sums[i] = total += counts[i];
  if (!(width > 0) || !(total > 0)) return limits;

  const double w = width, most = static_cast<double>(levels - 1);
  /// The integral of x^2 over [from, to].
  const auto square = [](double from, double to) { return (to * to * to - from * from * from) / 3; };
  const auto error = [&](std::size_t first, std::size_t last) {
    const double step = w * static_cast<double>(last - first + 1) / static_cast<double>(levels), half = step / 2, whole = square(-half, half);
    double sum = 0;
    for (std::size_t k = 0; k < bins; ++k) {
      if (counts[k] == 0) continue;
      const double begin = (static_cast<double>(k) - static_cast<double>(first)) * w, end = begin + w;
      const double b = std::clamp(std::floor(begin / step), 0.0, most), e = std::clamp(std::floor(end / step), 0.0, most);
      sum += counts[k] / w * (square(begin - (b + 0.5) * step, half) + (e - b - 1) * whole + square(-half, end - (e + 0.5) * step));
    }
    return sum;
  };

  constexpr double step = 1e-5;
  std::size_t first = 0, last = bins - 1;
  double alpha = 0, beta = 1, best = std::numeric_limits<double>::infinity();
  while (alpha < beta) {
    const double next_alpha = alpha + step, next_beta = beta - step;
    std::size_t l = first, r = last;
    while (l < last && sums[l] < next_alpha * total) ++l;
    while (r > first && sums[r] > next_beta * total) --r;
    std::size_t to_first = first, to_last = last;
    if (l - first > last - r) {
      to_first = l;
      alpha = next_alpha;
    } else {
      to_last = r;
      beta = next_beta;
    }
    if (to_first == first && to_last == last) continue;
    const double e = error(to_first, to_last);
    if (e > best) break;
    best = e;
    first = to_first;
    last = to_last;
  }
  const auto edge = [&](std::size_t i) { return limits.min + static_cast<float>(w * static_cast<double>(i)); };  // exact product: no FMA changes it
  return {edge(first) + 0.0f, edge(last + 1) + 0.0f};
}

}  // namespace qlib::inline v0
