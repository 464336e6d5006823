#include <qlib/io/journal.hpp>

#include "temporary_folder.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sys/resource.h>
#include <csignal>

using namespace qlib_test;
using entry = qlib::journal::entry;

namespace {
constexpr std::uint64_t plan = 0x0123456789abcdefu;

/// The text of a journal with three finished items.
std::string three_items(const temporary_folder& folder) {
  {
    auto journal = qlib::journal::open(folder.path("j"), plan, false);
    REQUIRE(journal);
    for (const entry& e : {entry{0, 1}, entry{17, UINT64_MAX}, entry{UINT64_MAX, 0}}) REQUIRE(journal->append(e));
  }
  return folder.read("j");
}
}  // namespace

TEST_CASE("a resumed journal knows what was finished, and continues") {
  const temporary_folder folder;
  const std::string text = three_items(folder);
  CHECK(std::ranges::count(text, '\n') == 4);
  CHECK(text.starts_with("qlib-journal 1 0123456789abcdef "));
  for (int round = 0; round < 2; ++round) {
    auto journal = qlib::journal::open(folder.path("j"), plan, true);
    REQUIRE(journal);
    CHECK(journal->finished() == std::vector<entry>{{0, 1}, {17, UINT64_MAX}, {UINT64_MAX, 0}});
    CHECK(folder.read("j") == text);
  }
  auto journal = qlib::journal::open(folder.path("j"), plan, true);
  REQUIRE(journal);
  REQUIRE(journal->append({5, 6}));
  REQUIRE(journal->sync());
  CHECK(journal->finished().size() == 4);
  CHECK(folder.read("j").starts_with(text));
}

TEST_CASE("a journal cut at any byte keeps its whole lines, and later lines are not lost") {
  const temporary_folder folder;
  const std::string text = three_items(folder);
  for (std::size_t size = 0; size <= text.size(); ++size) {
    CAPTURE(size);
    folder.write("j", text.substr(0, size));
    const auto whole_lines = std::ranges::count(text.substr(0, size), '\n');
    {
      auto journal = qlib::journal::open(folder.path("j"), plan, true);
      REQUIRE(journal);
      CHECK(journal->finished().size() == static_cast<std::size_t>(std::max<std::ptrdiff_t>(whole_lines - 1, 0)));
      REQUIRE(journal->append({99, 98}));
    }
    auto again = qlib::journal::open(folder.path("j"), plan, true);
    REQUIRE(again);
    const std::vector<entry> finished = again->finished();
    CHECK(finished.size() == static_cast<std::size_t>(std::max<std::ptrdiff_t>(whole_lines - 1, 0)) + 1);
    CHECK(std::ranges::count(finished, entry{99, 98}) == 1);
  }
}

TEST_CASE("a flipped bit never yields an item that was not finished") {
  const temporary_folder folder;
  const std::string text = three_items(folder);
  const std::vector<entry> all{{0, 1}, {17, UINT64_MAX}, {UINT64_MAX, 0}};
  for (std::size_t bit = 0; bit < 8 * text.size(); ++bit) {
    std::string damaged = text;
    damaged[bit / 8] ^= static_cast<char>(1 << bit % 8);
    folder.write("j", damaged);
    auto journal = qlib::journal::open(folder.path("j"), plan, true);
    if (!journal) {
      CHECK(folder.read("j") == damaged);  // refused, and left for inspection
      continue;
    }
    const std::vector<entry> finished = journal->finished();
    CHECK(std::ranges::includes(all, finished, {}, &entry::item, &entry::item));
    for (const entry& e : finished) CHECK(std::ranges::count(all, e) == 1);
  }
}

TEST_CASE("resuming with another plan is an error that names both plans and keeps the journal") {
  const temporary_folder folder;
  const std::string text = three_items(folder);
  const auto journal = qlib::journal::open(folder.path("j"), plan + 1, true);
  REQUIRE_FALSE(journal);
  CHECK(journal.error().kind == qlib::error_kind::invalid_input);
  CHECK(journal.error().problem == "the inputs or flags changed since the run began (plan 0123456789abcdef then, 0123456789abcdf0 now)");
  CHECK(journal.error().remedy.find("--resume") != std::string::npos);
  CHECK(folder.read("j") == text);
}

