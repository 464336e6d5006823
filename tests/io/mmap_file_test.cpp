#include <qlib/io/mmap_file.hpp>

#include "temporary_folder.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <numeric>
#include <utility>

#include <sys/stat.h>
#include <unistd.h>

using namespace qlib_test;

namespace {
/// Bytes of this process in memory; 0 where the system does not tell.
std::size_t resident_bytes() {
  std::size_t total = 0, resident = 0;
  std::ifstream{"/proc/self/statm"} >> total >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}
}  // namespace

TEST_CASE("a mapped file shows the bytes of the file") {
  const temporary_folder folder;
  auto file = qlib::mmap_file::open(folder.write("a", "hello"));
  REQUIRE(file);
  CHECK(as_text(file->bytes()) == "hello");
  CHECK(file->path() == folder.path("a"));
}

TEST_CASE("an empty file maps to an empty span") {
  const temporary_folder folder;
  auto file = qlib::mmap_file::open(folder.write("empty", ""));
  REQUIRE(file);
  CHECK(file->bytes().empty());
  file->release(0, 100);
  file->will_need(0, 100);
}

TEST_CASE("a missing file, a folder and a FIFO are errors that name the path and do not hang") {
  const temporary_folder folder;
  REQUIRE(::mkfifo(folder.path("fifo").c_str(), 0600) == 0);
  for (const std::string& path : {folder.path("missing"), folder.path(), folder.path("fifo")}) {
    const auto file = qlib::mmap_file::open(path);
    REQUIRE_FALSE(file);
    CHECK(file.error().kind == qlib::error_kind::invalid_input);
    CHECK(file.error().where == path);
    CHECK(file.error().problem != "");
  }
}

TEST_CASE("a mapping survives moves and the removal of the file") {
  const temporary_folder folder;
  auto opened = qlib::mmap_file::open(folder.write("a", "content"));
  REQUIRE(opened);
  qlib::mmap_file first = *std::move(opened);
  qlib::mmap_file second;
  second = std::move(first);
  std::filesystem::remove(folder.path("a"));
  CHECK(as_text(second.bytes()) == "content");
  CHECK(first.bytes().empty());
}

TEST_CASE("released pages leave memory and read the same again; partial pages at the edges stay") {
  const temporary_folder folder;
  const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::string content(8 * page + 100, 'x');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 31 % 251);
  auto file = qlib::mmap_file::open(folder.write("a", content));
  REQUIRE(file);
  file->will_need(1, content.size());
  REQUIRE(as_text(file->bytes()) == content);
  for (const auto& [offset, length] : {std::pair<std::size_t, std::size_t>{0, content.size()},
                                       {1, page},
                                       {page - 1, 2},
                                       {page, 3 * page},
                                       {content.size() - 1, 1},
                                       {content.size(), 1},
                                       {3, static_cast<std::size_t>(-1)},
                                       {static_cast<std::size_t>(-1), static_cast<std::size_t>(-1)}}) {
    file->release(offset, length);
    file->will_need(offset, length);
    CHECK(as_text(file->bytes()) == content);
  }
}

TEST_CASE("released bytes no longer count as memory of the process") {
  const temporary_folder folder;
  constexpr std::size_t size = std::size_t{32} << 20;
  auto file = qlib::mmap_file::open(folder.write("a", std::string(size, 'x')));
  REQUIRE(file);
  const auto touch = [&] {
    return std::accumulate(file->bytes().begin(), file->bytes().end(), std::size_t{0},
                           [](std::size_t n, std::byte b) { return n + std::to_integer<std::size_t>(b); });
  };
  REQUIRE(touch() == size * 'x');
  const std::size_t before = resident_bytes();
  file->release(0, size);
  const std::size_t after = resident_bytes();
  if (before == 0) return;
  CHECK(after + size / 2 < before);  // half: other memory of the process may move meanwhile
  CHECK(touch() == size * 'x');
}
