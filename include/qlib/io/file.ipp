#pragma once
#include <qlib/io/file.hpp>

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace qlib::inline v0 {

QLIB_INLINE file_descriptor::~file_descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

QLIB_INLINE error system_error(std::string_view path, std::string_view action, int code) {
  error e{error_kind::run_failed, std::string{path}, {}, "cannot " + std::string{action} + ": " + std::strerror(code), {}};
  switch (code) {
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case EACCES:
    case EPERM:
    case ELOOP:
    case ENAMETOOLONG:
    case EROFS:
    case ETXTBSY:
      e.kind = error_kind::invalid_input;
      e.remedy = code == EACCES || code == EPERM ? "check the permissions" : "check the path";
      break;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      e.remedy = "free space";
      break;
    case EMFILE:
    case ENFILE:
      e.remedy = "raise the limit of open files (ulimit -n)";
      break;
    default:
      e.remedy = "check the disk and the system log";
  }
  return e;
}

QLIB_INLINE result<std::string> read_text_file(const std::string& path) {
  // O_NONBLOCK: a FIFO in a model directory must not hang the program; it changes nothing for regular files.
  file_descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.get() < 0) return system_error(path, "open", errno);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return system_error(path, "stat", errno);
  if (!S_ISREG(info.st_mode)) return error{error_kind::invalid_input, path, {}, "is not a regular file", "check the path"};

  std::string text(static_cast<std::size_t>(info.st_size), '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::read(file.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(path, "read", errno);
    if (n == 0) break;  // shortened meanwhile
    done += static_cast<std::size_t>(n);
  }
  text.resize(done);
  return text;
}

}  // namespace qlib::inline v0
