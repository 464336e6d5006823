// The rounding contract of scales and zero points (docs/rounding.md), with the vectors of the two tools that it follows.
#include <qlib/core/qparams.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace {

using namespace qlib;

constexpr quant_spec spec_of(scale_rule rule, int bits, bool symmetric) { return {.num_bits = bits, .symmetric = symmetric, .rule = rule}; }

struct case_of_one_tile {
  range seen;
  quant_spec spec;
  float scale;
  int zero_point;
};

/// Scales are given as the exact f32 quotient that the rule asks for.
void check(const std::vector<case_of_one_tile>& cases) {
  for (const auto& c : cases) {
    CAPTURE(c.seen.min);
    CAPTURE(c.seen.max);
    const scale_and_zero q = solve_qparams(c.seen, c.spec);
    CHECK(q.scale == c.scale);
    CHECK(q.zero_point == c.zero_point);
  }
}

std::vector<int> codes_of(const std::vector<float>& row, const quant_spec& spec) {
  range seen;
  for (const float x : row) seen = join(seen, {x, x});
  const scale_and_zero q = solve_qparams(seen, spec);
  std::vector<int> codes;
  for (const float x : row) codes.push_back(quantize_value(x, q.scale, q.zero_point, spec));
  return codes;
}

constexpr auto ascend = scale_rule::ascend;
constexpr auto compressed = scale_rule::compressed_tensors;

const std::vector<float> row0 = {.10f, -.52f, .33f, .91f, -1.27f, .05f, .64f, -.18f};
const std::vector<float> row1 = {2, -.03f, .7f, -1.1f, .25f, 0, -.6f, 1.5f};

}  // namespace

TEST_CASE("msModelSlim's scales and offsets of two int8 ranges") {
  check({{{-1.3f, 2.0f}, spec_of(ascend, 8, false), 2.0f / 255 + 1.3f / 255, -28},
         {{.2f, 3.0f}, spec_of(ascend, 8, false), 3.0f / 255, -128},
         {{-1.3f, 2.0f}, spec_of(ascend, 8, true), 2.0f / 127, 0},
         {{.2f, 3.0f}, spec_of(ascend, 8, true), 3.0f / 127, 0}});
  CHECK(solve_qparams({-1.3f, 2.0f}, spec_of(ascend, 8, false)).scale == doctest::Approx(.0129412).epsilon(1e-5));
  CHECK(solve_qparams({.2f, 3.0f}, spec_of(ascend, 8, true)).scale == doctest::Approx(.0236220).epsilon(1e-5));
}

TEST_CASE("msModelSlim's scale of a tile of zeros is 2^-23") {
  check({{{0, 0}, spec_of(ascend, 8, false), 1.1920929e-7f, -128},
         {{0, 0}, spec_of(ascend, 8, true), 1.1920929e-7f, 0},
         {{0, 0}, spec_of(ascend, 4, false), 1.1920929e-7f, -8},
         {{0, 0}, spec_of(ascend, 4, true), 1.1920929e-7f, 0}});
}

TEST_CASE("msModelSlim's round-to-nearest codes of two rows, int8 and int4") {
  CHECK(codes_of(row0, spec_of(ascend, 8, true)) == std::vector<int>{10, -52, 33, 91, -127, 5, 64, -18});
  CHECK(codes_of(row1, spec_of(ascend, 8, true)) == std::vector<int>{127, -2, 44, -70, 16, 0, -38, 95});
  CHECK(codes_of(row0, spec_of(ascend, 4, true)) == std::vector<int>{1, -3, 2, 5, -7, 0, 4, -1});
  CHECK(codes_of(row1, spec_of(ascend, 4, true)) == std::vector<int>{7, 0, 2, -4, 1, 0, -2, 5});
  check({{{-1.27f, .91f}, spec_of(ascend, 8, true), 1.27f / 127, 0},
         {{-1.1f, 2}, spec_of(ascend, 8, true), 2.0f / 127, 0},
         {{-1.27f, .91f}, spec_of(ascend, 4, true), 1.27f / 7, 0},
         {{-1.1f, 2}, spec_of(ascend, 4, true), 2.0f / 7, 0}});
}

TEST_CASE("compressed-tensors divides absmax by half the number of steps") {
  check({{{-1.3f, 2.0f}, spec_of(compressed, 8, true), 2.0f / 127.5f, 0},
         {{-2.0f, 1.3f}, spec_of(compressed, 4, true), 2.0f / 7.5f, 0},
         {{-1.0f, 7.0f}, spec_of(compressed, 4, true), 7.0f / 7.5f, 0},
         {{-1.0f, 7.0f}, {.type = number::floating, .rule = compressed}, 7.0f / 448, 0}});
}

