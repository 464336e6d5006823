#pragma once
#include <qlib/core/status.hpp>

#include <cstddef>
#include <span>
#include <string>

namespace qlib::inline v0 {

/// A file mapped into memory, read-only. Pages are read when they are touched and can be given back one range at a time.
///
/// The file must not be shortened while it is mapped: the operating system answers with SIGBUS. All writers of this library
/// therefore write a new file and rename it, and never truncate one that exists.
class mmap_file {
 public:
  mmap_file() = default;
  mmap_file(mmap_file&& other) noexcept;
  mmap_file& operator=(mmap_file&& other) noexcept;
  ~mmap_file();

  /// Maps a regular file; an empty one gives an empty span.
  static result<mmap_file> open(std::string path);

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  /// Drops the pages that lie wholly inside [offset, offset + length) from resident memory. They remain readable: the next touch
  /// reads them again. Ranges past the end are cut.
  void release(std::size_t offset, std::size_t length) const;

  /// Asks for [offset, offset + length) to be read ahead.
  void will_need(std::size_t offset, std::size_t length) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/io/mmap_file.ipp>
#endif
