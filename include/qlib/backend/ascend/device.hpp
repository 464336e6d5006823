#pragma once
#include <qlib/backend/ascend/library.hpp>

namespace qlib::inline v0::ascend {

/// What another library has selected on the calling thread: selected again when this ends. Nothing where the thread has no context, or one of
/// qlib's.
class foreign_selection {
 public:
  explicit foreign_selection(const functions& api);
  foreign_selection(const foreign_selection&) = delete;
  foreign_selection& operator=(const foreign_selection&) = delete;
  ~foreign_selection();

 private:
  const functions& api_;
  void* context_ = nullptr;
};

/// A device as one owner uses it: a context of its own, so that streams of other owners, and of other libraries in the process, are
/// not touched by its failures. Never moves: buffers, streams and events point to it, and must be gone before it.
class device {
 public:
  device() = default;
  device(const device&) = delete;
  device& operator=(const device&) = delete;
  ~device() { close(); }

  /// `id`: as the process sees devices. The first open of a device may take seconds. Selects this device on a thread that has none of another
  /// library's.
  failure open(const library& lib, int id);
  /// Makes this device the calling thread's. Cheap; everything that calls the runtime does it first.
  failure select() const;
  void close() noexcept;
  /// Gives the context up without destroying it: what is queued in it may still run.
  void abandon() noexcept;

  bool is_open() const { return context_ != nullptr; }
  /// The context is one of a device that is open, on any thread.
  static bool owns(const void* context);
  int id() const { return id_; }
  const library& lib() const { return *library_; }
  const functions& api() const { return library_->api(); }
  failure check(std::int32_t code, const char* function) const { return library_->check(code, function); }

 private:
  void enlist() noexcept;
  void delist() noexcept;

  const library* library_ = nullptr;
  void* context_ = nullptr;
  int id_ = -1;
  device* next_ = nullptr;  ///< of the open ones
};

/// Selects a device for the time that it lives, and gives the thread back what another library had selected before.
class device_scope {
 public:
  explicit device_scope(const device& d) : before_{d.api()}, error_{d.select()} {}

  const failure& error() const { return error_; }

 private:
  foreign_selection before_;
  failure error_;
};

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/device.ipp>
#endif