TEST_CASE("compressed-tensors' zero point is qmin - min / scale, rounded last") {
  check({{{-1.3f, 2.0f}, spec_of(compressed, 8, false), 3.3f / 255, -28},  // -128 + 100.45
         {{.2f, 3.0f}, spec_of(compressed, 8, false), 3.0f / 255, -128},
         {{-3.0f, -.2f}, spec_of(compressed, 8, false), 3.0f / 255, 127},
         {{-1.0f, 2.0f}, spec_of(compressed, 4, false), 3.0f / 15, -3}});
}

TEST_CASE("compressed-tensors' scale of a tile of zeros is epsilon of the scale's dtype") {
  const auto zeros = [](dtype scale_dtype, dtype arithmetic, bool symmetric) {
    return solve_qparams({0, 0}, {.num_bits = 4, .symmetric = symmetric, .rule = compressed, .scale_dtype = scale_dtype, .arithmetic = arithmetic})
        .scale;
  };
  for (const bool symmetric : {true, false}) {
    CHECK(zeros(dtype::f32, dtype::f32, symmetric) == 0x1p-23f);
    CHECK(zeros(dtype::bf16, dtype::f32, symmetric) == 0.0078125f);
    CHECK(zeros(dtype::f16, dtype::f32, symmetric) == 0x1p-10f);
    CHECK(zeros(dtype::bf16, dtype::bf16, symmetric) == 0.0078125f);
  }
  CHECK(solve_qparams({0, 0}, {.type = number::floating, .rule = compressed, .scale_dtype = dtype::bf16}).scale == 0.0078125f);
}

TEST_CASE("the zero point of a tile of zeros is LLM-Compressor's 0, and msModelSlim's offset the lowest code") {
  for (const int bits : {4, 8}) {
    CHECK(solve_qparams({0, 0}, spec_of(compressed, bits, false)).zero_point == 0);
    CHECK(solve_qparams({-0.0f, 0}, spec_of(compressed, bits, false)).zero_point == 0);
    CHECK(solve_qparams({0, 0}, spec_of(ascend, bits, false)).zero_point == spec_of(ascend, bits, false).qmin());
  }
}

TEST_CASE("ends whose distance overflows have a finite scale that spans them") {
  const float largest = std::numeric_limits<float>::max();
  for (const scale_rule rule : {ascend, compressed}) {
    const scale_and_zero q = solve_qparams({-largest, largest}, spec_of(rule, 8, false));
    CHECK(std::isfinite(q.scale));
    CHECK(q.scale * 127 > 0.99f * largest);
    CHECK(quantize_value(largest, q.scale, q.zero_point, spec_of(rule, 8, false)) >= 126);
    CHECK(quantize_value(-largest, q.scale, q.zero_point, spec_of(rule, 8, false)) <= -127);
  }
}

TEST_CASE("compressed-tensors has no fp8 code of -0, AscendV1 keeps it") {
  const quant_spec ct{.type = number::floating, .rule = compressed}, v1{.type = number::floating, .rule = ascend};
  CHECK(quantize_value_e4m3(-0.0f, 0.5f, ct) == 0);
  CHECK(quantize_value_e4m3(-0.0f, 0.5f, v1) == 0x80);
  CHECK(quantize_value_e4m3(-1e-30f, 0.5f, ct) == 0x80);  // rounded to -0 after the zero point was added
}

TEST_CASE("nearest codes are those of f32, whatever the parameters' arithmetic") {
  quant_spec narrow{.symmetric = false, .rule = compressed, .scale_dtype = dtype::bf16, .arithmetic = dtype::bf16};
  quant_spec nearest = narrow;
  nearest.nearest_codes = true;
  const range seen{-0.37f, 1.21f};
  const scale_and_zero q = solve_qparams(seen, nearest), peer = solve_qparams(seen, narrow);
  CHECK(q.scale == peer.scale);
  CHECK(q.zero_point == peer.zero_point);
  std::size_t moved = 0;
  for (float x = seen.min; x < seen.max; x += 0.001f) {
    const auto loss = [&](const quant_spec& spec) {
      return std::fabs(static_cast<float>(quantize_value(x, q.scale, q.zero_point, spec) - q.zero_point) * q.scale - x);
    };
    REQUIRE(loss(nearest) <= loss(narrow));
    moved += loss(nearest) < loss(narrow);
  }
  CHECK(moved > 10);
}

TEST_CASE("LLM-Compressor's round-to-nearest codes of int4 groups of three") {
  const quant_spec spec = spec_of(compressed, 4, true);
  CHECK(codes_of({.30f, -.52f, .11f}, spec) == std::vector<int>{4, -8, 2});
  CHECK(codes_of({.77f, -.25f, .44f}, spec) == std::vector<int>{7, -2, 4});
  CHECK(codes_of({-.61f, .08f, .35f}, spec) == std::vector<int>{-8, 1, 4});
  CHECK(codes_of({-.19f, .90f, -.40f}, spec) == std::vector<int>{-2, 7, -3});
  check({{{-.52f, .30f}, spec, .52f / 7.5f, 0}, {{-.40f, .90f}, spec, .90f / 7.5f, 0}});
}

