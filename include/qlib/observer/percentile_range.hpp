#pragma once
#include <qlib/core/convert.hpp>
#include <qlib/core/range.hpp>
#include <qlib/core/view.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace qlib::inline v0 {

namespace detail {

/// The two places between sorted values that a percentile of n values lies between: torch.quantile's linear interpolation, its place in f64.
struct rank {
  std::size_t below;  ///< index of the lower one
  double weight;      ///< of the upper one, [0, 1)

  rank(double percent, std::size_t n) {
    const double place = std::clamp(percent, 0.0, 100.0) / 100 * static_cast<double>(n - 1);
    below = std::min(static_cast<std::size_t>(place), n - 1);
    weight = below + 1 < n ? place - static_cast<double>(below) : 0;
  }
  std::size_t above() const { return weight > 0 ? below + 1 : below; }
  float between(float a, float b) const {
    if (weight == 0) return a + 0.0f;  // -0 counts as 0
    return static_cast<float>(a + weight * (static_cast<double>(b) - a)) + 0.0f;
  }
};

/// The k-th smallest of finite values, k < n; reorders them. Many values are first counted in equal bins of their patterns, which have the order
/// of the values, so that only one bin is put in order: 2 ns a value where std::nth_element takes 10, because nothing has to be predicted.
inline float kth_smallest(std::span<float> values, std::size_t k) {
  constexpr std::size_t bins = 2048;
  const auto nth = [](std::span<float> v, std::size_t i) {
    std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(i), v.end());
    return v[i];
  };
  if (values.size() < 2 * bins) return nth(values, k);
  const auto place = [](float v) {
    const auto bits = std::bit_cast<std::int32_t>(v);
    return static_cast<std::uint32_t>(bits ^ ((bits >> 31) & 0x7fffffff)) ^ 0x80000000u;
  };
  std::uint32_t low = ~0u, high = 0;
  for (const float v : values) {
    low = std::min(low, place(v));
    high = std::max(high, place(v));
  }
  const int shift = std::max(0, static_cast<int>(std::bit_width(high - low)) - 11);
  std::array<std::uint32_t, bins> counts{};
  for (const float v : values) ++counts[(place(v) - low) >> shift];
  std::uint32_t bin = 0;
  for (; k >= counts[bin]; ++bin) k -= counts[bin];
  std::vector<float> inside(counts[bin] + 1);
  std::size_t n = 0;
  for (const float v : values) {  // written always, kept where it is in the bin
    inside[n] = v;
    n += (place(v) - low) >> shift == bin;
  }
  return nth(std::span{inside}.first(n), k);
}

/// The percentile of finite values, which it reorders.
inline float percentile_of(std::span<float> values, rank r) {
  if (values.size() >= std::size_t{1} << 16) {
    const float below = kth_smallest(values, r.below);
    return r.between(below, r.weight > 0 ? kth_smallest(values, r.below + 1) : below);
  }
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(r.below);
  std::nth_element(values.begin(), at, values.end());
  return r.between(*at, r.weight > 0 ? *std::min_element(at + 1, values.end()) : *at);
}

/// By putting all values in place. `values`: n, finite or not.
inline range percentile_range_of(std::span<float> values, double lower, double upper) {
  if (values.empty()) return range::empty();
  for (const float v : values)
    if (!std::isfinite(v)) return range::undefined();
  const rank low{lower, values.size()}, high{upper, values.size()};
  const float a = percentile_of(values, low);
  return {a, percentile_of(values, high)};
}

/// The values of one tail, and a threshold that is nearer to the median than all of them.
struct tail {
  std::span<float> values;  ///< all values of the matrix beyond the threshold
  float threshold;
  std::size_t ties;  ///< how many values equal it

  /// The k-th value from the far end, which is the low or the high one, if it is known.
  std::optional<float> at(std::size_t k, bool high) {
    if (k < values.size()) return kth_smallest(values, high ? values.size() - 1 - k : k);
    if (k < values.size() + ties) return threshold;
    return std::nullopt;
  }
};

