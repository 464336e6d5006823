#pragma once
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/event.hpp>

namespace qlib::inline v0::ascend {

QLIB_INLINE failure event::open(const device& d) {
  close();
  const functions& api = d.api();
  if (!api.aclrtDestroyEvent || !api.aclrtRecordEvent || !api.aclrtStreamWaitEvent || !api.aclrtSynchronizeEvent ||
      !(api.aclrtCreateEventExWithFlag || api.aclrtCreateEvent))
    return {.kind = failure_class::unsupported, .text = "aclrtCreateEvent: not in this runtime"};
  device_ = &d;
  failure f = api.aclrtCreateEventExWithFlag  // reusable and not limited in number
                  ? d.check(api.aclrtCreateEventExWithFlag(&handle_, event_sync | event_time_line), "aclrtCreateEventExWithFlag")
                  : d.check(api.aclrtCreateEvent(&handle_), "aclrtCreateEvent");
  if (f) handle_ = nullptr;
  return f;
}

QLIB_INLINE failure event::record(const stream& s) const {
  return device_->check(device_->api().aclrtRecordEvent(handle_, s.handle()), "aclrtRecordEvent");
}

QLIB_INLINE failure event::make_wait(const stream& s) const {
  return device_->check(device_->api().aclrtStreamWaitEvent(s.handle(), handle_), "aclrtStreamWaitEvent");
}

QLIB_INLINE failure event::synchronize() const { return device_->check(device_->api().aclrtSynchronizeEvent(handle_), "aclrtSynchronizeEvent"); }

QLIB_INLINE failure event::milliseconds_until(const event& later, float& out) const {
  if (!device_->api().aclrtEventElapsedTime) return {.kind = failure_class::unsupported, .text = "aclrtEventElapsedTime: not in this runtime"};
  return device_->check(device_->api().aclrtEventElapsedTime(&out, handle_, later.handle_), "aclrtEventElapsedTime");
}

QLIB_INLINE void event::close() noexcept {
  if (!handle_) return;
  device_->select();
  device_->api().aclrtDestroyEvent(std::exchange(handle_, nullptr));
}

}  // namespace qlib::inline v0::ascend