TEST_CASE("a scale is exact in its dtype, never zero, and zero is representable") {
  for (const scale_rule rule : {ascend, compressed})
    for (const dtype scale_dtype : {dtype::f32, dtype::bf16, dtype::f16})
      for (const dtype arithmetic : {dtype::f32, dtype::bf16, dtype::f16})
        for (const number type : {number::integer, number::floating})
          for (int bits = type == number::integer ? 2 : 8; bits <= 8; ++bits)
            for (const bool symmetric : {true, false})
              for (const float magnitude : {0.0f, 1e-44f, 1e-38f, 1e-30f, 1e-9f, 3e-5f, 0.02f, 1.0f, 777.0f, 30000.0f})  // f16: max - min is finite
                for (const range seen : {range{-magnitude, magnitude}, range{0, magnitude}, range{-magnitude, 0}, range{magnitude / 2, magnitude},
                                         range{-magnitude, magnitude / 3}}) {
                  const quant_spec spec{
                      .type = type, .num_bits = bits, .symmetric = symmetric, .rule = rule, .scale_dtype = scale_dtype, .arithmetic = arithmetic};
                  const scale_and_zero q = solve_qparams(seen, spec);
                  const bool good = q.scale > 0 && std::isfinite(q.scale) && round_to(scale_dtype, q.scale) == q.scale &&
                                    q.zero_point >= spec.qmin() && q.zero_point <= spec.qmax() &&
                                    (type == number::floating || !symmetric || q.zero_point == 0) &&
                                    (type == number::floating || quantize_value(0, q.scale, q.zero_point, spec) == q.zero_point);
                  if (!good)
                    FAIL_CHECK("rule ", static_cast<int>(rule), ", scale ", name_of(scale_dtype), ", arithmetic ", name_of(arithmetic), ", ", bits,
                               " bits, symmetric ", symmetric, ", floating ", type == number::floating, ", range ", seen.min, " ", seen.max,
                               ": scale ", q.scale, " zero ", q.zero_point);
                }
}

TEST_CASE("bf16 arithmetic rounds after every operation") {
  // 1 / 127.5 = 0.00784314 lies between the bf16 values 0.0078125 and 0.00787354; the second is nearer.
  const quant_spec narrow{.rule = compressed, .scale_dtype = dtype::bf16, .arithmetic = dtype::bf16};
  const quant_spec wide{.rule = compressed, .scale_dtype = dtype::bf16};
  const scale_and_zero q = solve_qparams({-1, 1}, narrow);
  CHECK(q.scale == 0x1.02p-7f);
  const float x = 99.3f * q.scale;
  CHECK(quantize_value(x, q.scale, 0, wide) == 99);
  CHECK(quantize_value(x, q.scale, 0, narrow) == 100);  // 99.3 becomes 99.5, the tie goes to even
}

TEST_CASE("an empty range counts as {0, 0}") {
  for (const scale_rule rule : {ascend, compressed})
    CHECK(solve_qparams(range::empty(), spec_of(rule, 8, false)).scale == solve_qparams({0, 0}, spec_of(rule, 8, false)).scale);
}

TEST_CASE("values beyond the range are clamped, ties go to even") {
  const quant_spec spec = spec_of(ascend, 4, true);
  CHECK(quantize_value(100, 1, 0, spec) == 7);
  CHECK(quantize_value(-100, 1, 0, spec) == -8);
  CHECK(quantize_value(2.5f, 1, 0, spec) == 2);
  CHECK(quantize_value(3.5f, 1, 0, spec) == 4);
  CHECK(quantize_value(2.5f, 1, 3, spec_of(ascend, 4, false)) == 6);  // 5.5
  CHECK(quantize_value_e4m3(1000, 1, {.type = number::floating}) == 0x7e);
  CHECK(quantize_value_e4m3(-1000, 1, {.type = number::floating}) == 0xfe);
}

TEST_CASE("a strip of parameters covers the tiles of its rows") {
  std::vector<float> scales = {0, 1, 2, 3, 4, 5};
  std::vector<std::int32_t> zeros = {10, 11, 12, 13, 14, 15};
  const qparams_view all{{3, 2}, scales, zeros};  // tiles of 4 rows over 10 rows
  const qparams_view middle = all.strip(4, 4, 4), tail = all.strip(8, 2, 4);
  CHECK(middle.grid == grid{1, 2});
  CHECK(middle.scales.front() == 2);
  CHECK(middle.zero_points.front() == 12);
  CHECK(tail.grid == grid{1, 2});
  CHECK(tail.scales.front() == 4);
  CHECK(qparams_view{{3, 2}, scales, {}}.strip(4, 6, 4).zero_points.empty());
  CHECK(qparams_view{{3, 2}, scales, {}}.strip(4, 6, 4).grid == grid{2, 2});
}
