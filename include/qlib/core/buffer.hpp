#pragma once
#include <qlib/config.hpp>

#include <cstddef>
#include <cstdlib>
#include <utility>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace qlib::inline v0 {

/// Uninitialised memory, aligned to a cache line; huge pages are asked for from 4 MiB on, because touching fresh 4 KiB pages costs
/// up to four times the quantization itself.
class buffer {
 public:
  buffer() = default;
  /// Holds no memory when the system has none: check `data()`.
  explicit buffer(std::size_t bytes) : size_{bytes} {
    if (bytes == 0) return;
    const std::size_t alignment = bytes >= huge ? (std::size_t{2} << 20) : 64;
    const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    data_ = static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
#if defined(__linux__)
    if (data_ && bytes >= huge) madvise(data_, rounded, MADV_HUGEPAGE);
#endif
  }
  buffer(buffer&& other) noexcept : data_{std::exchange(other.data_, nullptr)}, size_{std::exchange(other.size_, 0)} {}
  buffer& operator=(buffer&& other) noexcept {
    if (this == &other) return *this;
    std::free(data_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }
  ~buffer() { std::free(data_); }

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  static constexpr std::size_t huge = std::size_t{4} << 20;
  std::byte* data_ = nullptr;  // not a unique_ptr: <memory> alone takes 0.3 s to compile, a third of quantize.hpp
  std::size_t size_ = 0;
};

}  // namespace qlib::inline v0
