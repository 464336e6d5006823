/// An open file and the errors of the operating system, in the words of this library (POSIX).
#pragma once
#include <qlib/core/status.hpp>

#include <string>
#include <string_view>
#include <utility>

namespace qlib::inline v0 {

/// Owns a file descriptor; -1 is none. Closing reports nothing: call `output_file::close` where it matters.
class file_descriptor {
 public:
  file_descriptor() = default;
  explicit file_descriptor(int fd) : fd_{fd} {}
  file_descriptor(file_descriptor&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
  file_descriptor& operator=(file_descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~file_descriptor();

  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

/// The error for `errno` value `code` after `action` ("open", "write 4096 bytes at offset 0") failed on `path`.
///
/// A wrong path is `invalid_input`. A full disk, an I/O error or exhausted resources are `run_failed`.
error system_error(std::string_view path, std::string_view action, int code);

/// The whole content of a regular file.
result<std::string> read_text_file(const std::string& path);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/io/file.ipp>
#endif
