/// Which tiles of a weight lose less to quantization when their largest values are clipped first: AWQ's second half.
#pragma once
#include <qlib/core/quant_spec.hpp>
#include <qlib/core/view.hpp>
#include <qlib/linalg/gemm.hpp>
#include <qlib/suppressor/fold_step.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace qlib::inline v0 {

struct weight_clips {
  /// A tile, row-major over the grid: clip_ratio(step) of its largest |w| is left. All 0 where a weight is not finite.
  std::vector<std::uint8_t> steps;
  std::size_t clipped = 0;  ///< tiles with another step than 0
  /// Sums over the tiles of the error below, without and with the clipping.
  double error_before = 0, error_after = 0;
};

/// Tiles have one row: a group's or a channel's.
constexpr bool can_be_clipped(const quant_spec& spec) { return spec.granularity.rows == 1; }

/// Of each tile g of a row the step i that minimizes the mean over tokens of
///
///     (sum over g of x quantized(clipped(w, clip_ratio(i))) - sum over g of x w)^2,    i = 0 ... 9
///
/// by itself, whatever the other tiles of its row lose (llm-awq, AutoAWQ, Golden Stick); of equal errors the smallest i, so that no tile's error
/// grows. Quantized is round to nearest with the parameters that the clipped tile itself gives. An input that is not finite clips nothing.
///
/// w: [rows, cols], inputs: [tokens, cols], both behind whatever was folded; can_be_clipped(spec). `products` says which kernels multiply and how
/// many threads; their number changes no bit. An error is d G d of the Gram matrix G of the tile's inputs, or the squares of X d where there are
/// fewer tokens than columns in a tile: in f32, with relative errors of 1e-6 of |d| G |d|, sums in f64.
/// Cost: 10 products [rows, cols] x [cols, min(tile, tokens)].
weight_clips search_clips(matrix_view<const float> w, const quant_spec& spec, matrix_view<const float> inputs, const gemm& products);

/// Most bytes that it allocates beside the result: Gram matrices of all tiles of a row, and for each thread the ten versions of some rows of
/// neighbouring tiles (1 MiB, or 16 rows of one tile if that is more) with the products of one.
std::uint64_t clip_search_bytes(std::size_t rows, std::size_t cols, const quant_spec& spec, std::size_t tokens, std::size_t threads);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/suppressor/weight_clip.ipp>
#endif
