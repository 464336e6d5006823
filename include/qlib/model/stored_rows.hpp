/// Rows of a matrix as floats, however a checkpoint stores them.
#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/convert.hpp>
#include <qlib/core/qparams.hpp>
#include <qlib/io/checkpoint.hpp>
#include <qlib/model/modules.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace qlib::inline v0 {

/// Bytes that `elements` of a matrix's tensor take.
inline std::uint64_t stored_bytes(const checkpoint& source, const matrix_source& m, std::uint64_t elements) {
  if (m.storage == matrix_storage::mxfp4) return elements / 2;
  return elements * (bits_of(source.tensors()[m.tensor].info.dtype) / 8);
}

namespace detail {

/// Element `at` of a tensor's bytes, which may lie at any address.
inline float load_element(dtype type, const std::byte* base, std::uint64_t at) {
  if (type == dtype::f32) {
    float v;
    std::memcpy(&v, base + at * 4, 4);
    return v;
  }
  std::uint16_t bits;
  std::memcpy(&bits, base + at * 2, 2);
  return type == dtype::bf16 ? to_float(bf16{bits}) : to_float(f16{bits});
}

template <Element T>
void store_values(const float* from, std::size_t n, T* to) {
  for (std::size_t i = 0; i < n; ++i) {
    if constexpr (std::is_same_v<T, float>) to[i] = from[i];
    else if constexpr (std::is_same_v<T, bf16>) to[i] = to_bf16(from[i]);
    else to[i] = to_f16(from[i]);
  }
}

/// DeepSeek-V3's storage: e4m3 codes times a scale for each block; the product is rounded to bf16, as the reference converter does.
template <Element T>
void load_block_fp8(const checkpoint& source, const matrix_source& m, std::size_t first_row, matrix_view<T> out) {
  const stored_tensor& s = source.tensors()[*m.scale];
  const std::byte* stored_scales = source.bytes(s).data();
  const auto* codes = reinterpret_cast<const std::int8_t*>(source.bytes(source.tensors()[m.tensor]).data()) + m.offset;
  const std::size_t grid_cols = s.info.shape[1];
  const quant_spec spec{.type = number::floating, .granularity = {0, m.block_cols}};
  std::vector<float> scales(grid_cols), values(std::min<std::size_t>(out.rows(), 8) * out.cols());
  for (std::size_t r = 0; r < out.rows();) {
    const std::size_t row = first_row + r, block = row / m.block_rows;
    const std::size_t n = std::min({out.rows() - r, (block + 1) * m.block_rows - row, std::size_t{8}});
    for (std::size_t j = 0; j < grid_cols; ++j) scales[j] = load_element(s.info.dtype, stored_scales, block * grid_cols + j);
    const matrix_view<float> strip{values.data(), n, out.cols()};
    native_backend{}.dequantize(matrix_view<const std::int8_t>{codes + row * m.row_stride, n, out.cols(), m.row_stride}, spec,
                                const_qparams_view{{1, grid_cols}, scales, {}}, strip);
    for (float& v : std::span{values.data(), strip.size()}) v = to_float(to_bf16(v));
    for (std::size_t k = 0; k < n; ++k) store_values(strip.row(k), out.cols(), out.row(r + k));
    r += n;
  }
}

/// OCP microscaling: two e2m1 values a byte, the first in its low half, times 2^(scale - 127) of each 32: exact in bf16.
template <Element T>
void load_mxfp4(const checkpoint& source, const matrix_source& m, std::size_t first_row, matrix_view<T> out) {
  std::array<float, 16> e2m1;
  for (std::uint8_t code = 0; code < 16; ++code) e2m1[code] = e2m1_to_float(code);
  const auto* codes = reinterpret_cast<const std::uint8_t*>(source.bytes(source.tensors()[m.tensor]).data());
  const auto* scales = reinterpret_cast<const std::uint8_t*>(source.bytes(source.tensors()[*m.scale]).data());
  std::array<float, 32> values;
  for (std::size_t r = 0; r < out.rows(); ++r) {
    const std::uint64_t row = m.offset + (first_row + r) * m.row_stride;
    for (std::size_t c = 0; c < out.cols(); c += 32) {
      const float scale = e8m0_to_float(scales[(row + c) / 32]);
      const std::uint8_t* bytes = codes + (row + c) / 2;
      for (std::size_t k = 0; k < 16; ++k) {
        values[2 * k] = e2m1[bytes[k] & 15] * scale;
        values[2 * k + 1] = e2m1[bytes[k] >> 4] * scale;
      }
      store_values(values.data(), 32, out.row(r) + c);
    }
  }
}

}  // namespace detail

/// Fills `out` with rows from `first_row` on; plain ones are converted to T.
template <Element T>
void load_rows(const checkpoint& source, const matrix_source& m, std::size_t first_row, matrix_view<T> out) {
  if (m.storage == matrix_storage::block_fp8) return detail::load_block_fp8(source, m, first_row, out);
  if (m.storage == matrix_storage::mxfp4) return detail::load_mxfp4(source, m, first_row, out);
  const stored_tensor& t = source.tensors()[m.tensor];
  const std::byte* base = source.bytes(t).data();
  // A transposed matrix is contiguous along its rows: columns outside.
  if (m.col_stride == 1) {
    for (std::size_t r = 0; r < out.rows(); ++r)
      for (std::size_t c = 0; c < out.cols(); ++c) {
        const float v = detail::load_element(t.info.dtype, base, m.offset + (first_row + r) * m.row_stride + c);
        detail::store_values(&v, 1, out.row(r) + c);
      }
  } else {
    for (std::size_t c = 0; c < out.cols(); ++c)
      for (std::size_t r = 0; r < out.rows(); ++r) {
        const float v = detail::load_element(t.info.dtype, base, m.offset + (first_row + r) * m.row_stride + c * m.col_stride);
        detail::store_values(&v, 1, out.row(r) + c);
      }
  }
}

}  // namespace qlib::inline v0
