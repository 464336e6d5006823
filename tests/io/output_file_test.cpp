#include <qlib/io/output_file.hpp>

#include "temporary_folder.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include <sys/resource.h>
#include <csignal>

using namespace qlib_test;

TEST_CASE("an output file has its final size at once and its ranges may be written in any order") {
  const temporary_folder folder;
  auto file = qlib::output_file::create(folder.path("out"), 10);
  REQUIRE(file);
  CHECK(folder.read("out") == std::string(10, '\0'));
  CHECK(file->write_at(5, as_bytes("world")));
  CHECK(file->write_at(0, as_bytes("hello")));
  CHECK(file->write_at(10, {}));
  CHECK(file->sync());
  CHECK(file->close());
  CHECK(folder.read("out") == "helloworld");
  CHECK_FALSE(file->write_at(0, as_bytes("x")));
  CHECK(file->close());
}

TEST_CASE("creating an output file again keeps what a killed run wrote and corrects the size") {
  const temporary_folder folder;
  folder.write("out", "abcdef");
  auto file = qlib::output_file::create(folder.path("out"), 8);
  REQUIRE(file);
  std::string read(6, '?');
  REQUIRE(file->read_at(0, std::as_writable_bytes(std::span{read})));
  CHECK(read == "abcdef");
  CHECK(folder.read("out") == std::string("abcdef\0\0", 8));
  REQUIRE(qlib::output_file::create(folder.path("out"), 3));
  CHECK(folder.read("out") == "abc");
}

TEST_CASE("a write or read past the end is refused and changes nothing") {
  const temporary_folder folder;
  auto file = qlib::output_file::create(folder.path("out"), 4);
  REQUIRE(file);
  for (std::uint64_t offset : {std::uint64_t{1}, std::uint64_t{4}, std::uint64_t{5}, UINT64_MAX}) {
    CHECK_FALSE(file->write_at(offset, as_bytes("abcd")));
    std::string read(4, '?');
    CHECK_FALSE(file->read_at(offset, std::as_writable_bytes(std::span{read})));
  }
  CHECK(folder.read("out") == std::string(4, '\0'));
}

TEST_CASE("several threads fill different ranges of one output file") {
  const temporary_folder folder;
  constexpr std::size_t threads = 4, piece = 1000, pieces = 50;
  auto file = qlib::output_file::create(folder.path("out"), threads * piece * pieces);
  REQUIRE(file);
  std::vector<std::thread> running;
  for (std::size_t t = 0; t < threads; ++t)
    running.emplace_back([&, t] {
      const std::string content(piece, static_cast<char>('a' + t));
      for (std::size_t i = 0; i < pieces; ++i) (void)file->write_at((i * threads + t) * piece, as_bytes(content));
    });
  for (std::thread& t : running) t.join();
  std::string expected;
  for (std::size_t i = 0; i < threads * pieces; ++i) expected.append(piece, static_cast<char>('a' + i % threads));
  CHECK(folder.read("out") == expected);
}

TEST_CASE("a full disk is a failed run that can be resumed") {
  if (!std::filesystem::exists("/dev/full")) return;
  auto file = qlib::output_file::create("/dev/full", 100);
  REQUIRE(file);
  const qlib::status written = file->write_at(10, as_bytes("abc"));
  REQUIRE_FALSE(written);
  CHECK(written.error().kind == qlib::error_kind::run_failed);
  CHECK(written.error().where == "/dev/full");
  CHECK(written.error().problem.find("write 3 bytes at offset 10") != std::string::npos);
  CHECK(written.error().remedy == "free space");
}

TEST_CASE("a disk that fills up in the middle of a write is a failed run") {
  const temporary_folder folder;
  auto file = qlib::output_file::create(folder.path("out"), 100);
  REQUIRE(file);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 60;  // acts like a full disk: the first write is short, the next fails
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const qlib::status written = file->write_at(50, as_bytes(std::string(50, 'x')));
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);

  REQUIRE_FALSE(written);
  CHECK(written.error().kind == qlib::error_kind::run_failed);
  CHECK(written.error().problem.find("write 40 bytes at offset 60") != std::string::npos);
  CHECK(written.error().remedy == "free space");
  CHECK(folder.read("out") == std::string(50, '\0') + std::string(10, 'x') + std::string(40, '\0'));
}

TEST_CASE("an output file in a folder that does not exist is an error") {
  const temporary_folder folder;
  const auto file = qlib::output_file::create(folder.path("missing/out"), 4);
  REQUIRE_FALSE(file);
  CHECK(file.error().kind == qlib::error_kind::invalid_input);
}

TEST_CASE("free space is compared with the need, also when it exceeds every disk") {
  const temporary_folder folder;
  CHECK(qlib::require_free_space(folder.path(), 0));
  CHECK(qlib::require_free_space(folder.path(), 1));
  const qlib::status huge = qlib::require_free_space(folder.path(), std::uint64_t{1} << 62);
  REQUIRE_FALSE(huge);
  CHECK(huge.error().problem.find("4611686018427387904 bytes are needed") != std::string::npos);
  CHECK(huge.error().remedy != "");
  CHECK_FALSE(qlib::require_free_space(folder.path("missing"), 1));
}
