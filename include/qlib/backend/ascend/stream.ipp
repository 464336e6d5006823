#pragma once
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/stream.hpp>

namespace qlib::inline v0::ascend {

QLIB_INLINE failure stream::open(const device& d) {
  close();
  if (failure f = d.check(d.api().aclrtCreateStream(&handle_), "aclrtCreateStream")) {
    handle_ = nullptr;
    return f;
  }
  device_ = &d;
  // By default, work goes on after a failure, on garbage, and later errors replace the first.
  if (d.api().aclrtSetStreamFailureMode) return d.check(d.api().aclrtSetStreamFailureMode(handle_, stop_on_failure), "aclrtSetStreamFailureMode");
  return {};
}

QLIB_INLINE failure stream::synchronize(int milliseconds) const {
  const functions& api = device_->api();
  if (!api.aclrtSynchronizeStreamWithTimeout) return device_->check(api.aclrtSynchronizeStream(handle_), "aclrtSynchronizeStream");
  return device_->check(api.aclrtSynchronizeStreamWithTimeout(handle_, milliseconds), "aclrtSynchronizeStreamWithTimeout");
}

QLIB_INLINE failure stream::upload(void* to, const void* from, std::size_t bytes) const {
  if (bytes == 0) return {};
  return device_->check(device_->api().aclrtMemcpyAsync(to, bytes, from, bytes, copy_host_to_device, handle_), "aclrtMemcpyAsync");
}

QLIB_INLINE failure stream::download(void* to, const void* from, std::size_t bytes) const {
  if (bytes == 0) return {};
  return device_->check(device_->api().aclrtMemcpyAsync(to, bytes, from, bytes, copy_device_to_host, handle_), "aclrtMemcpyAsync");
}

QLIB_INLINE void stream::close() noexcept {
  if (!handle_) return;
  device_->select();
  device_->api().aclrtDestroyStream(std::exchange(handle_, nullptr));
}

}  // namespace qlib::inline v0::ascend
