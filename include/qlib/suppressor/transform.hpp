#pragma once
#include <qlib/core/view.hpp>

#include <span>
#include <vector>

namespace qlib::inline v0 {

/// What an outlier suppressor found: a change of basis between a source (norm, v_proj, up_proj) and the linears that read it.
/// Suppressors solve; only `fold` changes weights.
struct transform {
  std::vector<float> channel_scale;  ///< [in_features]: weight columns are multiplied, the source is divided; empty: identity

  bool identity() const { return channel_scale.empty(); }
};

/// Multiplies the columns of `weight` [out_features, in_features] by the transform. Exact for powers of two.
inline void fold(const transform& t, matrix_view<float> weight) {
  if (t.identity()) return;
  for (std::size_t r = 0; r < weight.rows(); ++r)
    for (std::size_t c = 0; c < weight.cols(); ++c) weight(r, c) *= t.channel_scale[c];
}

}  // namespace qlib::inline v0
