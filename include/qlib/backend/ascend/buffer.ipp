#pragma once
#include <qlib/backend/ascend/buffer.hpp>
#include <qlib/backend/ascend/constants.hpp>

namespace qlib::inline v0::ascend {

QLIB_INLINE buffer::buffer(buffer&& other) noexcept
    : device_{other.device_}, data_{std::exchange(other.data_, nullptr)}, size_{std::exchange(other.size_, 0)}, place_{other.place_} {}

QLIB_INLINE buffer& buffer::operator=(buffer&& other) noexcept {
  if (this != &other) {
    release();
    device_ = other.device_;
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    place_ = other.place_;
  }
  return *this;
}

QLIB_INLINE failure buffer::allocate(const device& d, memory_place place, std::size_t bytes) {
  release();
  if (bytes == 0) return {};  // a size of 0 is an error there
  device_ = &d;
  place_ = place;
  void* memory = nullptr;
  const bool on_device = place == memory_place::device;
  failure f = on_device ? d.check(d.api().aclrtMalloc(&memory, bytes, malloc_huge_first), "aclrtMalloc")
                        : d.check(d.api().aclrtMallocHost(&memory, bytes), "aclrtMallocHost");
  if (f) return f;
  data_ = static_cast<std::byte*>(memory);
  size_ = bytes;
  return {};
}

QLIB_INLINE void buffer::release() noexcept {
  if (!data_) return;
  device_->select();
  if (place_ == memory_place::device) device_->api().aclrtFree(data_);
  else device_->api().aclrtFreeHost(data_);
  abandon();
}

}  // namespace qlib::inline v0::ascend
