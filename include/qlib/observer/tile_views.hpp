#pragma once
#include <qlib/core/view.hpp>

#include <algorithm>

namespace qlib::inline v0 {

/// Calls visit(index, part) for each tile of x: its row-major index in grid_of(t, x.rows(), x.cols()), and the part of x that it covers.
template <class T, class Visit>
void for_each_tile(matrix_view<const T> x, tile t, Visit&& visit) {
  const tile shape = resolve(t, x.rows(), x.cols());
  const grid g = grid_of(t, x.rows(), x.cols());
  for (std::size_t i = 0; i < g.rows; ++i)
    for (std::size_t j = 0; j < g.cols; ++j) {
      const std::size_t r = i * shape.rows, c = j * shape.cols;
      visit(i * g.cols + j, matrix_view<const T>{x.row(r) + c, std::min(shape.rows, x.rows() - r), std::min(shape.cols, x.cols() - c), x.stride()});
    }
}

}  // namespace qlib::inline v0