/// 16384 values of x in runs of a cache line's worth, from places that a hash of their number gives: the same ones in every run.
template <class T>
void sample_of(matrix_view<const T> x, std::vector<float>& out) {
  constexpr std::size_t runs = 1024, length = 16;
  const std::size_t n = std::min(length, x.cols());
  out.clear();
  for (std::uint64_t i = 0; i < runs * length / n; ++i) {
    std::uint64_t h = (i + 1) * 0x9e3779b97f4a7c15u;  // splitmix64
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
    h ^= h >> 31;
    const std::size_t r = (h >> 32) * x.rows() >> 32, c = (h & 0xffffffffu) * (x.cols() - n + 1) >> 32;
    for (std::size_t k = 0; k < n; ++k) out.push_back(to_float(x(r, c + k)));
  }
}

}  // namespace detail

/// The `lower`-th and `upper`-th percentile of the values of x: exact, interpolated like torch.quantile. lower < upper. Undefined if a value is NaN
/// or infinite, empty if there is none.
///
/// A sample gives two thresholds, one read of x collects what lies beyond them, and its count proves that the percentiles are among it; where
/// they are not (percentiles near the median, data unlike its sample) all values are copied and put in place. `scratch` is kept for its memory:
/// 3 % of x at 0.1 and 99.9, or all of it.
template <class B, class T>
range percentile_range(const B& backend, matrix_view<const T> x, double lower, double upper, std::vector<float>& scratch) {
  const std::size_t n = x.size(), margins[] = {4, 32};
  if (n >= std::size_t{1} << 16) {
    const detail::rank low{lower, n}, high{upper, n};
    std::vector<float> sample;
    detail::sample_of(x, sample);
    for (const float v : sample)
      if (!std::isfinite(v)) return range::undefined();
    const auto sampled = [&](std::size_t i) { return detail::kth_smallest(sample, i); };
    for (const std::size_t margin : margins) {
      const double m = static_cast<double>(sample.size()), share = m / static_cast<double>(n);
      const auto inward = [&](double place) { return place + static_cast<double>(margin) * (1 + std::sqrt(place)); };
      const double first = inward(static_cast<double>(low.above()) * share), last = inward(static_cast<double>(n - 1 - high.below) * share);
      if (first + last > m / 8) break;
      const float bottom = sampled(static_cast<std::size_t>(first));
      const range inner{bottom, sampled(sample.size() - 1 - static_cast<std::size_t>(last))};
      const std::size_t room = static_cast<std::size_t>(2 * (first + last) / share) + 64;
      scratch.resize(3 * room);
      const std::size_t found = backend.outside(x, inner, std::span{scratch}.first(room));
      if (found > room) continue;
      const std::span<float> beyond = std::span{scratch}.first(found);
      for (const float v : beyond)
        if (!std::isfinite(v)) return range::undefined();
      detail::tail lows{std::span{scratch}.subspan(room, room), inner.min, 0}, highs{std::span{scratch}.subspan(2 * room), inner.max, 0};
      std::size_t low_count = 0, high_count = 0;
      for (const float v : beyond) {  // without a branch that nobody can predict
        lows.values[low_count] = highs.values[high_count] = v;
        low_count += v < inner.min;
        high_count += v > inner.max;
      }
      lows.values = lows.values.first(low_count);
      highs.values = highs.values.first(high_count);
      constexpr float inf = std::numeric_limits<float>::infinity();
      if (low.above() >= lows.values.size())
        lows.ties = backend.outside(x, {std::nextafter(inner.min, inf), inf}, std::span<float>{}) - lows.values.size();
      if (n - 1 - high.below >= highs.values.size())
        highs.ties = backend.outside(x, {-inf, std::nextafter(inner.max, -inf)}, std::span<float>{}) - highs.values.size();
      const auto a = lows.at(low.below, false), b = lows.at(low.above(), false);
      const auto c = highs.at(n - 1 - high.below, true), d = highs.at(n - 1 - high.above(), true);
      if (a && b && c && d) return {low.between(*a, *b), high.between(*c, *d)};
    }
  }
  scratch.resize(n);
  if (n > 0) backend.to_float(x, matrix_view<float>{scratch.data(), x.rows(), x.cols()});
  return detail::percentile_range_of(scratch, lower, upper);
}

}  // namespace qlib::inline v0
