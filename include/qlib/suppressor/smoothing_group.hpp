#pragma once
#include <qlib/core/convert.hpp>
#include <qlib/core/quant_spec.hpp>
#include <qlib/core/view.hpp>
#include <qlib/suppressor/channel_map.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace qlib::inline v0 {

class gemm;

/// Linears that read the same input, and how they will be quantized: what a suppressor solves for.
struct smoothing_group {
  std::span<const matrix_view<const float>> weights;  ///< each [out_features, in_features]
  /// Largest |w| of each column over all linears that read the input; empty: over `weights`. A layer of experts gives it so, because its
  /// weights do not stand in memory at once.
  std::span<const float> all_absmax = {};
  channel_map channels = {};
  std::optional<quant_spec> weight_spec = {};  ///< none: they stay float
  std::optional<quant_spec> input_spec = {};   ///< of [tokens, in_features]; a tile of one row is per token; none: float
  bool mean_ranges = false;                    ///< a static input's range is the mean of its samples' extremes, not the extremes of all
  bool may_shift = false;                      ///< source and readers can take a bias
  const gemm* products = nullptr;              ///< for policies that search; null: one thread, reproducible

  std::size_t columns() const { return weights.empty() ? all_absmax.size() : weights.front().cols(); }

  /// [in_features]
  std::vector<float> column_absmax() const {
    if (!all_absmax.empty()) return {all_absmax.begin(), all_absmax.end()};
    std::vector<float> out(columns(), 0.0f);
    for (const auto& w : weights)
      for (std::size_t r = 0; r < w.rows(); ++r) {
        const float* row = w.row(r);
        for (std::size_t c = 0; c < out.size(); ++c) out[c] = std::max(out[c], std::fabs(row[c]));
      }
    return out;
  }
};

}  // namespace qlib::inline v0
