#pragma once
#include <qlib/backend/ascend/library.hpp>

namespace qlib::inline v0::ascend {

/// A device as one owner uses it: a context of its own, so that streams of other owners, and of other libraries in the process, are
/// not touched by its failures. Never moves: buffers, streams and events point to it, and must be gone before it.
class device {
 public:
  device() = default;
  device(const device&) = delete;
  device& operator=(const device&) = delete;
  ~device() { close(); }

  /// `id`: as the process sees devices. The first open of a device may take seconds.
  failure open(const library& lib, int id);
  /// Makes this device the calling thread's. Cheap; everything that calls the runtime does it first.
  failure select() const;
  void close() noexcept;
  /// Gives the context up without destroying it: what is queued in it may still run.
  void abandon() noexcept { context_ = nullptr, id_ = -1; }

  bool is_open() const { return context_ != nullptr; }
  int id() const { return id_; }
  const library& lib() const { return *library_; }
  const functions& api() const { return library_->api(); }
  failure check(std::int32_t code, const char* function) const { return library_->check(code, function); }

 private:
  const library* library_ = nullptr;
  void* context_ = nullptr;
  int id_ = -1;
};

/// Selects a device for the time that it lives, and gives the thread back what another library had selected before.
class device_scope {
 public:
  explicit device_scope(const device& d);
  device_scope(const device_scope&) = delete;
  device_scope& operator=(const device_scope&) = delete;
  ~device_scope();

  const failure& error() const { return error_; }

 private:
  const device& device_;
  void* before_ = nullptr;
  failure error_;
};

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/device.ipp>
#endif
