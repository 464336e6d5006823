#pragma once
#include <qlib/backend/ascend/chain.hpp>
#include <qlib/backend/ascend/staging.hpp>

namespace qlib::inline v0::ascend {

/// What a quantized linear layer computes, for evaluation: out[m, n] = float(sum over k of x[m, k] * w[n, k]) * w_scales[n] * x_scales[m].
///
/// x: [M, K] codes of tokens, w: [N, K] codes of a weight; out: [M, N]. The sums are exact (int32: QuantMatmulV5, V4 or V3 without their
/// own scaling), so every path gives the same bits; on 310P, whose results are f16, they are within int8_product_relative. K up to 65535.
void int8_matmul(lane& l, matrix_view<const std::int8_t> x, std::span<const float> x_scales, matrix_view<const std::int8_t> w,
                 std::span<const float> w_scales, matrix_view<float> out);

/// out[m, n] = sum over k of x[m, k] * (w[n, k] - zero point) * scale, with one scale a tile of `spec` (whole tensor, row or group).
///
/// WeightQuantBatchMatmulV3 or V2, or AscendAntiQuant and Mm: x, scales and out are rounded to 16 bits there (bf16 where x is, else f16),
/// within weight_only_relative * sum |x| |w|. The CPU computes in f32, k ascending.
void weight_only_matmul(lane& l, const host_matrix& x, matrix_view<const std::int8_t> w, const quant_spec& spec, const_qparams_view q,
                        matrix_view<float> out);

/// The same on the CPU.
void int8_matmul_on_host(matrix_view<const std::int8_t> x, std::span<const float> x_scales, matrix_view<const std::int8_t> w,
                         std::span<const float> w_scales, matrix_view<float> out);
void weight_only_matmul_on_host(const host_matrix& x, matrix_view<const std::int8_t> w, const quant_spec& spec, const_qparams_view q,
                                matrix_view<float> out);

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/int8_matmul.ipp>
#include <qlib/backend/ascend/weight_only_matmul.ipp>
#endif
