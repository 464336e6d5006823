#pragma once
#include <qlib/core/status.hpp>
#include <qlib/io/file.hpp>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// What a run has finished, one text line an item, so that a killed run continues where it stopped.
///
///     qlib-journal 1 <plan fingerprint, 16 hex digits> <check, 8 hex digits>
///     <item> <checksum of the item's output bytes, 16 hex digits> <check>
///
/// `check` is a checksum of the line before it. A last line that a kill tore in two fails its check and is cut off when the journal
/// is opened again. Lines survive the death of the process; after a power failure the items' checksums tell which outputs to redo.
class journal {
 public:
  struct entry {
    std::uint64_t item = 0;      ///< index in the plan
    std::uint64_t checksum = 0;  ///< checksum64 of the bytes that the item wrote
    friend bool operator==(const entry&, const entry&) = default;
  };

  /// Starts a journal for the plan with this fingerprint. Without `resume` an existing one is emptied; with it, its finished items
  /// are read (none, if the file does not exist yet). Errors: another plan's journal, a damaged first line, a run that still holds
  /// the journal.
  static result<journal> open(std::string path, std::uint64_t fingerprint, bool resume);

  /// The items of earlier runs and of this one in ascending order, each with its latest checksum.
  std::vector<entry> finished() const;

  /// Adds a line with a single write. Safe to call from several threads. After an error the journal is as it was.
  status append(entry finished);

  /// Returns when all lines are on the disk.
  status sync() const;

 private:
  status read_lines(const std::string& text, std::uint64_t fingerprint, std::size_t& valid_bytes);
  status write_line(const std::string& line);

  file_descriptor file_;
  std::string path_;
  std::vector<entry> entries_;
  std::uint64_t size_ = 0;
  std::unique_ptr<std::mutex> mutex_;  // behind a pointer: journals move
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/io/journal.ipp>
#endif
