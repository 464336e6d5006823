/// The only code that changes weights for a transform: y = W x stays W' x' with x' = (x - shift) / scale.
#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/view.hpp>
#include <qlib/suppressor/channel_map.hpp>
#include <qlib/suppressor/transform.hpp>

#include <cstddef>
#include <span>
#include <vector>

namespace qlib::inline v0 {

/// One step of what folding does to a matrix: w[r, c] becomes w[r, c] * columns[c] / rows[r], in f32: one rounding each, none for powers of
/// two. An empty vector is all ones.
struct scaling {
  std::vector<float> columns, rows;
};

/// Rows [first_row, first_row + w.rows()) of a matrix.
inline void fold(const scaling& s, matrix_view<float> w, std::size_t first_row = 0) {
  const native_backend kernels;
  for (std::size_t r = 0; r < w.rows(); ++r) {
    float* row = w.row(r);
    if (!s.columns.empty()) kernels.scale_columns(w.strip(r, 1), s.columns);
    if (!s.rows.empty()) {
      const float divisor = s.rows[first_row + r];
      if (divisor != 1.0f)
        for (std::size_t c = 0; c < w.cols(); ++c) row[c] /= divisor;
    }
  }
}

/// A linear that reads the channels: weight [out_features, columns], bias [out_features] or empty. A shift needs a bias: it becomes
/// bias + W shift, summed in f64.
inline void fold_into_reader(const transform& t, const channel_map& map, matrix_view<float> weight, std::span<float> bias = {}) {
  if (!t.shift.empty())
    for (std::size_t r = 0; r < weight.rows(); ++r) {
      double sum = bias[r];
      for (std::size_t c = 0; c < weight.cols(); ++c) sum += static_cast<double>(weight(r, c)) * static_cast<double>(t.shift[map.channel_of(c)]);
      bias[r] = static_cast<float>(sum);
    }
  if (!t.scale.empty()) fold(scaling{map.expand(t.scale), {}}, weight);
}

/// A linear whose outputs are the channels: weight [channels, in_features], bias [channels] or empty. A shift needs a bias.
inline void fold_into_source(const transform& t, matrix_view<float> weight, std::span<float> bias = {}) {
  if (!t.scale.empty()) fold(scaling{{}, t.scale}, weight);
  for (std::size_t c = 0; c < bias.size(); ++c) bias[c] = (bias[c] - (t.shift.empty() ? 0.0f : t.shift[c])) / (t.scale.empty() ? 1.0f : t.scale[c]);
}

/// A norm: gains [channels], biases [channels] or empty. A shift needs biases.
inline void fold_into_norm(const transform& t, std::span<float> gains, std::span<float> biases = {}) {
  for (std::size_t c = 0; c < gains.size(); ++c) {
    const float s = t.scale.empty() ? 1.0f : t.scale[c];
    gains[c] /= s;
    if (!biases.empty()) biases[c] = (biases[c] - (t.shift.empty() ? 0.0f : t.shift[c])) / s;
  }
}

}  // namespace qlib::inline v0
