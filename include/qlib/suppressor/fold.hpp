/// The only code that changes weights for a transform: y = W x stays W' x' with x' = (x - shift) / scale.
#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/view.hpp>
#include <qlib/linalg/hadamard.hpp>
#include <qlib/suppressor/channel_map.hpp>
#include <qlib/suppressor/transform.hpp>

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <variant>
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

/// Another step: an orthogonal change of basis. Of the inputs, w becomes w R; of the outputs, w becomes Rᵀ w.
struct rotation {
  std::shared_ptr<const hadamard_rotation> by;
  bool outputs = false;
  /// Of outputs: which rows, in runs [first, rows) that each hold whole blocks; empty: all.
  std::vector<std::pair<std::size_t, std::size_t>> runs = {};
};

/// Rotating inputs takes any rows of a matrix; rotating outputs all of them at once.
inline void fold(const rotation& r, matrix_view<float> w) {
  if (!r.outputs) return r.by->rows(w);
  if (r.runs.empty()) return r.by->columns(w);
  for (const auto& [first, rows] : r.runs) r.by->columns(w.strip(first, rows));
}

using fold_step = std::variant<scaling, rotation>;

/// All steps in order. Scalings between two rotations are rounded once, not each.
inline void fold(std::span<const fold_step> steps, matrix_view<float> w, std::size_t first_row = 0) {
  std::vector<double> columns;
  while (!steps.empty()) {
    if (const auto* r = std::get_if<rotation>(&steps.front())) {
      fold(*r, w);
      steps = steps.subspan(1);
      continue;
    }
    std::size_t n = 0;
    while (n < steps.size() && std::holds_alternative<scaling>(steps[n])) ++n;
    columns.assign(w.cols(), 1.0);
    for (const fold_step& step : steps.first(n)) {
      const auto& factor = std::get<scaling>(step).columns;
      for (std::size_t c = 0; c < factor.size(); ++c) columns[c] *= static_cast<double>(factor[c]);
    }
    for (std::size_t r = 0; r < w.rows(); ++r) {
      double divisor = 1;
      for (const fold_step& step : steps.first(n))
        if (const auto& rows = std::get<scaling>(step).rows; !rows.empty()) divisor *= static_cast<double>(rows[first_row + r]);
      float* row = w.row(r);
      if (divisor == 1.0)
        for (std::size_t c = 0; c < w.cols(); ++c) row[c] = static_cast<float>(static_cast<double>(row[c]) * columns[c]);
      else
        for (std::size_t c = 0; c < w.cols(); ++c) row[c] = static_cast<float>(static_cast<double>(row[c]) * columns[c] / divisor);
    }
    steps = steps.subspan(n);
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
