#pragma once
#include <qlib/config.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace qlib::inline v0 {

/// Which channel of its source each input column of a linear is read from.
///
/// One each, but for the output projection of grouped-query attention: consecutive blocks of `width` columns (heads) are read from one
/// block of channels `repeats` times.
struct channel_map {
  std::size_t repeats = 1, width = 1;

  std::size_t channels(std::size_t columns) const { return columns / repeats; }
  std::size_t channel_of(std::size_t column) const { return repeats == 1 ? column : column / (width * repeats) * width + column % width; }

  /// A value a column from one a channel.
  std::vector<float> expand(std::span<const float> of_channels) const {
    std::vector<float> out(of_channels.size() * repeats);
    for (std::size_t c = 0; c < out.size(); ++c) out[c] = of_channels[channel_of(c)];
    return out;
  }

  /// The largest of a channel's columns.
  std::vector<float> largest(std::span<const float> of_columns) const {
    std::vector<float> out(channels(of_columns.size()));
    std::vector<bool> seen(out.size());
    for (std::size_t c = 0; c < of_columns.size(); ++c) {
      const std::size_t k = channel_of(c);
      out[k] = seen[k] ? std::max(out[k], of_columns[c]) : of_columns[c];
      seen[k] = true;
    }
    return out;
  }

  /// The smallest of a channel's columns.
  std::vector<float> smallest(std::span<const float> of_columns) const {
    std::vector<float> negated(of_columns.begin(), of_columns.end());
    for (float& v : negated) v = -v;
    std::vector<float> out = largest(negated);
    for (float& v : out) v = -v;
    return out;
  }

  /// The mean of a channel's columns.
  std::vector<float> mean(std::span<const float> of_columns) const {
    std::vector<float> out(channels(of_columns.size()));
    for (std::size_t c = 0; c < of_columns.size(); ++c) out[channel_of(c)] += of_columns[c];
    for (float& v : out) v /= static_cast<float>(repeats);
    return out;
  }
};

}  // namespace qlib::inline v0
