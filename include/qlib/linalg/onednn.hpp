/// oneDNN's matrix products. The library is loaded at the first use and not linked: a program starts without it and runs without it.
/// Everything here is "not there" when qlib is built without QLIB_HAS_ONEDNN.
#pragma once
#include <qlib/core/convert.hpp>
#include <qlib/core/dtype.hpp>
#include <qlib/core/view.hpp>

#include <cstdint>
#include <string_view>

namespace qlib::inline v0 {

/// What the oneDNN of this machine does.
struct onednn_support {
  bool f32 = false;            ///< it is there, and keeps to the calling thread
  bool bf16 = false;           ///< the CPU has bf16 products (AVX512-BF16 or AMX)
  bool s8 = false;             ///< the CPU has int8 products that do not saturate (VNNI or AMX)
  std::string_view name = {};  ///< "onednn 2.6.3"
};

/// Loads the library at the first call; safe in any thread.
const onednn_support& onednn();

/// y = x wᵀ on the calling thread alone; x: [rows, k], w: [cols, k], y: [rows, cols], no extent 0. False: nothing was computed, because the library
/// is not there or refused. Equal shapes and strides give equal bytes on one machine. The first product of a shape costs milliseconds, as its code is
/// generated.
bool onednn_multiply(matrix_view<const float> x, matrix_view<const float> w, matrix_view<float> y);
bool onednn_multiply(matrix_view<const bf16> x, matrix_view<const bf16> w, matrix_view<float> y);
/// Exact sums, rounded to f32.
bool onednn_multiply(matrix_view<const std::int8_t> x, matrix_view<const std::int8_t> w, matrix_view<float> y);
/// Exact sums; 0.6 as fast: oneDNN's matmul rounds its sums to f32 even where it stores integers, only its older gemm does not.
bool onednn_multiply(matrix_view<const std::int8_t> x, matrix_view<const std::int8_t> w, matrix_view<std::int32_t> y);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/linalg/onednn.ipp>
#endif
