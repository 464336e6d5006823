#pragma once
#include <qlib/config.hpp>

#include <vector>

namespace qlib::inline v0 {

/// What an outlier suppressor found: a change of basis between a source (norm, v_proj, up_proj) and the linears that read it.
/// x becomes (x - shift) / scale. Suppressors solve; only `fold` changes weights (fold.hpp).
struct transform {
  std::vector<float> scale;  ///< [channels], positive; empty: 1
  std::vector<float> shift;  ///< [channels]; empty: 0

  bool identity() const { return scale.empty() && shift.empty(); }
};

}  // namespace qlib::inline v0
