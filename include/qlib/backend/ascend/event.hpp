#pragma once
#include <qlib/backend/ascend/stream.hpp>

namespace qlib::inline v0::ascend {

/// A mark in a stream that others wait for, and that times what lies between two of them.
class event {
 public:
  event() = default;
  event(const event&) = delete;
  event& operator=(const event&) = delete;
  ~event() { close(); }

  /// Unsupported where the runtime has no events.
  failure open(const device& d);
  failure record(const stream& s) const;
  /// What is queued on `s` from now on waits for the mark.
  failure make_wait(const stream& s) const;
  /// The host waits.
  failure synchronize() const;
  /// From this mark to `later`; both have been reached.
  failure milliseconds_until(const event& later, float& out) const;
  void close() noexcept;

 private:
  const device* device_ = nullptr;
  void* handle_ = nullptr;
};

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/event.ipp>
#endif
