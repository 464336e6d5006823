#pragma once
#include <qlib/backend/ascend/numeric_bounds.hpp>
#include <qlib/backend/ascend/staging.hpp>

#include <cmath>

namespace qlib::inline v0::ascend {

/// Which scale belongs to which staged segment or column.
struct tile_scales {
  tile shape;            ///< resolved
  const_qparams_view q;  ///< of the whole matrix
  bool by_column;        ///< one scale a column of the rows at hand, which lie in one row of tiles; else one a segment
  segments cut;

  /// Of a matrix with `cols` columns. Tiles one column wide are done by columns.
  static tile_scales of(tile t, const_qparams_view q, std::size_t rows, std::size_t cols) {
    const tile shape = resolve(t, rows, cols);
    const bool by_column = shape.cols == 1 && cols > 1;
    return {shape, q, by_column, segments::of(cols, by_column ? cols : std::min(shape.cols, cols))};
  }

  bool has_zero_points() const { return !q.zero_points.empty(); }

  /// How many numbers `fill` gives for `rows` rows.
  std::size_t count(std::size_t rows) const { return by_column ? cut.width : rows * cut.per_row; }

  /// value(scale, zero point) of each segment of rows [first, first + rows), or of each column.
  template <class Value>
  void fill(std::size_t first, std::size_t rows, float* out, Value value) const {
    const auto at = [&](std::size_t i) { return value(q.scales[i], q.zero_points.empty() ? 0 : q.zero_points[i]); };
    if (by_column) {
      for (std::size_t c = 0; c < cut.width; ++c) out[c] = at(first / shape.rows * q.grid.cols + c);
      return;
    }
    for (std::size_t r = first; r < first + rows; ++r)
      for (std::size_t g = 0; g < cut.per_row; ++g) *out++ = at(r / shape.rows * q.grid.cols + g);
  }
};

/// Every scale has a reciprocal that is a normal number: the device multiplies by it.
inline bool have_reciprocals(std::span<const float> scales) {
  for (const float s : scales)
    if (!std::isnormal(s) || !std::isnormal(1.0f / s)) return false;
  return true;
}

/// No value is lost to an f16 on the way to its code.
inline bool fit_f16(const_qparams_view q) {
  for (const float s : q.scales.first(q.grid.tiles()))
    if (!f16_quantizes_by(s)) return false;
  for (const std::int32_t z : q.zero_points)
    if (!f16_quantizes_from(z)) return false;
  return true;
}

/// Calls part(first, rows, rows of a tile) for pieces of rows [first, first + count) that are whole tiles, or lie in one row of tiles: what
/// a kernel that knows nothing of the rows above can do.
template <class Part>
void in_tile_rows(tile shape, std::size_t first, std::size_t count, Part part) {
  for (std::size_t r = first, end = first + count; r < end;) {
    const std::size_t into = r % shape.rows, left = end - r;
    const bool whole = into == 0 && left >= shape.rows;
    const std::size_t n = whole ? left / shape.rows * shape.rows : std::min(shape.rows - into, left);
    part(r, n, whole ? shape.rows : n);
    r += n;
  }
}

/// Rows of tiles one column wide are done one row of tiles at a time; below this height that is not worth a device's while.
inline constexpr std::size_t least_column_rows = 64;

}  // namespace qlib::inline v0::ascend
