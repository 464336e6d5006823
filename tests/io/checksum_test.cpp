#include <qlib/io/checksum.hpp>

#include "temporary_folder.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <random>
#include <set>
#include <string>

using namespace qlib_test;

namespace {
std::string pattern(std::size_t size) {
  std::mt19937_64 random{7};
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}
}  // namespace

TEST_CASE("a checksum does not depend on how the stream is cut into chunks") {
  const std::string text = pattern(1000);
  std::mt19937_64 random{1};
  for (std::size_t size = 0; size <= text.size(); size += size < 140 ? 1 : 43) {
    const auto bytes = as_bytes(text).first(size);
    const std::uint64_t whole = qlib::checksum_of(bytes);
    for (std::size_t longest : {1u, 7u, 32u, 33u, 100u}) {
      qlib::checksum64 sum;
      for (std::size_t at = 0; at < size;) {
        const std::size_t n = std::min<std::size_t>(size - at, random() % (longest + 1));  // empty chunks too
        sum.update(bytes.subspan(at, n));
        at += n;
      }
      CHECK(sum.value() == whole);
    }
  }
}

TEST_CASE("reading the value in the middle of a stream does not disturb it") {
  const std::string text = pattern(100);
  qlib::checksum64 sum;
  sum.update(as_bytes(text).first(45));
  CHECK(sum.value() == qlib::checksum_of(as_bytes(text).first(45)));
  sum.update(as_bytes(text).subspan(45));
  CHECK(sum.value() == qlib::checksum_of(as_bytes(text)));
}

TEST_CASE("every flipped bit, swapped word, cut or appended zero changes the checksum") {
  std::string text = pattern(200);
  std::set<std::uint64_t> seen{qlib::checksum_of(as_bytes(text))};
  std::size_t variants = 1;
  const auto add = [&](std::string_view variant) {
    seen.insert(qlib::checksum_of(as_bytes(variant)));
    ++variants;
  };
  for (std::size_t bit = 0; bit < 8 * text.size(); ++bit) {
    text[bit / 8] ^= static_cast<char>(1 << bit % 8);
    add(text);
    text[bit / 8] ^= static_cast<char>(1 << bit % 8);
  }
  for (std::size_t word = 0; word + 16 <= text.size(); word += 8) {
    std::string swapped = text;
    std::swap_ranges(swapped.begin() + static_cast<std::ptrdiff_t>(word), swapped.begin() + static_cast<std::ptrdiff_t>(word + 8),
                     swapped.begin() + static_cast<std::ptrdiff_t>(word + 8));
    add(swapped);
  }
  // What one bit does to the state of a lane must not be undone by another bit of the next word of the lane.
  for (std::size_t bit = 0; bit < 64; ++bit)
    for (std::size_t other = 256; other < 320; ++other) {
      std::string both = text;
      for (const std::size_t b : {bit, other}) both[b / 8] ^= static_cast<char>(1 << b % 8);
      add(both);
    }
  for (std::size_t size = 0; size < text.size(); ++size) add(std::string_view{text}.substr(0, size));
  CHECK(seen.size() == variants);

  std::set<std::uint64_t> zeros;
  for (std::size_t size = 0; size < 300; ++size) zeros.insert(qlib::checksum_of(as_bytes(std::string(size, '\0'))));
  CHECK(zeros.size() == 300);
}

TEST_CASE("a flipped bit changes about half of the bits of the checksum") {
  std::string text = pattern(64);
  const std::uint64_t base = qlib::checksum_of(as_bytes(text));
  std::size_t changed = 0;
  for (std::size_t bit = 0; bit < 8 * text.size(); ++bit) {
    text[bit / 8] ^= static_cast<char>(1 << bit % 8);
    changed += static_cast<std::size_t>(std::popcount(base ^ qlib::checksum_of(as_bytes(text))));
    text[bit / 8] ^= static_cast<char>(1 << bit % 8);
  }
  // 512 samples of 64 bits: the mean of fair bits is 32 with a standard deviation of 4 / sqrt(512) = 0.18; 2 is more than ten of
  // them.
  CHECK(static_cast<double>(changed) / 512 == doctest::Approx(32).epsilon(2.0 / 32));
}

TEST_CASE("the checksum function never changes within a journal version") {
  CHECK(qlib::checksum_of({}) == 0x8d4864504c699952u);
  CHECK(qlib::checksum_of(as_bytes("The journal stores this value on disk.")) == 0x7aadf495cf246adau);
}
