#pragma once
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/device.hpp>

#include <mutex>

namespace qlib::inline v0::ascend {

namespace selection {

// The runtime numbers contexts by address, and uses addresses again: whose a context is can only be told by who is alive.
inline std::mutex listing;
inline device* first_open = nullptr;

}  // namespace selection

QLIB_INLINE foreign_selection::foreign_selection(const functions& api) : api_{api} {
  if (api_.aclrtGetCurrentContext(&context_) != 0 || device::owns(context_)) context_ = nullptr;
}

QLIB_INLINE foreign_selection::~foreign_selection() {
  if (context_) static_cast<void>(api_.aclrtSetCurrentContext(context_));
}

QLIB_INLINE failure device::open(const library& lib, int id) {
  close();
  library_ = &lib;
  const foreign_selection before{api()};  // a new context is selected at once
  failure f = check(api().aclrtCreateContext(&context_, id), "aclrtCreateContext");
  // Not aclrtSetDevice and aclrtResetDevice: the last of those would end the device for other libraries of the process. Should a runtime want
  // the first before a context, the device stays set.
  if (f && f.code == error_no_context && api().aclrtSetDevice(id) == 0) f = check(api().aclrtCreateContext(&context_, id), "aclrtCreateContext");
  if (f) {
    context_ = nullptr;
    return f;
  }
  id_ = id;
  enlist();
  return select();
}

QLIB_INLINE failure device::select() const { return check(api().aclrtSetCurrentContext(context_), "aclrtSetCurrentContext"); }

QLIB_INLINE void device::close() noexcept {
  if (context_) {
    const foreign_selection before{api()};
    delist();
    api().aclrtDestroyContext(std::exchange(context_, nullptr));
  }
  id_ = -1;
}

QLIB_INLINE void device::abandon() noexcept {
  if (context_) delist();
  context_ = nullptr;
  id_ = -1;
}

QLIB_INLINE bool device::owns(const void* context) {
  const std::lock_guard lock{selection::listing};
  for (const device* d = selection::first_open; d; d = d->next_)
    if (d->context_ == context) return true;
  return false;
}

QLIB_INLINE void device::enlist() noexcept {
  const std::lock_guard lock{selection::listing};
  next_ = std::exchange(selection::first_open, this);
}

QLIB_INLINE void device::delist() noexcept {
  const std::lock_guard lock{selection::listing};
  for (device** d = &selection::first_open; *d; d = &(*d)->next_)
    if (*d == this) {
      *d = next_;
      return;
    }
}

}  // namespace qlib::inline v0::ascend
