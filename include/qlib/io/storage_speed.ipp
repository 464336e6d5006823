#pragma once
#include <qlib/core/buffer.hpp>
#include <qlib/core/stopwatch.hpp>
#include <qlib/io/file.hpp>
#include <qlib/io/storage_speed.hpp>

#include <algorithm>
#include <array>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace qlib::inline v0 {

namespace detail {

inline constexpr std::size_t probed_bytes = std::size_t{8} << 20;
inline constexpr double longest_probe = 0.1;  // seconds

/// Some pages of a mapping.
struct page_run {
  const std::byte* first;
  std::size_t pages;
};

/// Which of `count` pages from a page boundary on are in memory; empty: the system does not say.
inline std::vector<unsigned char> resident_pages(const std::byte* first, std::size_t count, std::size_t page) {
  std::vector<unsigned char> out(count);
  if (::mincore(const_cast<std::byte*>(first), count * page, out.data()) != 0) out.clear();
  for (unsigned char& c : out) c &= 1;
  return out;
}

/// Seconds a byte of touching pages; they are given back.
inline double touch(std::span<const page_run> runs, std::size_t page) {
  volatile unsigned char sum = 0;
  std::size_t touched = 0;
  const stopwatch start;
  for (const page_run& run : runs)
    for (std::size_t i = 0; i < run.pages && touched * page < probed_bytes; ++i, ++touched) {
      sum = sum + static_cast<unsigned char>(run.first[i * page]);
      if (touched % 64 == 63 && start.seconds() > longest_probe) i = run.pages;
    }
  const double seconds = start.seconds();
  for (const page_run& run : runs) ::madvise(const_cast<std::byte*>(run.first), run.pages * page, MADV_DONTNEED);
  return touched ? seconds / static_cast<double>(touched * page) : 0;
}

/// Seconds a byte of `bytes` bytes written at 0 in calls like those of a run; nothing if that failed.
inline std::optional<double> time_writes(int file, const buffer& from, std::size_t bytes) {
  const stopwatch start;
  for (std::size_t at = 0; at < bytes;) {
    const ssize_t n = ::pwrite(file, from.data(), std::min(from.size(), bytes - at), static_cast<off_t>(at));
    if (n <= 0) return std::nullopt;
    at += static_cast<std::size_t>(n);
  }
  return start.seconds() / static_cast<double>(bytes);
}

}  // namespace detail

QLIB_INLINE read_speed probe_reads(std::span<const std::span<const std::byte>> mapped) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  constexpr std::size_t window_pages = 256, most_windows = 512;
  std::vector<detail::page_run> windows;
  std::size_t all = 0;
  for (const auto& m : mapped) all += m.size() / page;
  // Every page of small models; of large ones windows of a mebibyte.
  const std::size_t stride = std::max(window_pages, all / most_windows);
  for (const auto& m : mapped) {
    const auto begin = (reinterpret_cast<std::uintptr_t>(m.data()) + page - 1) / page * page;
    const auto end = (reinterpret_cast<std::uintptr_t>(m.data()) + m.size()) / page * page;
    for (std::uintptr_t at = begin; at < end; at += stride * page)
      windows.push_back({reinterpret_cast<const std::byte*>(at), std::min<std::size_t>(window_pages, (end - at) / page)});
  }
  std::vector<detail::page_run> cached, uncached;
  std::size_t seen = 0, resident = 0;
  for (const detail::page_run& w : windows) {
    const std::vector<unsigned char> is = detail::resident_pages(w.first, w.pages, page);
    seen += w.pages;
    if (is.empty()) {
      resident += w.pages;
      continue;
    }
    for (std::size_t i = 0; i < is.size();) {
      std::size_t j = i;
      while (j < is.size() && is[j] == is[i]) ++j;
      (is[i] ? cached : uncached).push_back({w.first + i * page, j - i});
      if (is[i]) resident += j - i;
      i = j;
    }
  }
  read_speed out;
  if (seen > 0) out.cached_share = static_cast<double>(resident) / static_cast<double>(seen);
  out.cached_seconds = detail::touch(cached, page);
  if (!uncached.empty()) out.uncached_seconds = detail::touch(uncached, page);
  return out;
}

QLIB_INLINE write_speed probe_writes(const std::string& folder, std::uint64_t bytes) {
  write_speed out;
  const std::size_t size = static_cast<std::size_t>(std::clamp<std::uint64_t>(bytes, 1, 4 * detail::probed_bytes));
  const buffer from{std::min<std::size_t>(size, std::size_t{2} << 20)};
  if (!from.data()) return out;
  std::memset(from.data(), 1, from.size());
#if defined(O_TMPFILE)
  struct statvfs info {};
  const bool room = !folder.empty() && ::statvfs(folder.c_str(), &info) == 0 && std::uint64_t{info.f_bavail} * info.f_frsize > 8 * size;
  if (room) {
    const file_descriptor file{::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
    const stopwatch start;
    if (file.get() >= 0)
      if (const auto seconds = detail::time_writes(file.get(), from, size)) {
        out.cached_seconds = *seconds;
        if (::fdatasync(file.get()) == 0) out.disk_seconds = start.seconds() / static_cast<double>(size);
        return out;
      }
  }
#endif
#if defined(__linux__)
  const file_descriptor memory{::memfd_create("qlib", MFD_CLOEXEC)};
  if (memory.get() >= 0)
    if (const auto seconds = detail::time_writes(memory.get(), from, size)) out.cached_seconds = *seconds;
#endif
  return out;
}

}  // namespace qlib::inline v0
