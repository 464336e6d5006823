#include <qlib/core/convert.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

namespace {

using namespace qlib;

std::uint32_t bits_of_float(float x) { return std::bit_cast<std::uint32_t>(x); }

/// The finite e4m3 code nearest to x, the even one of two equally near; by trying all. Differences are exact in double.
std::uint8_t nearest_e4m3(float x) {
  std::uint8_t best = 0;
  for (unsigned code = 1; code < 0x7f; ++code) {
    const double d = std::fabs(std::fabs(static_cast<double>(x)) - static_cast<double>(e4m3_to_float(static_cast<std::uint8_t>(code))));
    const double b = std::fabs(std::fabs(static_cast<double>(x)) - static_cast<double>(e4m3_to_float(best)));
    if (d < b || (d == b && code % 2 == 0)) best = static_cast<std::uint8_t>(code);
  }
  return static_cast<std::uint8_t>(best | (std::signbit(x) ? 0x80 : 0));
}

}  // namespace

TEST_CASE("each bf16 widens and narrows to itself; NaN becomes quiet and keeps its sign") {
  for (unsigned i = 0; i < 65536; ++i) {
    const bf16 h{static_cast<std::uint16_t>(i)};
    const float wide = to_float(h);
    const bf16 back = to_bf16(wide);
    REQUIRE(bits_of_float(wide) == i << 16);
    if (std::isnan(wide)) REQUIRE(back.bits == (i | 0x40u));
    else REQUIRE(back.bits == i);
  }
}

TEST_CASE("each f16 widens and narrows to itself; NaN becomes the quiet one of its sign") {
  for (unsigned i = 0; i < 65536; ++i) {
    const f16 h{static_cast<std::uint16_t>(i)};
    const float wide = to_float(h);
    const f16 back = to_f16(wide);
    if (std::isnan(wide)) REQUIRE(back.bits == ((i & 0x8000u) | 0x7e00u));
    else REQUIRE(back.bits == i);
  }
}

TEST_CASE("narrowing to bf16 rounds to nearest, ties to even") {
  CHECK(to_bf16(std::bit_cast<float>(0x3f808000u)).bits == 0x3f80);  // tie, down to even
  CHECK(to_bf16(std::bit_cast<float>(0x3f808001u)).bits == 0x3f81);
  CHECK(to_bf16(std::bit_cast<float>(0x3f818000u)).bits == 0x3f82);  // tie, up to even
  CHECK(to_bf16(std::numeric_limits<float>::max()).bits == 0x7f80);  // overflows to infinity
  CHECK(to_bf16(-0.0f).bits == 0x8000);
}

TEST_CASE("narrowing to f16 rounds to nearest, ties to even, into subnormals and into infinity") {
  CHECK(to_f16(65519.996f).bits == 0x7bff);
  CHECK(to_f16(65520.0f).bits == 0x7c00);
  CHECK(to_f16(-1e30f).bits == 0xfc00);
  CHECK(to_f16(0x1p-25f).bits == 0x0000);  // tie with zero
  CHECK(to_f16(0x1.000002p-25f).bits == 0x0001);
  CHECK(to_f16(0x1.8p-24f).bits == 0x0002);  // tie, up to even
  CHECK(to_f16(0x1.ffbp-15f).bits == 0x03ff);
  CHECK(to_f16(0x1.ffcp-15f).bits == 0x0400);  // beyond the largest subnormal: rounds into the normals
}

// C++ has no f16; g++ 12 has it as an extension, correctly rounded.
#if defined(__FLT16_MAX__) && !defined(__clang__) && defined(__SSE2__)
TEST_CASE("f16 conversions equal the compiler's") {
  for (unsigned i = 0; i < 65536; ++i) {
    const f16 h{static_cast<std::uint16_t>(i)};
    const float theirs = static_cast<float>(std::bit_cast<_Float16>(h.bits));
    if (std::isnan(theirs)) REQUIRE(std::isnan(to_float(h)));
    else REQUIRE(bits_of_float(to_float(h)) == bits_of_float(theirs));
  }
  std::mt19937 random{1};
  for (int i = 0; i < 1'000'000; ++i) {
    // Any pattern, and every other time one whose exponent f16 has.
    std::uint32_t bits = static_cast<std::uint32_t>(random());
    if (i % 2) bits = (bits & 0x807fffffu) | (100u + bits % 45u) << 23;
    if (i % 4 == 1) bits &= ~0xfffu;  // often a tie
    const float x = std::bit_cast<float>(bits);
    if (std::isnan(x)) continue;
    REQUIRE(to_f16(x).bits == std::bit_cast<std::uint16_t>(static_cast<_Float16>(x)));
  }
}
#endif

