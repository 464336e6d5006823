#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/parallel.hpp>
#include <qlib/linalg/gemm.ipp>
#include <qlib/linalg/int8_gemm.hpp>

#include <algorithm>

namespace qlib::inline v0 {
namespace detail {

inline constexpr std::size_t smallest_onednn_s8 = std::size_t{1} << 22;  ///< multiply-adds, as for bf16

/// A tile's sums, once a thread.
template <class T>
T* thread_sums() {
  thread_local const buffer memory{gemm_tile_rows * gemm_tile_cols * sizeof(T)};
  return reinterpret_cast<T*>(memory.data());
}

/// One tile, at most gemm_tile_rows x gemm_tile_cols.
inline void int8_tile(const gemm_kernels& kernels, bool with_onednn, matrix_view<const std::int8_t> x, matrix_view<const std::int8_t> w,
                      matrix_view<std::int32_t> y) {
  if (with_onednn && onednn_multiply(x, w, y)) return;
  float* const workspace = thread_workspace();
  (workspace ? kernels : scalar_gemm_kernels).s8(x, w, y, workspace);  // the same bytes without memory, only slower
}

/// Calls work(first row, first column, rows, columns) for all tiles of y.
template <class Y, class Work>
void for_each_int8_tile(matrix_view<Y> y, std::size_t k, std::size_t threads, const Work& work) {
  const grid tiles = grid_of({gemm_tile_rows, gemm_tile_cols}, y.rows(), y.cols());
  parallel_for(tiles.tiles(), y.size() * k < smallest_threaded ? 1 : threads, [&](std::size_t, std::size_t task) {
    const std::size_t m = task % tiles.rows * gemm_tile_rows, n = task / tiles.rows * gemm_tile_cols;
    work(m, n, std::min(gemm_tile_rows, y.rows() - m), std::min(gemm_tile_cols, y.cols() - n));
    return true;
  });
}

}  // namespace detail

QLIB_INLINE bool int8_rows::quantize(matrix_view<const float> x, std::span<const float> factors, std::size_t threads) {
  if (memory_.size() < x.size()) memory_ = buffer{x.size()};
  if (x.size() > 0 && !memory_.data()) return false;
  columns_ = x.cols();
  scales_.resize(x.rows());
  const native_backend kernels;
  const matrix_view<std::int8_t> codes{reinterpret_cast<std::int8_t*>(memory_.data()), x.rows(), x.cols()};
  constexpr std::size_t strip = 64;
  return parallel_for((x.rows() + strip - 1) / strip, threads, [&](std::size_t, std::size_t task) {
    const std::size_t first = task * strip, rows = std::min(strip, x.rows() - first);
    return kernels.scaled_quantize(x.strip(first, rows), factors, quant_spec{}, {{rows, 1}, std::span{scales_}.subspan(first, rows), {}},
                                   codes.strip(first, rows));
  });
}

QLIB_INLINE int8_gemm::int8_gemm(gemm_kind kind, std::size_t threads) : kernels_{&detail::fastest_kernels()}, threads_{threads} {
  onednn_ = kind == gemm_kind::fastest && onednn().s8;
  const std::string ours = (kernels_ == &scalar_gemm_kernels ? "" : "highway ") + std::string{kernels_->isa} + " s8";
  name_ = onednn_ ? std::string{onednn().name} + " s8, " + ours + " for small products" : ours;
}

QLIB_INLINE void int8_gemm::operator()(matrix_view<const std::int8_t> x, matrix_view<const std::int8_t> w, matrix_view<std::int32_t> y) const {
  const bool with_onednn = onednn_ && y.size() * x.cols() >= detail::smallest_onednn_s8;
  detail::for_each_int8_tile(y, x.cols(), threads_, [&](std::size_t m, std::size_t n, std::size_t rows, std::size_t cols) {
    detail::int8_tile(*kernels_, with_onednn, x.strip(m, rows), w.strip(n, cols), {y.row(m) + n, rows, cols, y.stride()});
  });
}

QLIB_INLINE void int8_gemm::operator()(const int8_rows& x, const int8_rows& w, matrix_view<float> y) const {
  const bool with_onednn = onednn_ && y.size() * x.codes().cols() >= detail::smallest_onednn_s8;
  detail::for_each_int8_tile(y, x.codes().cols(), threads_, [&](std::size_t m, std::size_t n, std::size_t rows, std::size_t cols) {
    const auto x_rows = x.codes().strip(m, rows), w_rows = w.codes().strip(n, cols);
    const float* const w_scales = w.scales().data() + n;
    const auto scale_row = [&](std::size_t r, const auto* sums) {
      const float s = x.scales()[m + r];
      float* const out = y.row(m + r) + n;
      for (std::size_t c = 0; c < cols; ++c) out[c] = static_cast<float>(sums[c]) * (s * w_scales[c]);
    };
    const matrix_view<float> rounded{detail::thread_sums<float>(), rows, cols};  // rounding to f32 is the next step anyway
    if (with_onednn && rounded.data() && onednn_multiply(x_rows, w_rows, rounded)) {
      for (std::size_t r = 0; r < rows; ++r) scale_row(r, rounded.row(r));
      return;
    }
    const matrix_view<std::int32_t> exact{detail::thread_sums<std::int32_t>(), rows, cols};
    if (exact.data()) {
      detail::int8_tile(*kernels_, false, x_rows, w_rows, exact);
      for (std::size_t r = 0; r < rows; ++r) scale_row(r, exact.row(r));
      return;
    }
    std::int32_t few[gemm_tile_cols];  // without memory: slowly
    for (std::size_t r = 0; r < rows; ++r) {
      scalar_gemm_kernels.s8(x_rows.strip(r, 1), w_rows, {few, 1, cols}, nullptr);
      scale_row(r, few);
    }
  });
}

}  // namespace qlib::inline v0
