#pragma once
#include <qlib/core/range.hpp>

#include <algorithm>
#include <span>
#include <vector>

namespace qlib::inline v0 {

/// The range that each sample had, tile by tile, in the order of the samples. What depends on that order is computed from here, so that
/// merging consecutive portions is exact. Memory: 8 bytes a tile and sample.
class sample_history {
 public:
  void reset(std::size_t tiles) {
    tiles_ = tiles;
    ranges_.clear();
  }

  /// The place of one more sample, empty ranges, one a tile.
  std::span<range> append() {
    ranges_.resize(ranges_.size() + tiles_);
    return std::span{ranges_}.last(tiles_);
  }

  /// The samples of `later` come after the ones here.
  void append(const sample_history& later) { ranges_.insert(ranges_.end(), later.ranges_.begin(), later.ranges_.end()); }

  std::size_t samples() const { return tiles_ == 0 ? 0 : ranges_.size() / tiles_; }

  /// out: the first sample's ranges, then advanced by each later sample's; empty before the first sample.
  void moving_average(double constant, std::span<range> out) const {
    for (std::size_t i = 0; i < tiles_; ++i) {
      out[i] = samples() == 0 ? range::empty() : ranges_[i];
      for (std::size_t s = 1; s < samples(); ++s) out[i] = advanced(out[i], ranges_[s * tiles_ + i], constant);
    }
  }

  /// `average * (1 - constant) + next * constant` in f32 without contraction: LLM-Compressor's and torch's moving average. Undefined if one
  /// of them is.
  static range advanced(range average, range next, double constant) {
    if (!average.defined() || !next.defined()) return range::undefined();
    const float keep = static_cast<float>(1 - constant), take = static_cast<float>(constant);
    const auto product = [](float a, float b) { return static_cast<float>(static_cast<double>(a) * b); };  // a double holds it: no FMA can change it
    return {product(average.min, keep) + product(next.min, take), product(average.max, keep) + product(next.max, take)};
  }

 private:
  std::size_t tiles_ = 0;
  std::vector<range> ranges_;
};

}  // namespace qlib::inline v0
