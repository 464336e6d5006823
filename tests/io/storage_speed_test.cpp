#include "temporary_folder.hpp"

#include <doctest/doctest.h>
#include <qlib/io/mmap_file.hpp>
#include <qlib/io/storage_speed.hpp>

#include <string>

#include <fcntl.h>
#include <unistd.h>

using namespace qlib;

namespace {

std::string file_of(const qlib_test::temporary_folder& folder, std::size_t bytes) { return folder.write("file", std::string(bytes, 'x')); }

read_speed speed_of(const std::string& path) {
  const auto map = mmap_file::open(path);
  REQUIRE(map);
  const std::span<const std::byte> all[] = {map->bytes()};
  return probe_reads(all);
}

}  // namespace

TEST_CASE("a file that was just written is in memory, and reading it costs no disk") {
  const qlib_test::temporary_folder folder;
  const read_speed s = speed_of(file_of(folder, 3 << 20));
  CHECK(s.cached_share == 1);
  CHECK_FALSE(s.uncached_seconds);
  CHECK(s.cached_seconds > 0);
  CHECK(s.cached_seconds < 1e-6);  // a megabyte a second
}

TEST_CASE("what the system dropped from memory has to be read") {
  const qlib_test::temporary_folder folder;
  const std::string path = file_of(folder, 8 << 20);
  const int file = ::open(path.c_str(), O_RDONLY);
  REQUIRE(file >= 0);
  const bool dropped = ::fsync(file) == 0 && ::posix_fadvise(file, 4 << 20, 0, POSIX_FADV_DONTNEED) == 0;
  ::close(file);
  REQUIRE(dropped);
  const read_speed s = speed_of(path);
  if (s.cached_share == 1) return;  // a file system without a disk, or advice that is not taken
  CHECK(s.cached_share > 0.4);
  CHECK(s.cached_share < 0.6);
  REQUIRE(s.uncached_seconds);
  CHECK(*s.uncached_seconds > 0);
}

TEST_CASE("an empty mapping is no reason to fail") {
  CHECK(probe_reads({}).cached_share == 1);
  const std::span<const std::byte> none[] = {{}};
  CHECK(probe_reads(none).cached_seconds == 0);
}

TEST_CASE("a probe of writing asks the disk, and leaves nothing behind") {
  const qlib_test::temporary_folder folder;
  const write_speed s = probe_writes(folder.path(), 1 << 20);
  CHECK(s.cached_seconds > 0);
  CHECK(s.cached_seconds < 1e-6);
  if (s.disk_seconds) CHECK(*s.disk_seconds > s.cached_seconds);  // both the same bytes; nothing where no file can be without a name
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("a probe of writing serves without a folder too, and does not ask the disk then") {
  const qlib_test::temporary_folder folder;
  for (const std::string& where : {std::string{}, folder.path("missing")}) {
    CAPTURE(where);
    const write_speed s = probe_writes(where, 1 << 20);
    CHECK(s.cached_seconds > 0);
    CHECK(s.cached_seconds < 1e-6);
    CHECK_FALSE(s.disk_seconds);
  }
}
