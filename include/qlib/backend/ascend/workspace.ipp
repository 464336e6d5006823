#pragma once
#include <qlib/backend/ascend/workspace.hpp>

namespace qlib::inline v0::ascend {

QLIB_INLINE failure workspace::reserve(std::size_t bytes, void*& out) {
  out = nullptr;
  if (bytes == 0) return {};
  if (memory_.size() < bytes) {
    buffer larger;
    if (failure f = larger.allocate(*device_, memory_place::device, bytes)) return f;
    if (memory_.data()) old_.push_back(std::move(memory_));
    memory_ = std::move(larger);
  }
  out = memory_.data();
  return {};
}

QLIB_INLINE void workspace::release() noexcept {
  old_.clear();
  memory_.release();
}

QLIB_INLINE void workspace::abandon() noexcept {
  for (buffer& b : old_) b.abandon();
  memory_.abandon();
}

}  // namespace qlib::inline v0::ascend
