/// The only code that changes weights for a transform: y = W x stays W' x' with x' = (x - shift) / scale.
#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/convert.hpp>
#include <qlib/core/view.hpp>
#include <qlib/suppressor/channel_map.hpp>
#include <qlib/suppressor/transform.hpp>

#include <cstddef>
#include <span>
#include <vector>

namespace qlib::inline v0 {

/// What folding does to a matrix: w[r, c] becomes w[r, c] * columns[c] / rows[r], rounded once; powers of two round nothing. An empty vector is
/// all ones.
struct scaling {
  std::vector<float> columns, rows;
};

/// Rows [first_row, first_row + w.rows()) of a matrix, by several scalings at once: rounded once, not each.
inline void fold(std::span<const scaling* const> all, matrix_view<float> w, std::size_t first_row = 0) {
  if (all.size() == 1 && all.front()->rows.empty()) {  // a product of two f32 is exact in f64: the same bits
    if (!all.front()->columns.empty()) native_backend{}.scale_columns(w, all.front()->columns);
    return;
  }
  std::vector<double> columns(w.cols(), 1.0);
  for (const scaling* s : all)
    for (std::size_t c = 0; c < s->columns.size(); ++c) columns[c] *= static_cast<double>(s->columns[c]);
  for (std::size_t r = 0; r < w.rows(); ++r) {
    double divisor = 1;
    for (const scaling* s : all)
      if (!s->rows.empty()) divisor *= static_cast<double>(s->rows[first_row + r]);
    float* row = w.row(r);
    for (std::size_t c = 0; c < w.cols(); ++c) row[c] = static_cast<float>(static_cast<double>(row[c]) * columns[c] / divisor);
  }
}

inline void fold(const scaling& s, matrix_view<float> w, std::size_t first_row = 0) {
  const scaling* const one = &s;
  fold(std::span{&one, 1}, w, first_row);
}

/// bias[r] += the sum of w[r, c] * shift[c]: what a linear gets when its input loses `shift`, a value a column. Summed in f64.
template <class T>
void fold_shift(std::span<const float> shift, matrix_view<const T> w, std::span<float> bias) {
  for (std::size_t r = 0; r < w.rows(); ++r) {
    double sum = bias[r];
    for (std::size_t c = 0; c < w.cols(); ++c) sum += static_cast<double>(to_float(w(r, c))) * static_cast<double>(shift[c]);
    bias[r] = static_cast<float>(sum);
  }
}

/// A linear that reads the channels: weight [out_features, columns], bias [out_features] or empty. A shift needs a bias.
inline void fold_into_reader(const transform& t, const channel_map& map, matrix_view<float> weight, std::span<float> bias = {}) {
  if (!t.shift.empty()) fold_shift(map.expand(t.shift), matrix_view<const float>{weight}, bias);
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
