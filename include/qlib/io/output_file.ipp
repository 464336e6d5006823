#pragma once
#include <qlib/io/output_file.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace qlib::inline v0 {

namespace detail {
// Linux transfers at most 2 GiB - 4096 bytes a call; smaller pieces keep a killed process from waiting for one long write.
inline constexpr std::size_t largest_transfer = std::size_t{64} << 20;

QLIB_INLINE std::string transfer_text(const char* action, std::size_t length, std::uint64_t offset) {
  return std::string{action} + " " + std::to_string(length) + " bytes at offset " + std::to_string(offset);
}

/// data_alone: without what nobody needs to read the content, such as its times. Files that cannot be synced, such as devices, need not be.
QLIB_INLINE bool synced(int fd, bool data_alone) {
  int rc = 0;
  do rc = data_alone ? ::fdatasync(fd) : ::fsync(fd);
  while (rc != 0 && errno == EINTR);
  return rc == 0 || errno == EINVAL || errno == ENOTSUP;
}
}  // namespace detail

QLIB_INLINE result<output_file> output_file::create(std::string path, std::uint64_t size) {
  output_file out;
  out.file_ = file_descriptor{::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666)};
  if (out.file_.get() < 0) return system_error(path, "create", errno);
  struct stat info {};
  if (::fstat(out.file_.get(), &info) != 0) return system_error(path, "stat", errno);
  // A device has no size to set.
  if (S_ISREG(info.st_mode) && static_cast<std::uint64_t>(info.st_size) != size) {
    int rc = 0;
    do rc = ::ftruncate(out.file_.get(), static_cast<off_t>(size));
    while (rc != 0 && errno == EINTR);
    if (rc != 0) return system_error(path, "set the size to " + std::to_string(size) + " bytes", errno);
  }
  out.path_ = std::move(path);
  out.size_ = size;
  return out;
}

QLIB_INLINE status output_file::check_range(std::uint64_t offset, std::size_t length, const char* action) const {
  if (file_.get() < 0) return error{error_kind::run_failed, path_, {}, std::string{"cannot "} + action + ": the file is closed", {}};
  if (offset <= size_ && length <= size_ - offset) return {};
  return error{error_kind::run_failed,
               path_,
               {},
               "cannot " + detail::transfer_text(action, length, offset) + ": the file has " + std::to_string(size_) + " bytes",
               {}};
}

QLIB_INLINE status output_file::write_at(std::uint64_t offset, std::span<const std::byte> bytes) const {
  if (status ok = check_range(offset, bytes.size(), "write"); !ok) return ok;
  while (!bytes.empty()) {
    const std::size_t length = std::min(bytes.size(), detail::largest_transfer);
    const ssize_t n = ::pwrite(file_.get(), bytes.data(), length, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    // A write of 0 bytes is no error by POSIX, but it would repeat for ever.
    if (n <= 0) return system_error(path_, detail::transfer_text("write", length, offset), n < 0 ? errno : ENOSPC);
    offset += static_cast<std::uint64_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

QLIB_INLINE status output_file::read_at(std::uint64_t offset, std::span<std::byte> bytes) const {
  if (status ok = check_range(offset, bytes.size(), "read"); !ok) return ok;
  while (!bytes.empty()) {
    const std::size_t length = std::min(bytes.size(), detail::largest_transfer);
    const ssize_t n = ::pread(file_.get(), bytes.data(), length, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return system_error(path_, detail::transfer_text("read", length, offset), n < 0 ? errno : EIO);
    offset += static_cast<std::uint64_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

QLIB_INLINE void output_file::start_sync(std::uint64_t offset, std::uint64_t length) const {
#if defined(SYNC_FILE_RANGE_WRITE)
  (void)::sync_file_range(file_.get(), static_cast<off_t>(offset), static_cast<off_t>(length), SYNC_FILE_RANGE_WRITE);
#else
  (void)offset, (void)length;
#endif
}

QLIB_INLINE status output_file::sync() const {
  if (!detail::synced(file_.get(), true)) return system_error(path_, "write to the disk", errno);
  return {};
}

QLIB_INLINE status sync_path(const std::string& path) {
  const file_descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.get() < 0) return system_error(path, "open", errno);
  if (!detail::synced(file.get(), false)) return system_error(path, "write to the disk", errno);
  return {};
}

QLIB_INLINE status output_file::close() {
  const int fd = file_.release();
  // After EINTR the descriptor is gone on Linux: closing again could hit somebody else's file.
  if (fd >= 0 && ::close(fd) != 0 && errno != EINTR) return system_error(path_, "close", errno);
  return {};
}

QLIB_INLINE std::string unfinished_name(const std::string& path) { return path + ".tmp"; }

QLIB_INLINE status put_in_place(output_file file, const std::string& path, bool sync) {
  if (sync)
    if (status s = file.sync(); !s) return s;
  if (status s = file.close(); !s) return s;
  if (std::rename(file.path().c_str(), path.c_str()) != 0) return system_error(path, "rename to", errno);
  return {};
}

QLIB_INLINE status replace_file(const std::string& path, std::string_view text, bool sync) {
  const std::string unfinished = unfinished_name(path);
  auto file = output_file::create(unfinished, text.size());
  if (!file) return std::move(file).error();
  status s = file->write_at(0, std::as_bytes(std::span{text}));
  if (s) s = put_in_place(*std::move(file), path, sync);
  if (!s) std::remove(unfinished.c_str());
  return s;
}

QLIB_INLINE status require_free_space(const std::string& directory, std::uint64_t bytes) {
  struct statvfs info {};
  if (::statvfs(directory.c_str(), &info) != 0) return system_error(directory, "read the free space", errno);
  const std::uint64_t block = info.f_frsize;
  const std::uint64_t available = info.f_bavail;
  // Counted in blocks: the product may exceed 64 bits on network file systems that report "unlimited".
  if (block == 0 || bytes / block + (bytes % block != 0) <= available) return {};
  return error{error_kind::run_failed,
               directory,
               {},
               std::to_string(bytes) + " bytes are needed, " + std::to_string(available * block) + " are free",
               "free space or choose another --save_path"};
}

}  // namespace qlib::inline v0
