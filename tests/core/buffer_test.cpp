#include <qlib/core/buffer.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <utility>

namespace {

using namespace qlib;

bool aligned_to(const buffer& b, std::uintptr_t alignment) { return reinterpret_cast<std::uintptr_t>(b.data()) % alignment == 0; }

}  // namespace

TEST_CASE("a buffer is aligned to a cache line, a big one to a huge page") {
  for (const std::size_t bytes : {1u, 63u, 64u, 65u, 100000u}) {
    const buffer b{bytes};
    REQUIRE(b.data() != nullptr);
    CHECK(b.size() == bytes);
    CHECK(aligned_to(b, 64));
    std::memset(b.data(), 1, bytes);
  }
  const buffer big{(std::size_t{4} << 20) + 1};
  REQUIRE(big.data() != nullptr);
  CHECK(aligned_to(big, std::size_t{2} << 20));
  std::memset(big.data(), 1, big.size());
}

TEST_CASE("a buffer of nothing holds no memory") {
  CHECK(buffer{}.data() == nullptr);
  CHECK(buffer{0}.data() == nullptr);
  CHECK(buffer{0}.size() == 0);
}

TEST_CASE("a buffer is moved, not copied") {
  CHECK(!std::is_copy_constructible_v<buffer>);
  buffer a{10};
  std::byte* const memory = a.data();
  const buffer b = std::move(a);
  CHECK(b.data() == memory);
  CHECK(b.size() == 10);
  CHECK(a.data() == nullptr);
}