TEST_CASE("a file that is no journal, a newer version and a damaged first line are refused on resume") {
  const temporary_folder folder;
  for (const auto& [content, problem] : {std::pair<std::string, std::string>{"{\"a\": 1}\n", "not a journal"},
                                         {"x", "not a journal"},
                                         {"qlib-journal 2 0123456789abcdef 00000000 more\n", "journal version 2"},
                                         {"qlib-journal 1 0123456789abcdef 00000000\n", "damaged"},
                                         {"qlib-journal 1\n", "damaged"}}) {
    folder.write("j", content);
    const auto journal = qlib::journal::open(folder.path("j"), plan, true);
    REQUIRE_FALSE(journal);
    CHECK(journal.error().problem.find(problem) != std::string::npos);
    CHECK(folder.read("j") == content);
  }
}

TEST_CASE("without resume a journal starts empty; with resume a missing one does") {
  const temporary_folder folder;
  three_items(folder);
  {
    const auto journal = qlib::journal::open(folder.path("j"), plan, false);
    REQUIRE(journal);
    CHECK(journal->finished().empty());
    CHECK(std::ranges::count(folder.read("j"), '\n') == 1);
  }
  const auto fresh = qlib::journal::open(folder.path("new"), plan, true);
  REQUIRE(fresh);
  CHECK(fresh->finished().empty());
}

TEST_CASE("an item that was redone counts once, with its latest checksum") {
  const temporary_folder folder;
  {
    auto journal = qlib::journal::open(folder.path("j"), plan, false);
    REQUIRE(journal);
    for (const entry& e : {entry{2, 1}, entry{1, 5}, entry{2, 3}, entry{2, 2}}) REQUIRE(journal->append(e));
    CHECK(journal->finished() == std::vector<entry>{{1, 5}, {2, 2}});
  }
  const auto journal = qlib::journal::open(folder.path("j"), plan, true);
  REQUIRE(journal);
  CHECK(journal->finished() == std::vector<entry>{{1, 5}, {2, 2}});
}

TEST_CASE("lines of several threads do not mix") {
  const temporary_folder folder;
  {
    auto journal = qlib::journal::open(folder.path("j"), plan, false);
    REQUIRE(journal);
    std::vector<std::thread> running;
    for (std::uint64_t t = 0; t < 4; ++t)
      running.emplace_back([&, t] {
        for (std::uint64_t i = 0; i < 100; ++i) (void)journal->append({4 * i + t, i});
      });
    for (std::thread& t : running) t.join();
  }
  const auto journal = qlib::journal::open(folder.path("j"), plan, true);
  REQUIRE(journal);
  const std::vector<entry> finished = journal->finished();
  REQUIRE(finished.size() == 400);
  for (std::uint64_t i = 0; i < 400; ++i) CHECK(finished[i] == entry{i, i / 4});
}

TEST_CASE("a journal that another run holds is refused and left alone") {
  const temporary_folder folder;
  auto first = qlib::journal::open(folder.path("j"), plan, false);
  REQUIRE(first);
  REQUIRE(first->append({1, 1}));
  for (bool resume : {false, true}) {
    const auto second = qlib::journal::open(folder.path("j"), plan, resume);
    REQUIRE_FALSE(second);
    CHECK(second.error().problem == "another run is using this work folder");
  }
  CHECK(std::ranges::count(folder.read("j"), '\n') == 2);
}

TEST_CASE("a journal on a full disk is a failed run that can be resumed") {
  if (!std::filesystem::exists("/dev/full")) return;
  const auto journal = qlib::journal::open("/dev/full", plan, false);
  REQUIRE_FALSE(journal);
  CHECK(journal.error().kind == qlib::error_kind::run_failed);
  CHECK(journal.error().remedy == "free space");
}

TEST_CASE("a line that is written only in part is taken back") {
  const temporary_folder folder;
  const std::string text = three_items(folder);
  auto journal = qlib::journal::open(folder.path("j"), plan, true);
  REQUIRE(journal);

  // The largest size of a file acts like a full disk: the write is short at first, then fails.
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = text.size() + 10;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const qlib::status appended = journal->append({7, 7});
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);

  REQUIRE_FALSE(appended);
  CHECK(appended.error().kind == qlib::error_kind::run_failed);
  CHECK(journal->finished().size() == 3);
  CHECK(folder.read("j") == text);
  REQUIRE(journal->append({8, 8}));
  CHECK(journal->finished().size() == 4);
}
