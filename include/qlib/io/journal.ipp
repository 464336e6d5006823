#pragma once
#include <qlib/io/checksum.hpp>
#include <qlib/io/journal.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace qlib::inline v0 {

namespace detail {
inline constexpr std::string_view journal_magic = "qlib-journal ";
inline constexpr std::string_view journal_version = "1";

QLIB_INLINE std::string journal_hex(std::uint64_t value, int digits) {
  std::string text(static_cast<std::size_t>(digits), '0');
  for (std::size_t i = text.size(); i-- != 0; value >>= 4) text[i] = "0123456789abcdef"[value & 15];
  return text;
}

QLIB_INLINE std::optional<std::uint64_t> journal_number(std::string_view text, int base) {
  std::uint64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// `content` with its check and the end of line.
QLIB_INLINE std::string checked_line(std::string content) {
  const std::uint64_t check = checksum_of(std::as_bytes(std::span{content}));
  content += ' ';
  content += journal_hex(check & 0xffffffffu, 8);
  content += '\n';
  return content;
}

QLIB_INLINE std::string journal_first_line(std::uint64_t fingerprint) {
  return checked_line(std::string{journal_magic} + std::string{journal_version} + " " + journal_hex(fingerprint, 16));
}

/// The content of a line without its end, or nothing when the check fails.
QLIB_INLINE std::optional<std::string_view> checked_content(std::string_view line) {
  const std::size_t space = line.rfind(' ');
  if (space == std::string_view::npos || line.size() - space != 9) return std::nullopt;
  const std::string_view content = line.substr(0, space);
  if (journal_hex(checksum_of(std::as_bytes(std::span{content})) & 0xffffffffu, 8) != line.substr(space + 1)) return std::nullopt;
  return content;
}

QLIB_INLINE std::optional<journal::entry> parse_journal_entry(std::string_view line) {
  const auto content = checked_content(line);
  if (!content) return std::nullopt;
  const std::size_t space = content->find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  const auto item = journal_number(content->substr(0, space), 10);
  const auto checksum = journal_number(content->substr(space + 1), 16);
  if (!item || !checksum) return std::nullopt;
  return journal::entry{*item, *checksum};
}
}  // namespace detail

QLIB_INLINE status journal::read_lines(const std::string& text, std::uint64_t fingerprint, std::size_t& valid_bytes) {
  valid_bytes = 0;
  const std::string_view all = text;
  const std::size_t first_end = all.find('\n');
  const std::string_view first = all.substr(0, first_end);
  const std::string_view magic = detail::journal_magic;
  if (first.substr(0, magic.size()) != magic.substr(0, first.size()))
    return error{error_kind::invalid_input, path_, "line 1", "is not a journal of this program", "start again with --overwrite"};
  if (first_end == std::string_view::npos) return {};  // the run died while it wrote the first line: nothing is finished

  const std::string_view version = first.substr(magic.size(), first.find(' ', magic.size()) - magic.size());
  if (version != detail::journal_version)
    return error{error_kind::invalid_input, path_, "line 1", "journal version " + std::string{version} + ", this program reads version 1",
                 "finish with the version of the program that began, or start again with --overwrite"};
  if (const auto content = detail::checked_content(first); !content || content->size() != magic.size() + version.size() + 17)
    return error{error_kind::invalid_input, path_, "line 1", "is damaged: its check does not match", "start again with --overwrite"};
  const std::string_view digits = first.substr(magic.size() + version.size() + 1, 16);
  if (digits != detail::journal_hex(fingerprint, 16))
    return error{
        error_kind::invalid_input,
        path_,
        {},
        "the inputs or flags changed since the run began (plan " + std::string{digits} + " then, " + detail::journal_hex(fingerprint, 16) + " now)",
        "repeat the first command with --resume, or start again with --overwrite"};

  valid_bytes = first_end + 1;
  for (;;) {
    const std::size_t end = all.find('\n', valid_bytes);
    if (end == std::string_view::npos) return {};
    // What follows a damaged line is not trusted either: redoing items is safe.
    const auto parsed = detail::parse_journal_entry(all.substr(valid_bytes, end - valid_bytes));
    if (!parsed) return {};
    entries_.push_back(*parsed);
    valid_bytes = end + 1;
  }
}

QLIB_INLINE status journal::write_line(const std::string& line) {
  for (;;) {
    const ssize_t n = ::write(file_.get(), line.data(), line.size());
    if (n < 0 && errno == EINTR) continue;
    if (n == static_cast<ssize_t>(line.size())) break;
    const int code = n < 0 ? errno : ENOSPC;  // a short write to a regular file means that the disk is full
    // A torn line in the middle would hide the lines after it. If the cut fails too, reopening finds the damage.
    if (n > 0 && ::ftruncate(file_.get(), static_cast<off_t>(size_)) != 0) return system_error(path_, "cut off a torn line", errno);
    return system_error(path_, "append a line", code);
  }
  size_ += line.size();
  return {};
}

QLIB_INLINE result<journal> journal::open(std::string path, std::uint64_t fingerprint, bool resume) {
  journal opened;
  opened.path_ = std::move(path);
  opened.mutex_ = std::make_unique<std::mutex>();
  opened.file_ = file_descriptor{::open(opened.path_.c_str(), O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0666)};
  if (opened.file_.get() < 0) return system_error(opened.path_, "open", errno);
  // The lock ends with the process, however it dies. File systems without locks are used without one.
  if (::flock(opened.file_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    return error{error_kind::invalid_input, opened.path_, {}, "another run is using this work folder", "wait for it or stop it"};

  std::size_t valid_bytes = 0;
  if (resume) {
    auto text = read_text_file(opened.path_);
    if (!text) return std::move(text).error();
    if (status ok = opened.read_lines(*text, fingerprint, valid_bytes); !ok) return ok.error();
  }
  struct stat info {};
  if (::fstat(opened.file_.get(), &info) != 0) return system_error(opened.path_, "stat", errno);
  if (S_ISREG(info.st_mode) && ::ftruncate(opened.file_.get(), static_cast<off_t>(valid_bytes)) != 0)
    return system_error(opened.path_, "cut off a torn line", errno);
  opened.size_ = valid_bytes;
  if (valid_bytes == 0)
    if (status ok = opened.write_line(detail::journal_first_line(fingerprint)); !ok) return ok.error();
  return opened;
}

QLIB_INLINE std::vector<journal::entry> journal::finished() const {
  std::vector<entry> items;
  {
    const std::lock_guard lock{*mutex_};
    items.assign(entries_.rbegin(), entries_.rend());  // latest first, so that unique keeps it
  }
  std::ranges::stable_sort(items, {}, &entry::item);
  const auto same_item = [](const entry& a, const entry& b) { return a.item == b.item; };
  items.erase(std::unique(items.begin(), items.end(), same_item), items.end());
  return items;
}

QLIB_INLINE status journal::append(entry finished) {
  const std::string line = detail::checked_line(std::to_string(finished.item) + " " + detail::journal_hex(finished.checksum, 16));
  const std::lock_guard lock{*mutex_};
  if (status ok = write_line(line); !ok) return ok;
  entries_.push_back(finished);
  return {};
}

QLIB_INLINE status journal::sync() const {
  if (::fsync(file_.get()) != 0) return system_error(path_, "sync", errno);
  return {};
}

}  // namespace qlib::inline v0
