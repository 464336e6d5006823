#pragma once
#include <qlib/backend/ascend/chain.hpp>
#include <qlib/backend/ascend/staging.hpp>

namespace qlib::inline v0::ascend {

/// Symmetric int8 codes of each row by its own largest magnitude: scale = absmax / 127, at least 2^-23; code = round(x / scale).
///
/// x: [tokens, channels]; codes: the same shape; scales: [tokens]. 16-bit x runs DynamicQuant (V2), within numeric_bounds::dynamic_rate and
/// scale_relative; f32 x, which that op does not take, the extremes of each row and then the static codes. A row of zeros gets the smallest
/// scale, where the device says 0. The op's own smoothing factors are not used: some chips ignore them (scale_columns before).
void quantize_per_token(lane& l, const host_matrix& x, matrix_view<std::int8_t> codes, std::span<float> scales);

/// The same on the CPU.
void quantize_per_token_on_host(const host_matrix& x, matrix_view<std::int8_t> codes, std::span<float> scales);

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/token_operation.ipp>
#endif
