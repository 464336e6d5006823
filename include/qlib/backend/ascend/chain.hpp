/// How an operation is done: chunk by chunk, by the first of several paths that works, in the end by the CPU.
#pragma once
#include <qlib/backend/ascend/lane.hpp>

#include <algorithm>
#include <span>

namespace qlib::inline v0::ascend {

/// What became of one chunk on the device.
struct attempt {
  failure error = {};
  bool unfit = false;  ///< the device cannot give the scalar backend's result for these numbers (a NaN, an infinity): the CPU does

  attempt() = default;
  attempt(failure f) : error{std::move(f)} {}
  static attempt for_the_cpu() {
    attempt a;
    a.unfit = true;
    return a;
  }
  bool done() const { return !error && !unfit; }
};

/// An operation, and its paths from the best to the last before the CPU.
struct chain {
  ascend::operation operation;
  dtype type;  ///< what the device reads
  std::span<const path> paths;
  /// Runs a path on a small matrix, and compares with the scalar backend.
  attempt (*test)(lane&, path, dtype, bool& equal);
  std::size_t width = 0;  ///< elements of a row as the device sees it: what a refused shape is known by

  chain of_width(std::size_t w) const {
    chain c = *this;
    c.width = w;
    return c;
  }
};

/// Whether a path gives the scalar backend's result on this device: from an earlier use, or by a test now. Nothing where the test could not run;
/// `why` then says why, and the lane may be lost. The path's functions must be there.
std::optional<bool> prove_path(lane& l, const chain& c, path p, failure& why);

/// The first path that is present, allowed, proven, and not refused for such rows. path::cpu where there is none, or the lane is lost.
path choose_path(lane& l, const chain& c);

/// After a failed attempt: whether to try again, with another path or smaller chunks. False: the CPU does this chunk, or the lane is lost. A path
/// that is refused in its test is not used any more; one that works, not for rows of this width.
bool recover(lane& l, const chain& c, path tried, const failure& f);

/// Runs [0, rows) in chunks of whole `unit`s. run(path, first, count) -> attempt works on the device and waits for its end; cpu(first, count)
/// works on the host, or returns the path that it took instead. A chunk's results must be written by the attempt that succeeds alone. Does nothing on
/// a lost lane.
template <class Run, class Cpu>
void run_chain(lane& l, const chain& c, std::size_t rows, std::size_t unit, std::size_t row_bytes, Run run, Cpu cpu) {
  if (l.lost()) return;
  const device_scope scope{l.dev()};
  if (scope.error()) return l.lose(scope.error());
  const auto on_host = [&](std::size_t first, std::size_t count) {
    path taken = path::cpu;
    if constexpr (std::is_void_v<decltype(cpu(first, count))>) cpu(first, count);
    else taken = cpu(first, count);
    if (!l.lost()) l.record().note(c.operation, taken);
  };
  for (std::size_t first = 0; first < rows;) {
    const path p = choose_path(l, c);
    if (l.lost()) return;
    if (p == path::cpu) return on_host(first, rows - first);
    const std::size_t units = std::max<std::size_t>(1, l.chunk_bytes() / std::max<std::size_t>(1, row_bytes * unit));
    const std::size_t count = std::min(rows - first, units * unit);
    const attempt a = run(p, first, count);
    if (a.done()) {
      l.record().note(c.operation, p);
    } else if (a.error) {
      if (recover(l, c, p, a.error)) continue;
      if (l.lost()) return;
      on_host(first, count);
    } else {
      on_host(first, count);
    }
    first += count;
  }
}

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/chain.ipp>
#endif
