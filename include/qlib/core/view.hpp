#pragma once
#include <qlib/config.hpp>

#include <cstddef>
#include <type_traits>

namespace qlib::inline v0 {

/// A row-major matrix that somebody else owns. `stride` counts elements from one row to the next.
///
/// Weights are [out_features, in_features], activations [tokens, channels].
template <class T>
class matrix_view {
 public:
  using value_type = std::remove_const_t<T>;

  constexpr matrix_view() = default;
  constexpr matrix_view(T* data, std::size_t rows, std::size_t cols) : matrix_view{data, rows, cols, cols} {}
  constexpr matrix_view(T* data, std::size_t rows, std::size_t cols, std::size_t stride) : data_{data}, rows_{rows}, cols_{cols}, stride_{stride} {}
  constexpr operator matrix_view<const T>() const requires(!std::is_const_v<T>) { return {data_, rows_, cols_, stride_}; }

  constexpr T* data() const { return data_; }
  constexpr std::size_t rows() const { return rows_; }
  constexpr std::size_t cols() const { return cols_; }
  constexpr std::size_t stride() const { return stride_; }
  constexpr std::size_t size() const { return rows_ * cols_; }
  constexpr T* row(std::size_t r) const { return data_ + r * stride_; }
  constexpr T& operator()(std::size_t r, std::size_t c) const { return data_[r * stride_ + c]; }

  /// Rows [first, first + count).
  constexpr matrix_view strip(std::size_t first, std::size_t count) const { return {row(first), count, cols_, stride_}; }

 private:
  T* data_ = nullptr;
  std::size_t rows_ = 0, cols_ = 0, stride_ = 0;
};

/// The shape of the elements that share one scale. 0 stands for "the whole extent": a granularity is a tile, nothing more.
struct tile {
  std::size_t rows = 0, cols = 0;
  friend constexpr bool operator==(const tile&, const tile&) = default;

  static constexpr tile per_tensor() { return {0, 0}; }
  static constexpr tile per_channel() { return {1, 0}; }
  static constexpr tile per_group(std::size_t group_size) { return {1, group_size}; }
  static constexpr tile per_block(std::size_t block_rows, std::size_t block_cols) { return {block_rows, block_cols}; }
};

/// How many tiles cover a matrix: the shape of its scales. The last tile of a row or column may be smaller.
struct grid {
  std::size_t rows = 0, cols = 0;
  friend constexpr bool operator==(const grid&, const grid&) = default;
  constexpr std::size_t tiles() const { return rows * cols; }
};

/// `t` with each 0 replaced by the extent of a rows x cols matrix.
constexpr tile resolve(tile t, std::size_t rows, std::size_t cols) {
  return {t.rows == 0 ? (rows ? rows : 1) : t.rows, t.cols == 0 ? (cols ? cols : 1) : t.cols};
}

constexpr grid grid_of(tile t, std::size_t rows, std::size_t cols) {
  const tile r = resolve(t, rows, cols);
  return {(rows + r.rows - 1) / r.rows, (cols + r.cols - 1) / r.cols};
}

}  // namespace qlib::inline v0
