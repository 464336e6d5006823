#pragma once
#include <qlib/core/convert.hpp>
#include <qlib/core/range.hpp>
#include <qlib/core/view.hpp>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

namespace qlib::inline v0 {

/// How far a layer's largest input lies from the rest: max |x| / sigma over its first samples.
///
/// msModelSlim's `range_param`, by which `act_method 3` chooses an observer and `disable_level` L<k> the k layers that stay float. sigma is
/// the largest over the samples of the unbiased standard deviation of x - (c_max + c_min), c_max and c_min being the sample's extremes of
/// the channel. (The sum is not halved there; `halved` gives the formula of its later `std` metric.) sigma 0: max |x| itself, as that metric has
/// it. NaN if a value is not finite.
class range_score {
 public:
  explicit range_score(std::size_t samples = 5, bool halved = false) : wanted_{samples}, halved_{halved} {}

  void reset() { samples_.clear(); }

  /// x: [tokens, channels], one sample; those after the first `samples` count no more. Cost: three reads of x.
  template <class B, class T>
  void observe(const B& backend, matrix_view<const T> x) {
    if (x.size() == 0 || samples_.size() >= wanted_) return;
    channels_.assign(x.cols(), range::empty());
    backend.ranges(x, tile{0, 1}, std::span{channels_});
    statistics s;
    std::vector<float> shift(x.cols());
    for (std::size_t c = 0; c < x.cols(); ++c) {
      s.all = join(s.all, channels_[c]);
      shift[c] = (channels_[c].max + channels_[c].min) / (halved_ ? 2.0f : 1.0f);
    }
    if (s.all.defined()) s.deviation = deviation_of(x, shift);
    samples_.push_back(s);
  }

  /// `later` saw the samples that come next.
  void merge(const range_score& later) {
    for (const statistics& s : later.samples_)
      if (samples_.size() < wanted_) samples_.push_back(s);
  }

  /// 0 before the first sample.
  double score() const {
    range all;
    double sigma = 0;
    for (const statistics& s : samples_) {
      all = join(all, s.all);
      sigma = std::max(sigma, s.deviation);
    }
    if (samples_.empty()) return 0;
    if (!all.defined()) return std::numeric_limits<double>::quiet_NaN();
    const double absmax = std::max(std::fabs(all.min), std::fabs(all.max));
    return sigma > 0 ? absmax / sigma : absmax;
  }

 private:
  struct statistics {
    range all;
    double deviation = 0;
  };

  /// Unbiased, in f64 from f32 differences; 0 for a single value, of which none is defined.
  template <class T>
  static double deviation_of(matrix_view<const T> x, std::span<const float> shift) {
    const auto sum = [&](auto term) {
      double rows = 0;
      for (std::size_t r = 0; r < x.rows(); ++r) {
        double row = 0;
        for (std::size_t c = 0; c < x.cols(); ++c) row += term(static_cast<double>(to_float(x(r, c)) - shift[c]));
        rows += row;
      }
      return rows;
    };
    if (x.size() < 2) return 0;
    const auto n = static_cast<double>(x.size());
    const double mean = sum([](double d) { return d; }) / n;
    return std::sqrt(sum([mean](double d) { return (d - mean) * (d - mean); }) / (n - 1));
  }

  std::size_t wanted_;
  bool halved_;
  std::vector<statistics> samples_;
  std::vector<range> channels_;  ///< kept for its memory only
};

}  // namespace qlib::inline v0
