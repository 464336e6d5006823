#pragma once
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/device.hpp>

namespace qlib::inline v0::ascend {

namespace selection {

/// The context that qlib selected last on this thread: not another library's, and perhaps gone by now.
inline void*& own_context() {
  static thread_local void* context = nullptr;
  return context;
}

}  // namespace selection

QLIB_INLINE failure device::open(const library& lib, int id) {
  close();
  library_ = &lib;
  failure f = check(api().aclrtCreateContext(&context_, id), "aclrtCreateContext");
  // Not aclrtSetDevice and aclrtResetDevice: the last of those would end the device for other libraries of the process. Should a runtime want
  // the first before a context, the device stays set.
  if (f && f.code == error_no_context && api().aclrtSetDevice(id) == 0) f = check(api().aclrtCreateContext(&context_, id), "aclrtCreateContext");
  if (f) {
    context_ = nullptr;
    return f;
  }
  id_ = id;
  return select();
}

QLIB_INLINE failure device::select() const {
  failure f = check(api().aclrtSetCurrentContext(context_), "aclrtSetCurrentContext");
  if (!f) selection::own_context() = context_;
  return f;
}

QLIB_INLINE void device::close() noexcept {
  if (context_) api().aclrtDestroyContext(std::exchange(context_, nullptr));
  id_ = -1;
}

QLIB_INLINE device_scope::device_scope(const device& d) : device_{d} {
  if (d.api().aclrtGetCurrentContext(&before_) != 0 || before_ == selection::own_context()) before_ = nullptr;
  error_ = d.select();
}

QLIB_INLINE device_scope::~device_scope() {
  if (before_) device_.api().aclrtSetCurrentContext(before_);
}

}  // namespace qlib::inline v0::ascend
