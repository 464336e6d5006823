#pragma once
#include <qlib/linalg/hadamard.hpp>
#include <qlib/suppressor/fold.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

namespace qlib::inline v0 {

/// An orthogonal change of basis. Of the inputs, w becomes w R; of the outputs, w becomes Rᵀ w.
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

/// How much of a tile's largest |w| each step of a clipping keeps: 1 - step / 20, rounded once.
inline constexpr std::size_t clip_steps = 10;
constexpr float clip_ratio(std::size_t step) { return static_cast<float>(1.0 - static_cast<double>(step) / 20.0); }

/// Limits each tile to +- clip_ratio(step) times its largest |w|. The only step that changes the float function: what quantization then loses is
/// less (weight_clip.hpp).
struct clipping {
  tile shape = tile::per_channel();  ///< of one row
  std::vector<std::uint8_t> steps;   ///< a tile, row-major over the grid of the whole matrix; below clip_steps
};

inline void fold(const clipping& c, matrix_view<float> w, std::size_t first_row = 0) {
  const std::size_t width = resolve(c.shape, 1, w.cols()).cols, tiles = grid_of(c.shape, 1, w.cols()).cols;
  for (std::size_t r = 0; r < w.rows(); ++r)
    for (std::size_t t = 0; t < tiles; ++t) {
      const std::size_t step = c.steps[(first_row + r) * tiles + t];
      if (step == 0) continue;
      float *const first = w.row(r) + t * width, *const last = w.row(r) + std::min(w.cols(), (t + 1) * width);
      float largest = 0;
      for (const float* v = first; v != last; ++v) largest = std::max(largest, std::fabs(*v));
      const float limit = clip_ratio(step) * largest;
      for (float* v = first; v != last; ++v) *v = std::min(std::max(*v, -limit), limit);
    }
}

using fold_step = std::variant<scaling, rotation, clipping>;

/// All steps in order. Scalings between two other steps are rounded once.
inline void fold(std::span<const fold_step> steps, matrix_view<float> w, std::size_t first_row = 0) {
  std::vector<const scaling*> together;
  const auto scale = [&] {
    if (!together.empty()) fold(std::span<const scaling* const>{together}, w, first_row);
    together.clear();
  };
  for (const fold_step& step : steps) {
    if (const auto* s = std::get_if<scaling>(&step)) {
      together.push_back(s);
    } else {
      scale();
      if (const auto* c = std::get_if<clipping>(&step)) fold(*c, w, first_row);
      else fold(std::get<rotation>(step), w);
    }
  }
  scale();
}

}  // namespace qlib::inline v0
