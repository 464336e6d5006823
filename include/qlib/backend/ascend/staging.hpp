/// Copies between the caller's matrices and the buffers that the device copies from and to.
///
/// A staged matrix is cut into segments: each row's tiles, one after the other, the last one filled up where it is shorter. So every
/// granularity is one scale, or one range, a segment: [rows * segments a row, width].
#pragma once
#include <qlib/concepts.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace qlib::inline v0::ascend {

/// A matrix view whose element type is data.
struct host_matrix {
  const std::byte* data = nullptr;
  dtype type = dtype::f32;  ///< f32, bf16, f16 or i8
  std::size_t rows = 0, cols = 0, stride = 0;

  host_matrix() = default;
  template <class T>
  explicit host_matrix(matrix_view<const T> x)
      : data{reinterpret_cast<const std::byte*>(x.data())}, type{dtype_of<T>}, rows{x.rows()}, cols{x.cols()}, stride{x.stride()} {}

  std::size_t element_bytes() const { return bits_of(type) / 8; }
  const std::byte* row(std::size_t r) const { return data + r * stride * element_bytes(); }
  host_matrix strip(std::size_t first, std::size_t count) const {
    host_matrix part = *this;
    part.data = row(first);
    part.rows = count;
    return part;
  }
  template <class T>
  matrix_view<const T> as() const {
    return {reinterpret_cast<const T*>(data), rows, cols, stride};
  }
};

/// Calls visit(matrix_view<const T>) with the matrix's own float type.
template <class Visit>
decltype(auto) visit_floats(const host_matrix& x, Visit&& visit) {
  if (x.type == dtype::bf16) return visit(x.as<bf16>());
  if (x.type == dtype::f16) return visit(x.as<f16>());
  return visit(x.as<float>());
}

/// How a row is cut.
struct segments {
  std::size_t width = 1, per_row = 1;

  static segments of(std::size_t cols, std::size_t width) { return {width, (cols + width - 1) / width}; }
  std::size_t row_elements() const { return width * per_row; }
};

/// x widened to f32, [x.rows * s.per_row, s.width]; a row's last value fills its last segment. False where x has a NaN or an infinity.
bool stage_floats(const host_matrix& x, segments s, float* out);

/// The same without widening: out has x's type.
bool stage_elements(const host_matrix& x, segments s, std::byte* out);

/// x rounded to bf16 or f16, [x.rows, x.cols]. False where a value is not finite, or becomes infinite.
bool stage_rounded(const host_matrix& x, dtype type, std::uint16_t* out);

/// Codes, [q.rows * s.per_row, s.width], filled up with 0.
void stage_codes(matrix_view<const std::int8_t> q, segments s, std::int8_t* out);

/// Codes in FRACTAL_NZ, the layout of matrix units: blocks of 16 rows and 32 columns, [columns / 32, rows / 16, 16, 32], filled up with 0.
void stage_fractal_nz(matrix_view<const std::int8_t> q, std::int8_t* out);
constexpr std::size_t fractal_nz_bytes(std::size_t rows, std::size_t cols) { return (rows + 15) / 16 * 16 * ((cols + 31) / 32 * 32); }

/// Back from segments: the fill is dropped.
template <class T>
void unstage(const T* staged, segments s, matrix_view<T> out) {
  for (std::size_t r = 0; r < out.rows(); ++r) std::memcpy(out.row(r), staged + r * s.row_elements(), out.cols() * sizeof(T));
}

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/staging.ipp>
#endif
