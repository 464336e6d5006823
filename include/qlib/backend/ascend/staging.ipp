#pragma once
#include <qlib/backend/ascend/staging.hpp>
#include <qlib/backend/native.hpp>

#include <algorithm>

namespace qlib::inline v0::ascend {

namespace staging {

/// 0 as long as every value's exponent is below `ones`, the exponent of NaN and infinity: a loop without branches.
template <class Bits>
inline Bits non_finite(const Bits* x, std::size_t n, Bits ones) {
  Bits found = 0;
  for (std::size_t i = 0; i < n; ++i) found |= static_cast<Bits>((x[i] & ones) == ones);
  return found;
}

inline bool all_finite(const float* x, std::size_t n) {
  std::uint32_t found = 0;
  for (std::size_t i = 0; i < n; ++i) found |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(x[i]) & 0x7f800000u) == 0x7f800000u);
  return found == 0;
}

}  // namespace staging

QLIB_INLINE bool stage_floats(const host_matrix& x, segments s, float* out) {
  bool finite = true;
  visit_floats(x, [&](auto view) { native_backend{}.to_float(view, matrix_view<float>{out, x.rows, x.cols, s.row_elements()}); });
  for (std::size_t r = 0; r < x.rows; ++r) {
    float* row = out + r * s.row_elements();
    finite = staging::all_finite(row, x.cols) && finite;
    if (x.cols > 0) std::fill(row + x.cols, row + s.row_elements(), row[x.cols - 1]);
  }
  return finite;
}

QLIB_INLINE bool stage_elements(const host_matrix& x, segments s, std::byte* out) {
  if (x.type == dtype::f32) return stage_floats(x, s, reinterpret_cast<float*>(out));
  const std::uint16_t ones = x.type == dtype::bf16 ? 0x7f80 : 0x7c00;
  bool finite = true;
  for (std::size_t r = 0; r < x.rows; ++r) {
    auto* row = reinterpret_cast<std::uint16_t*>(out) + r * s.row_elements();
    std::memcpy(row, x.row(r), x.cols * sizeof *row);
    finite = staging::non_finite(row, x.cols, ones) == 0 && finite;
    if (x.cols > 0) std::fill(row + x.cols, row + s.row_elements(), row[x.cols - 1]);
  }
  return finite;
}

QLIB_INLINE bool stage_rounded(const host_matrix& x, dtype type, std::uint16_t* out) {
  if (x.type == type) return stage_elements(x, segments::of(x.cols, std::max<std::size_t>(1, x.cols)), reinterpret_cast<std::byte*>(out));
  const std::uint16_t ones = type == dtype::bf16 ? 0x7f80 : 0x7c00;
  return visit_floats(x, [&](auto view) {
    for (std::size_t r = 0; r < x.rows; ++r)
      for (std::size_t c = 0; c < x.cols; ++c) {
        const float v = to_float(view(r, c));
        out[r * x.cols + c] = type == dtype::bf16 ? to_bf16(v).bits : to_f16(v).bits;
      }
    return staging::non_finite(out, x.rows * x.cols, ones) == 0;
  });
}

QLIB_INLINE void stage_fractal_nz(matrix_view<const std::int8_t> q, std::int8_t* out) {
  const std::size_t row_blocks = (q.rows() + 15) / 16;
  std::memset(out, 0, fractal_nz_bytes(q.rows(), q.cols()));
  for (std::size_t r = 0; r < q.rows(); ++r)
    for (std::size_t c = 0; c < q.cols(); c += 32)
      std::memcpy(out + ((c / 32 * row_blocks + r / 16) * 16 + r % 16) * 32, q.row(r) + c, std::min<std::size_t>(32, q.cols() - c));
}

QLIB_INLINE void stage_codes(matrix_view<const std::int8_t> q, segments s, std::int8_t* out) {
  for (std::size_t r = 0; r < q.rows(); ++r) {
    std::memcpy(out + r * s.row_elements(), q.row(r), q.cols());
    std::memset(out + r * s.row_elements() + q.cols(), 0, s.row_elements() - q.cols());
  }
}

}  // namespace qlib::inline v0::ascend
