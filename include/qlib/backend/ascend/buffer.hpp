#pragma once
#include <qlib/backend/ascend/device.hpp>

#include <cstddef>

namespace qlib::inline v0::ascend {

enum class memory_place : std::uint8_t {
  device,  ///< only the device may touch it
  pinned,  ///< host memory that the device copies from and to while the host goes on
};

/// Uninitialised memory, 64-byte aligned. The runtime frees without waiting: whoever uses it on a stream synchronizes before it goes.
class buffer {
 public:
  buffer() = default;
  buffer(buffer&& other) noexcept;
  buffer& operator=(buffer&& other) noexcept;
  ~buffer() { release(); }

  /// Frees what it held. Holds nothing after a failure.
  failure allocate(const device& d, memory_place place, std::size_t bytes);
  void release() noexcept;
  /// Gives the memory up without freeing it: what a device that does not answer may still write to.
  void abandon() noexcept { data_ = nullptr, size_ = 0; }

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  const device* device_ = nullptr;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  memory_place place_ = memory_place::device;
};

/// Places in one allocation. The rule of the runtime for pieces of its memory: each starts 64-byte aligned and has 32 bytes to spare.
class layout {
 public:
  /// The offset of `bytes` more.
  std::size_t add(std::size_t bytes) {
    const std::size_t offset = end_;
    end_ += ((bytes + 31) / 32 * 32 + 32 + 63) / 64 * 64;
    return offset;
  }
  std::size_t bytes() const { return end_; }

 private:
  std::size_t end_ = 0;
};

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/buffer.ipp>
#endif
