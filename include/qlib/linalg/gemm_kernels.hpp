/// The arithmetic of the reproducible matrix product, its scalar kernels, and the table that an instruction set's kernels fill.
///
/// One summation order everywhere: an element of y = x wᵀ is a sum over blocks of 256 k. A block is a chain of fused multiply-adds in
/// ascending k that starts from +0; the blocks are added in ascending order. No element depends on the others, so neither the size of
/// the matrix, nor its cut into tiles, nor the instruction set changes a bit. (Which NaN a NaN is may differ.)
#pragma once
#include <qlib/core/convert.hpp>
#include <qlib/core/view.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace qlib::inline v0 {

inline constexpr std::size_t gemm_k_block = 256;

/// The largest y that one call of a kernel computes. Its packed operands, gemm_workspace floats aligned to 64 bytes, fit in the L2 cache.
inline constexpr std::size_t gemm_tile_rows = 512, gemm_tile_cols = 512;
inline constexpr std::size_t gemm_workspace = (gemm_tile_rows + gemm_tile_cols) * gemm_k_block;

/// Our matrix products on one instruction set, as plain function pointers.
struct gemm_kernels {
  std::string_view isa;  ///< "scalar", "avx2", "avx3" (AVX-512), "avx3_dl", "neon"
  /// y = x wᵀ; x: [rows, k], w: [cols, k], y: [rows, cols], at most gemm_tile_rows x gemm_tile_cols.
  void (*f32)(matrix_view<const float> x, matrix_view<const float> w, matrix_view<float> y, float* workspace);
  void (*b16)(matrix_view<const float> x, matrix_view<const bf16> w, matrix_view<float> y, float* workspace);
  /// to_bf16 of every element.
  void (*round_to_bf16)(matrix_view<const float> x, matrix_view<bf16> out);
  /// y = x wᵀ of int8, exact; shapes and workspace as f32. Sums that leave int32 wrap: never for k below 2^17.
  void (*s8)(matrix_view<const std::int8_t> x, matrix_view<const std::int8_t> w, matrix_view<std::int32_t> y, float* workspace);
};

/// a * b + c, rounded once.
inline float fused_multiply_add(float a, float b, float c) {
#if defined(__FMA__) || defined(__aarch64__)
  return std::fma(a, b, c);
#else
  // The product is exact in f64. The sum is rounded to odd there, which keeps the rounding to f32 from seeing a tie that is none
  // (Boldo and Melquiond); twenty times faster than std::fma where that is software.
  const double product = static_cast<double>(a) * static_cast<double>(b), addend = c;
  const double sum = product + addend, part = sum - product;
  const double lost = (product - (sum - part)) + (addend - part);
  std::uint64_t bits = std::bit_cast<std::uint64_t>(sum);
  if (std::fabs(lost) > 0 && (bits & 1) == 0) bits += (lost > 0) == (sum > 0) ? std::uint64_t{1} : ~std::uint64_t{0};
  return static_cast<float>(std::bit_cast<double>(bits));
#endif
}

namespace detail {

template <class W>
void scalar_gemm(matrix_view<const float> x, matrix_view<const W> w, matrix_view<float> y, float*) {
  constexpr std::size_t chains = 8;  // independent, so that their latencies overlap
  for (std::size_t n0 = 0; n0 < y.cols(); n0 += chains) {
    const std::size_t count = std::min(chains, y.cols() - n0);
    for (std::size_t m = 0; m < y.rows(); ++m) {
      float total[chains] = {};
      for (std::size_t k0 = 0; k0 < x.cols(); k0 += gemm_k_block) {
        float sum[chains] = {};
        for (std::size_t k = k0; k < std::min(k0 + gemm_k_block, x.cols()); ++k)
          for (std::size_t i = 0; i < count; ++i) sum[i] = fused_multiply_add(x(m, k), to_float(w(n0 + i, k)), sum[i]);
        for (std::size_t i = 0; i < count; ++i) total[i] = k0 == 0 ? sum[i] : total[i] + sum[i];
      }
      for (std::size_t i = 0; i < count; ++i) y(m, n0 + i) = total[i];
    }
  }
}

inline void scalar_round_to_bf16(matrix_view<const float> x, matrix_view<bf16> out) {
  for (std::size_t r = 0; r < x.rows(); ++r)
    for (std::size_t c = 0; c < x.cols(); ++c) out(r, c) = to_bf16(x(r, c));
}

inline void scalar_int8_gemm(matrix_view<const std::int8_t> x, matrix_view<const std::int8_t> w, matrix_view<std::int32_t> y, float*) {
  for (std::size_t m = 0; m < y.rows(); ++m)
    for (std::size_t n = 0; n < y.cols(); ++n) {
      const std::int8_t* const a = x.row(m);
      const std::int8_t* const b = w.row(n);
      std::uint32_t sum = 0;  // wraps
      for (std::size_t k = 0; k < x.cols(); ++k) sum += static_cast<std::uint32_t>(a[k] * b[k]);
      y(m, n) = static_cast<std::int32_t>(sum);
    }
}

}  // namespace detail

/// The specification of the other tables. Needs no workspace.
inline constexpr gemm_kernels scalar_gemm_kernels{"scalar", detail::scalar_gemm<float>, detail::scalar_gemm<bf16>, detail::scalar_round_to_bf16,
                                                  detail::scalar_int8_gemm};

}  // namespace qlib::inline v0
