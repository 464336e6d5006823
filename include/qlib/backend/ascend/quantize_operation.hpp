#pragma once
#include <qlib/backend/ascend/chain.hpp>
#include <qlib/backend/ascend/staging.hpp>

namespace qlib::inline v0::ascend {

/// codes of x by given scales, as scalar_backend::quantize, within numeric_bounds::static_rate. Integer specs in f32 arithmetic run on the
/// device (AscendQuantV3, AscendQuant, or elementwise ops); others on the CPU.
void quantize(lane& l, const host_matrix& x, const quant_spec& spec, const_qparams_view q, matrix_view<std::int8_t> codes);

/// x = (codes - zero point) * scale in f32, the scalar backend's bits: Cast, Add, Mul. (AscendAntiQuant has no f32 result.)
void dequantize(lane& l, matrix_view<const std::int8_t> codes, const quant_spec& spec, const_qparams_view q, matrix_view<float> out);

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/quantize_operation.ipp>
#endif