TEST_CASE("each e4m3 code widens and narrows to itself") {
  for (unsigned i = 0; i < 256; ++i) {
    const auto code = static_cast<std::uint8_t>(i);
    const float wide = e4m3_to_float(code);
    if ((i & 0x7fu) == 0x7fu) REQUIRE(std::isnan(wide));
    REQUIRE(to_e4m3(wide) == code);
  }
  CHECK(e4m3_to_float(0x7e) == e4m3_max);
  CHECK(e4m3_to_float(0x01) == 0x1p-9f);
  CHECK(e4m3_to_float(0x08) == 0x1p-6f);
}

TEST_CASE("the values of e2m1 and e8m0 are those of the OCP microscaling formats") {
  const float values[]{0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  for (std::uint8_t code = 0; code < 8; ++code) {
    CHECK(e2m1_to_float(code) == values[code]);
    CHECK(e2m1_to_float(code | 8) == -values[code]);
    CHECK(std::signbit(e2m1_to_float(code | 8)));
  }
  for (int code = 0; code < 255; ++code) REQUIRE(e8m0_to_float(static_cast<std::uint8_t>(code)) == std::ldexp(1.0f, code - 127));
  CHECK(std::isnan(e8m0_to_float(255)));
}

TEST_CASE("to_e4m3 gives the nearest code, the even one at ties, and never decreases") {
  for (unsigned code = 0; code < 0x7e; ++code) {
    const float low = e4m3_to_float(static_cast<std::uint8_t>(code)), tie = (low + e4m3_to_float(static_cast<std::uint8_t>(code + 1))) / 2;
    CHECK(to_e4m3(tie) == code + code % 2);
    CHECK(to_e4m3(std::nextafter(tie, 0.0f)) == code);
    CHECK(to_e4m3(std::nextafter(tie, 1000.0f)) == code + 1);
    CHECK(to_e4m3(-tie) == ((code + code % 2) | 0x80));
  }
  std::mt19937 random{2};
  std::uniform_real_distribution<float> magnitude{-14, 9};
  for (int i = 0; i < 100'000; ++i) {
    float x = std::min(std::exp2(magnitude(random)), e4m3_max);
    if (i % 3 == 0) x = std::bit_cast<float>(bits_of_float(x) & 0xfff80000u);  // often a tie
    if (i % 2) x = -x;
    REQUIRE(to_e4m3(x) == nearest_e4m3(x));
  }
  int last = 0;
  for (std::uint32_t bits = 0; bits <= bits_of_float(e4m3_max); bits += 997) {
    const int code = to_e4m3(std::bit_cast<float>(bits));
    REQUIRE(code >= last);
    last = code;
  }
}

TEST_CASE("round_to is the identity for f32 and idempotent for the narrow types") {
  std::mt19937 random{3};
  for (int i = 0; i < 10'000; ++i) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (std::isnan(x)) continue;
    REQUIRE(bits_of_float(round_to(dtype::f32, x)) == bits_of_float(x));
    for (dtype t : {dtype::bf16, dtype::f16}) REQUIRE(bits_of_float(round_to(t, round_to(t, x))) == bits_of_float(round_to(t, x)));
  }
}

TEST_CASE("epsilon is the distance from one to the next value") {
  CHECK(epsilon_of(dtype::f32) == std::numeric_limits<float>::epsilon());
  CHECK(epsilon_of(dtype::bf16) == to_float(bf16{static_cast<std::uint16_t>(to_bf16(1.0f).bits + 1)}) - 1.0f);
  CHECK(epsilon_of(dtype::f16) == to_float(f16{static_cast<std::uint16_t>(to_f16(1.0f).bits + 1)}) - 1.0f);
  CHECK(epsilon_of(dtype::f8_e4m3) == e4m3_to_float(static_cast<std::uint8_t>(to_e4m3(1.0f) + 1)) - 1.0f);
}
