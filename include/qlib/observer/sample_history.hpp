#pragma once
#include <qlib/core/range.hpp>

#include <algorithm>
#include <span>
#include <vector>

namespace qlib::inline v0 {

/// Moving average of the ranges that samples had, tile by tile: the first sample's, then `old * (1 - c) + new * c`. It depends on the order of
/// the samples, so that each one's ranges are kept: merging consecutive portions is exact. Memory: 8 bytes a tile and sample.
class sample_history {
 public:
  /// averaging_constant: weight of each sample after the first, 0 to 1.
  explicit sample_history(double averaging_constant) : constant_{averaging_constant} {}

  void reset(std::size_t tiles) {
    samples_.clear();
    ranges_.assign(tiles, range::empty());
  }

  /// One more sample: `find` joins its ranges into a span of empty ones, one a tile.
  template <class Find>
  void add(Find find) {
    samples_.resize(samples_.size() + ranges_.size());
    const std::span<range> sample = std::span{samples_}.last(ranges_.size());
    find(sample);
    average(sample, samples_.size() == sample.size());
  }

  /// The samples of `later` come after the ones here.
  void merge(const sample_history& later) {
    const std::size_t tiles = ranges_.size(), before = samples_.size();
    samples_.insert(samples_.end(), later.samples_.begin(), later.samples_.end());
    for (std::size_t at = before; at < samples_.size(); at += tiles) average(std::span{samples_}.subspan(at, tiles), at == 0);
  }

  /// The averages so far; empty before the first sample, undefined once a sample was.
  std::span<const range> ranges() const { return ranges_; }

 private:
  void average(std::span<const range> sample, bool first) {
    for (std::size_t i = 0; i < ranges_.size(); ++i) ranges_[i] = first ? sample[i] : advanced(ranges_[i], sample[i]);
  }

  /// In f32 without contraction: LLM-Compressor's and torch's moving average.
  range advanced(range average, range next) const {
    if (!average.defined() || !next.defined()) return range::undefined();
    const float keep = static_cast<float>(1 - constant_), take = static_cast<float>(constant_);
    const auto product = [](float a, float b) { return static_cast<float>(static_cast<double>(a) * b); };  // a double holds it: no FMA can change it
    return {product(average.min, keep) + product(next.min, take), product(average.max, keep) + product(next.max, take)};
  }

  double constant_;
  std::vector<range> samples_;  // one after the other
  std::vector<range> ranges_;
};

}  // namespace qlib::inline v0
