#pragma once
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/hold_operation.hpp>
#include <qlib/backend/ascend/test_matrices.hpp>

#include <algorithm>
#include <cstring>
#include <vector>

namespace qlib::inline v0::ascend {

namespace holding {

/// x to the lane's held memory, in chunks through its staging buffers.
inline attempt run(lane& l, path p, const host_matrix& x) {
  const bool widened = p == path::hold_widened;
  const std::size_t element = widened ? x.element_bytes() : 4, row_bytes = x.cols * element;
  if (failure f = l.reserve_held(x.rows * x.cols * 4)) return f;
  // Chunks begin at addresses that ops can write to: at multiples of 8 values.
  const std::size_t unit = 8 / std::min<std::size_t>(8, x.cols & (0 - x.cols));
  const std::size_t most = std::max<std::size_t>(1, l.chunk_bytes() / (unit * row_bytes)) * unit;
  const segments cut = segments::of(x.cols, x.cols);
  for (std::size_t first = 0; first < x.rows; first += most) {
    const std::size_t count = std::min(most, x.rows - first);
    if (failure f = l.reserve(count * row_bytes, 0)) return f;
    const host_matrix strip = x.strip(first, count);
    const bool finite = widened ? stage_elements(strip, cut, l.pinned_in()) : stage_floats(strip, cut, reinterpret_cast<float*>(l.pinned_in()));
    if (!finite) return attempt::for_the_cpu();
    std::byte* const to = l.held_memory() + first * x.cols * 4;
    if (failure f = l.upload_to(widened ? l.device_in() : to, count * row_bytes)) return f;
    if (widened) {
      const auto rows = static_cast<std::int64_t>(count), cols = static_cast<std::int64_t>(x.cols);
      const tensor from = l.make_tensor(l.device_in(), x.type, {rows, cols}), wide = l.make_tensor(to, dtype::f32, {rows, cols});
      op_call cast{l.space(), "aclnnCast"};
      if (failure f = cast.plan(l.api().aclnnCastGetWorkspaceSize(from.handle(), type_float, wide.handle(), cast.bytes(), cast.executor()))) return f;
      if (failure f = l.launch(cast, l.api().aclnnCast)) return f;
    }
    if (failure f = l.wait()) return f;  // the staging buffers are written next
  }
  return {};
}

inline attempt test(lane& l, path p, dtype type, bool& equal) {
  const auto compare = [&](const auto& x) -> attempt {
    const attempt a = run(l, p, host_matrix{x.view()});
    if (!a.done()) return a;
    if (failure f = l.reserve(0, x.size() * 4)) return f;
    if (failure f = l.download(l.held_memory(), x.size() * 4)) return f;
    const auto* found = reinterpret_cast<const float*>(l.pinned_out());
    equal = true;
    for (std::size_t i = 0; i < x.size(); ++i) equal = equal && found[i] == to_float(x.values[i]);
    return {};
  };
  if (type == dtype::bf16) return compare(test_matrix<bf16>{});
  if (type == dtype::f16) return compare(test_matrix<f16>{});
  return compare(test_matrix<float>{});
}

inline constexpr path paths[] = {path::hold_widened, path::hold_floats};

/// f32, and what a chip has no type for, are held as the host widens them.
inline chain hold_chain(const lane& l, dtype type) {
  const bool widened = type == dtype::f16 || (type == dtype::bf16 && has_bf16(l.known().family()));
  return {operation::hold, type, std::span<const path>{paths}.subspan(widened ? 0 : 1), test};
}

}  // namespace holding

QLIB_INLINE bool hold(lane& l, const host_matrix& x) {
  if (l.lost() || l.holds() || !l.may_hold() || x.rows == 0 || x.cols == 0) return false;
  if (x.rows * x.cols * 4 > l.options().largest_held_bytes) return false;
  const device_scope scope{l.dev()};
  if (scope.error()) {
    l.lose(scope.error());
    return false;
  }
  const chain c = holding::hold_chain(l, x.type).of_width(x.cols);
  const path p = choose_path(l, c);
  if (l.lost() || p == path::cpu) return false;
  const attempt a = holding::run(l, p, x);
  if (a.done()) {
    l.keep(x);
    l.record().note(c.operation, p);
    return true;
  }
  if (a.error.kind == failure_class::out_of_memory) {  // operations may fit where a whole matrix does not: chunks stay as they are
    l.drain();
    l.stop_holding();
  } else if (a.error) {
    static_cast<void>(recover(l, c, p, a.error));
  }
  return false;
}

}  // namespace qlib::inline v0::ascend
