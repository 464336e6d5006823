#pragma once
#include <qlib/backend/ascend/buffer.hpp>
#include <qlib/backend/ascend/stream.hpp>

#include <vector>

namespace qlib::inline v0::ascend {

/// Scratch memory of the ops of one stream, shared by all of them because they run one after the other. Grows to the largest need.
class workspace {
 public:
  explicit workspace(const device& d) : device_{&d} {}

  /// At least `bytes`, for an op that is queued next; null for 0. The memory that it replaces lives until `synchronized`, because ops
  /// that were queued before use it.
  failure reserve(std::size_t bytes, void*& out);
  /// The stream was synchronized: nothing uses older memory any more.
  void synchronized() noexcept { old_.clear(); }
  /// Frees all of it; only after a synchronization.
  void release() noexcept;
  void abandon() noexcept;

  const device& owner() const { return *device_; }

 private:
  const device* device_;
  buffer memory_;
  std::vector<buffer> old_;
};

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/workspace.ipp>
#endif
