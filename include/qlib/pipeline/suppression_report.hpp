#pragma once
#include <qlib/config.hpp>

#include <cstddef>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// What came of one sub-graph that a recipe rescales.
struct suppression_report {
  std::string source = {}, kind = {}, suppressor = {};
  /// Sum of squared output errors over the sum of squared outputs, as if the linears behind it were quantized: without, and with the transform.
  /// Both 0: not compared.
  double error_before = 0, error_after = 0;
  bool kept = false;                               ///< false: the error would have grown, or no token came by: nothing is rescaled
  std::size_t dead = 0;                            ///< channels that are always the same: scale 1
  bool unseen = false;                             ///< fewer than two tokens came by: nothing is known of the ranges, nothing is rescaled
  std::size_t limited = 0;                         ///< channels whose scale is clamped: what is stored would have left its dtype
  std::vector<std::size_t> limited_channels = {};  ///< the first eight of them
  float smallest = 1, largest = 1;                 ///< scale
  /// Of weights that were looked at for clipping: tiles, those that are clipped, and the sum of the tiles' errors (weight_clips) without and with it.
  std::size_t tiles = 0, clipped = 0;
  double clip_error_before = 0, clip_error_after = 0;
};

}  // namespace qlib::inline v0
