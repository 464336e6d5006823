#pragma once
#include <qlib/backend/ascend/device.hpp>

#include <cstddef>

namespace qlib::inline v0::ascend {

/// A queue of copies and ops of one device, which run in order and beside the host. After the first failure it runs nothing more.
class stream {
 public:
  stream() = default;
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;
  ~stream() { close(); }

  failure open(const device& d);
  /// Waits for what is queued; a device that does not finish in `milliseconds` is a timeout. Errors of queued work show here.
  failure synchronize(int milliseconds) const;
  /// Queues a copy; `from` is pinned (else it is no queue but a wait).
  failure upload(void* to, const void* from, std::size_t bytes) const;
  failure download(void* to, const void* from, std::size_t bytes) const;
  void close() noexcept;
  /// Gives the stream up without destroying it: it may still run.
  void abandon() noexcept { handle_ = nullptr; }

  void* handle() const { return handle_; }
  const device& owner() const { return *device_; }

 private:
  const device* device_ = nullptr;
  void* handle_ = nullptr;
};

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/stream.ipp>
#endif
