#pragma once
#include <qlib/backend/ascend/chain.hpp>
#include <qlib/backend/ascend/staging.hpp>

namespace qlib::inline v0::ascend {

/// x[r, c] *= factors[r], in f32 with one rounding: InplaceMul, or Mul. factors: [x.rows()].
void scale_rows(lane& l, matrix_view<float> x, std::span<const float> factors);

/// x[r, c] *= factors[c]. factors: [x.cols()].
void scale_columns(lane& l, matrix_view<float> x, std::span<const float> factors);

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/scale_operation.ipp>
#endif
