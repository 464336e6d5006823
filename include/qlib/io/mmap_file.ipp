#pragma once
#include <qlib/io/file.hpp>
#include <qlib/io/mmap_file.hpp>

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace qlib::inline v0 {

namespace detail {
QLIB_INLINE std::size_t mmap_page_size() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }
}  // namespace detail

QLIB_INLINE mmap_file::mmap_file(mmap_file&& other) noexcept { *this = std::move(other); }

QLIB_INLINE mmap_file& mmap_file::operator=(mmap_file&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

QLIB_INLINE mmap_file::~mmap_file() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

QLIB_INLINE result<mmap_file> mmap_file::open(std::string path) {
  const file_descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.get() < 0) return system_error(path, "open", errno);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return system_error(path, "stat", errno);
  if (!S_ISREG(info.st_mode)) return error{error_kind::invalid_input, path, {}, "is not a regular file", "check the path"};

  mmap_file mapped;
  if (info.st_size > 0) {  // mmap refuses a length of 0
    const std::size_t size = static_cast<std::size_t>(info.st_size);
    void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
    if (data == MAP_FAILED) return system_error(path, "map " + std::to_string(size) + " bytes", errno);
    mapped.data_ = static_cast<const std::byte*>(data);
    mapped.size_ = size;
  }
  mapped.path_ = std::move(path);
  return mapped;
}

QLIB_INLINE void mmap_file::release(std::size_t offset, std::size_t length) const {
  if (offset >= size_) return;
  const std::size_t page = detail::mmap_page_size();
  const std::size_t end = offset + std::min(length, size_ - offset);
  const std::size_t first = (offset + page - 1) / page * page;
  // Nothing else lives in the last page of a file, even when the file fills it only in part.
  const std::size_t last = end == size_ ? end : end / page * page;
  if (first < last) ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
}

QLIB_INLINE void mmap_file::will_need(std::size_t offset, std::size_t length) const {
  if (offset >= size_ || length == 0) return;
  const std::size_t first = offset / detail::mmap_page_size() * detail::mmap_page_size();
  const std::size_t end = offset + std::min(length, size_ - offset);
  ::madvise(const_cast<std::byte*>(data_) + first, end - first, MADV_WILLNEED);
}

}  // namespace qlib::inline v0
