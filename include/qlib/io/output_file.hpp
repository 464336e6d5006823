#pragma once
#include <qlib/core/status.hpp>
#include <qlib/io/file.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace qlib::inline v0 {

/// A file of known final size that is filled in any order, by any number of threads.
///
/// It belongs in a work folder and is renamed into place when all is written: nobody maps a file that is still being filled.
class output_file {
 public:
  output_file() = default;

  /// Creates `path`, or opens it with its content kept (a run that is resumed), and sets its size. No blocks are reserved:
  /// unwritten ranges read as zeros and take no space, so check `require_free_space` first.
  static result<output_file> create(std::string path, std::uint64_t size);

  const std::string& path() const { return path_; }
  std::uint64_t size() const { return size_; }

  /// Writes all of `bytes` at `offset`, inside [0, size). Calls for different ranges may run at the same time.
  /// A full disk gives `error_kind::run_failed`.
  status write_at(std::uint64_t offset, std::span<const std::byte> bytes) const;

  /// Reads exactly bytes.size() bytes from `offset`: a resumed run compares them with the journal's checksum.
  status read_at(std::uint64_t offset, std::span<std::byte> bytes) const;

  /// Lets the operating system begin to write [offset, offset + length) to the disk, so that `sync` has less to wait for. Waits for nothing, promises
  /// nothing.
  void start_sync(std::uint64_t offset, std::uint64_t length) const;

  /// Returns when the content is on the disk. After an error nobody knows which writes arrived.
  status sync() const;

  /// Closes the file. Some file systems report only here that an earlier write failed.
  status close();

 private:
  status check_range(std::uint64_t offset, std::size_t length, const char* action) const;

  file_descriptor file_;
  std::string path_;
  std::uint64_t size_ = 0;
};

/// Where a file is written until it is whole: beside `path`.
std::string unfinished_name(const std::string& path);

/// Closes `file`, written at unfinished_name(path), and renames it to `path`: that is the old file or the new one, never a part of one. With `sync`
/// the content is on the disk before.
status put_in_place(output_file file, const std::string& path, bool sync = true);

/// A file with this content at `path`, put in place of what was there. A failure leaves nothing beside it.
status replace_file(const std::string& path, std::string_view text, bool sync = true);

/// Returns when a file's content, or a folder's names, are on the disk.
status sync_path(const std::string& path);

/// An error unless the file system of `directory` has `bytes` left for this user.
status require_free_space(const std::string& directory, std::uint64_t bytes);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/io/output_file.ipp>
#endif
