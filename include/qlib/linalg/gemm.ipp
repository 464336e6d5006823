#pragma once
#include <qlib/core/buffer.hpp>
#include <qlib/core/parallel.hpp>
#include <qlib/linalg/gemm.hpp>
#include <qlib/linalg/gemm_kernels.hpp>
#include <qlib/linalg/onednn.hpp>

#if defined(QLIB_COMPILED)
#include <qlib/linalg/dispatch.hpp>
#else
#include <qlib/linalg/gemm_kernels-inl.hpp>
#endif

namespace qlib::inline v0 {

namespace detail {

inline const gemm_kernels& fastest_kernels() {
#if defined(QLIB_COMPILED)
  return best_gemm_kernels();
#elif QLIB_GEMM_KERNELS
  return HWY_NAMESPACE::gemm_tile::kernels;
#else
  return scalar_gemm_kernels;
#endif
}

/// Sizes of a product that decide on its way. They depend on its shape alone, as do its bytes.
inline constexpr std::size_t onednn_tile_rows = 512, onednn_tile_cols = 512;
inline constexpr std::size_t smallest_onednn_f32 = std::size_t{1}
                                                   << 27;  ///< multiply-adds: there our kernels are 0.9 as fast, here generated code pays off
inline constexpr std::size_t smallest_onednn_bf16 = std::size_t{1} << 22;
inline constexpr std::size_t smallest_threaded = std::size_t{1} << 22;  ///< 60 us of work; starting a thread costs 20

/// Packed operands of one tile, once a thread.
inline float* thread_workspace() {
  thread_local const buffer memory{gemm_workspace * sizeof(float)};
  return reinterpret_cast<float*>(memory.data());
}

/// oneDNN 2 has its best bf16 code for a y whose rows touch. So such products are cut into strips of whole rows, and x is rounded a strip at
/// a time; but not where a strip of x or y would leave the L2 cache, or too few strips keep the threads busy.
inline constexpr std::size_t rounded_rows = 256, widest_strip = 4096;
inline bool in_strips(matrix_view<const float> x, matrix_view<float> y) {
  return y.stride() == y.cols() && y.cols() <= widest_strip && x.cols() <= widest_strip && y.rows() >= 4 * rounded_rows;
}
inline bf16* thread_strip() {
  thread_local const buffer memory{rounded_rows * widest_strip * sizeof(bf16)};
  return reinterpret_cast<bf16*>(memory.data());
}

/// Calls work(x's rows, w's rows, their tile of y) for all tiles; false as soon as one did.
template <class X, class W, class Work>
bool for_each_tile(matrix_view<const X> x, matrix_view<const W> w, matrix_view<float> y, std::size_t tile_rows, std::size_t tile_cols,
                   std::size_t threads, const Work& work) {
  const grid tiles = grid_of({tile_rows, tile_cols}, y.rows(), y.cols());
  return parallel_for(tiles.tiles(), threads, [&](std::size_t, std::size_t task) {
    const std::size_t m = task % tiles.rows * tile_rows, n = task / tiles.rows * tile_cols;  // neighbours in time share rows of w
    const std::size_t rows = std::min(tile_rows, y.rows() - m), cols = std::min(tile_cols, y.cols() - n);
    return work(x.strip(m, rows), w.strip(n, cols), matrix_view<float>{y.row(m) + n, rows, cols, y.stride()});
  });
}

}  // namespace detail

QLIB_INLINE gemm::gemm(const gemm_options& options) : options_{options}, kernels_{&detail::fastest_kernels()} {
  const std::string ours = (kernels_ == &scalar_gemm_kernels ? "" : "highway ") + std::string{kernels_->isa} + " f32";
  if (options.kind == gemm_kind::fastest) {
    onednn_f32_ = onednn().f32;
    onednn_bf16_ = onednn().bf16 && options.bf16_inputs;
  }
  if (onednn_bf16_) name_ = std::string{onednn().name} + " bf16, " + ours + " for small products";
  else if (onednn_f32_) name_ = std::string{onednn().name} + " f32, " + ours + " for small products and bf16 weights";
  else name_ = ours;
}

template <class W>
void gemm::multiply_ours(matrix_view<const float> x, matrix_view<const W> w, matrix_view<float> y) const {
  const std::size_t threads = y.size() * x.cols() < detail::smallest_threaded ? 1 : options_.threads;
  std::size_t tile_rows = gemm_tile_rows, tile_cols = gemm_tile_cols;
  const auto tiles = [&] { return grid_of({tile_rows, tile_cols}, y.rows(), y.cols()).tiles(); };
  while (threads > 1 && tiles() < 4 * threads && tile_cols > 64) (tile_rows >= tile_cols && y.rows() > 128 ? tile_rows : tile_cols) /= 2;
  detail::for_each_tile(x, w, y, tile_rows, tile_cols, threads, [this](auto x_rows, auto w_rows, matrix_view<float> out) {
    float* const workspace = detail::thread_workspace();
    const gemm_kernels& kernels = workspace ? *kernels_ : scalar_gemm_kernels;  // the same bytes without memory, only slower
    if constexpr (std::is_same_v<W, float>) kernels.f32(x_rows, w_rows, out, workspace);
    else kernels.b16(x_rows, w_rows, out, workspace);
    return true;
  });
}

QLIB_INLINE void gemm::operator()(matrix_view<const float> x, matrix_view<const float> w, matrix_view<float> y) const {
  if (onednn_f32_ && y.size() * x.cols() >= detail::smallest_onednn_f32 &&
      detail::for_each_tile(x, w, y, detail::onednn_tile_rows, detail::onednn_tile_cols, options_.threads,
                            [](auto x_rows, auto w_rows, matrix_view<float> out) { return onednn_multiply(x_rows, w_rows, out); }))
    return;
  multiply_ours(x, w, y);
}

QLIB_INLINE bool gemm::multiply_bf16(matrix_view<const float> x, matrix_view<const bf16> w, matrix_view<float> y) const {
  if (detail::in_strips(x, y))
    return detail::for_each_tile(x, w, y, detail::rounded_rows, y.cols(), options_.threads, [this](auto x_rows, auto w_rows, matrix_view<float> out) {
      const matrix_view<bf16> rounded{detail::thread_strip(), x_rows.rows(), x_rows.cols()};
      if (!rounded.data()) return false;
      kernels_->round_to_bf16(x_rows, rounded);
      return onednn_multiply(matrix_view<const bf16>{rounded}, w_rows, out);
    });
  const buffer memory{x.size() * sizeof(bf16)};
  if (!memory.data()) return false;
  const matrix_view<bf16> rounded{reinterpret_cast<bf16*>(memory.data()), x.rows(), x.cols()};
  constexpr std::size_t strip = 64;
  parallel_for((x.rows() + strip - 1) / strip, options_.threads, [&](std::size_t, std::size_t task) {
    const std::size_t first = task * strip, rows = std::min(strip, x.rows() - first);
    kernels_->round_to_bf16(x.strip(first, rows), rounded.strip(first, rows));
    return true;
  });
  return detail::for_each_tile(matrix_view<const bf16>{rounded}, w, y, detail::onednn_tile_rows, detail::onednn_tile_cols, options_.threads,
                               [](auto x_rows, auto w_rows, matrix_view<float> out) { return onednn_multiply(x_rows, w_rows, out); });
}

QLIB_INLINE void gemm::operator()(matrix_view<const float> x, matrix_view<const bf16> w, matrix_view<float> y) const {
  if (onednn_bf16_ && y.size() * x.cols() >= detail::smallest_onednn_bf16 && multiply_bf16(x, w, y)) return;
  multiply_ours(x, w, y);
}

}  // namespace qlib::inline v0
