#pragma once
#include <qlib/backend/ascend/chain.hpp>
#include <qlib/backend/ascend/staging.hpp>

namespace qlib::inline v0::ascend {

/// As scalar_backend::ranges, to the bit: Aminmax (or Amin and Amax) of each tile's rows, joined on the host in ascending order. Chunks with a
/// NaN or an infinity, which the host sees while it copies, are done by the CPU.
void ranges(lane& l, const host_matrix& x, tile t, std::span<range> out);

/// As scalar_backend::column_absmax, to the bit. The device has no reduction of magnitudes: its two extremes are joined here.
void column_absmax(lane& l, const host_matrix& x, std::span<float> out);

/// As scalar_backend::histogram, to the bit: Histc, where its test at the edges of bins, and one unit in the last place beside them, gives the
/// scalar backend's counts.
void histogram(lane& l, const host_matrix& x, range limits, std::span<std::uint32_t> counts);

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/range_operation.ipp>
#endif
