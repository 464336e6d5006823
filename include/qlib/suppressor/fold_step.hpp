#pragma once
#include <qlib/linalg/hadamard.hpp>
#include <qlib/suppressor/fold.hpp>

#include <memory>
#include <utility>
#include <variant>

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

using fold_step = std::variant<scaling, rotation>;

/// All steps in order. Scalings between two rotations are rounded once.
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
      fold(std::get<rotation>(step), w);
    }
  }
  scale();
}

}  // namespace qlib::inline v0
