/// How fast files are read and written here, by probes of some milliseconds.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// Of mapped files.
struct read_speed {
  double cached_share = 1;                      ///< of the bytes, by places spread over them; 1 where the system does not say
  double cached_seconds = 0;                    ///< a byte: mapping a page that is in memory
  std::optional<double> uncached_seconds = {};  ///< a byte: the disk's; nothing where all of them are in memory
};

/// Touches up to 8 MiB of what is in the page cache and up to 8 MiB of what is not, at most a tenth of a second, and gives the pages back.
/// `mapped`: read-only mappings of whole files or parts of them.
read_speed probe_reads(std::span<const std::span<const std::byte>> mapped);

/// Of new files, by one thread.
struct write_speed {
  double cached_seconds = 0;                ///< a byte: copying to the page cache
  std::optional<double> disk_seconds = {};  ///< a byte: until it is on the disk; nothing where the disk was not asked
};

/// What writing `bytes` bytes below `folder` costs: 32 MiB at most go to a file without a name in it, which no kill can leave behind, and are synced.
/// Where there is no such folder, or it cannot hold such files, to memory instead, and the disk is not asked.
write_speed probe_writes(const std::string& folder, std::uint64_t bytes);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/io/storage_speed.ipp>
#endif
