#include "backends.hpp"
#include "matrices.hpp"
#include "registered.hpp"

#include <qlib/backend/scalar.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

namespace {

using namespace qlib;

/// Every kind of integer spec, and e4m3, for matrices of 24 columns.
std::vector<quant_spec> all_specs() {
  std::vector<quant_spec> specs;
  for (const scale_rule rule : {scale_rule::ascend, scale_rule::compressed_tensors})
    for (const tile t : {tile::per_tensor(), tile::per_channel(), tile::per_group(8), tile::per_block(2, 5)}) {
      for (int bits = 2; bits <= 8; ++bits)
        for (const bool symmetric : {true, false}) specs.push_back({.num_bits = bits, .symmetric = symmetric, .granularity = t, .rule = rule});
      specs.push_back({.type = number::floating, .granularity = t, .rule = rule});
    }
  return specs;
}

/// What a rounder made of a matrix. Statistics are those of independent inputs: gram = 1, column_absmax = 1.
struct rounded {
  std::vector<float> scales;
  std::vector<std::int32_t> zero_points;
  law::matrix<std::int8_t> codes;
  grid tiles;
  tile shape;

  std::size_t tile_of(std::size_t r, std::size_t c) const { return r / shape.rows * tiles.cols + c / shape.cols; }
  int zero(std::size_t t) const { return zero_points.empty() ? 0 : zero_points[t]; }
};

template <class R, class T, class B = scalar_backend>
rounded round_with(const law::matrix<T>& w, const quant_spec& spec, const B& backend = {}) {
  rounded out{{}, {}, {w.rows, w.cols}, grid_of(spec.granularity, w.rows, w.cols), resolve(spec.granularity, w.rows, w.cols)};
  std::vector<range> ranges(out.tiles.tiles());
  scalar_backend{}.ranges(w.view(), spec.granularity, std::span{ranges});
  out.scales.resize(ranges.size());
  if (!spec.symmetric && spec.type == number::integer) out.zero_points.resize(ranges.size());
  const qparams_view q{out.tiles, out.scales, out.zero_points};
  solve_qparams(ranges, spec, q);
  const std::vector<float> ones(w.cols, 1.0f);
  law::matrix<float> gram{w.cols, w.cols};
  for (std::size_t i = 0; i < w.cols; ++i) gram.view()(i, i) = 1;
  const statistics_view stats{.column_absmax = ones, .gram = std::as_const(gram).view(), .tokens = 1};
  R{}.round(backend, w.view(), spec, stats, as_const(q), out.codes.view());
  return out;
}

bool in_range(std::int8_t code, const quant_spec& spec) {
  if (spec.type == number::floating) return (code & 0x7f) != 0x7f;
  return code >= spec.qmin() && code <= spec.qmax();
}

const auto matrices = {law::gaussian(6, 24, 1), law::gaussian(6, 24, 2, 1.0f), law::gaussian(6, 24, 3, -0.3f), law::matrix<float>{6, 24}};

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("codes are in range for every width, symmetric or not", R, rounder_range) {
  for (const quant_spec& spec : all_specs())
    for (const auto& w : matrices) {
      const rounded q = round_with<R>(w, spec);
      CAPTURE(spec.num_bits);
      CHECK(std::ranges::all_of(q.codes.elements, [&](std::int8_t code) { return in_range(code, spec); }));
    }
}
TEST_CASE_TEMPLATE_APPLY(rounder_range, law::rounders);

TEST_CASE_TEMPLATE_DEFINE("a zero weight is zero again", R, rounder_zero) {
  for (const quant_spec& spec : all_specs())
    for (law::matrix<float> w : matrices) {
      for (std::size_t i = 0; i < w.elements.size(); i += 3) w.elements[i] = i % 2 ? -0.0f : 0.0f;
      const rounded q = round_with<R>(w, spec);
      std::size_t wrong = 0;
      for (std::size_t r = 0; r < w.rows; ++r)
        for (std::size_t c = 0; c < w.cols; ++c)
          if (w.view()(r, c) == 0) {
            const int code = q.codes.view()(r, c);
            wrong += spec.type == number::floating ? (code & 0x7f) != 0 : code != q.zero(q.tile_of(r, c));
          }
      CAPTURE(spec.num_bits);
      CHECK(wrong == 0);
    }
}
TEST_CASE_TEMPLATE_APPLY(rounder_zero, law::rounders);

TEST_CASE_TEMPLATE_DEFINE("16-bit weights get the codes of the floats that they are", R, rounder_elements) {
  const auto check = [](auto narrow) {
    law::matrix<float> wide{narrow.rows, narrow.cols};
    std::ranges::transform(narrow.elements, wide.elements.begin(), [](auto v) { return to_float(v); });
    for (const quant_spec& spec : all_specs()) CHECK(round_with<R>(narrow, spec).codes.elements == round_with<R>(wide, spec).codes.elements);
  };
  check(law::gaussian<bf16>(6, 24, 4));
  check(law::gaussian<f16>(6, 24, 5));
}
TEST_CASE_TEMPLATE_APPLY(rounder_elements, law::rounders);

TEST_CASE_TEMPLATE_DEFINE("every backend gives a rounder's codes within its tolerance", R, rounder_backends) {
  law::for_each_backend({law::device_work::codes}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    law::code_comparison all{law::tolerance_of(backend, dtype::f32)};
    for (const quant_spec& spec : all_specs())
      for (const auto& w : matrices) {
        const rounded fast = round_with<R>(w, spec, backend), slow = round_with<R>(w, spec);
        CAPTURE(spec.num_bits);
        REQUIRE(all.near(fast.codes.elements.data(), slow.codes.elements.data(), slow.codes.elements.size()));
      }
  });
}
TEST_CASE_TEMPLATE_APPLY(rounder_backends, law::rounders);

TEST_CASE("rtn errs by half a step at most, and clips only to a bound") {
  for (const quant_spec& spec : all_specs()) {
    if (spec.type == number::floating) continue;
    for (const auto& w : matrices) {
      const rounded q = round_with<rtn_rounder>(w, spec);
      std::size_t wrong = 0;
      for (std::size_t r = 0; r < w.rows; ++r)
        for (std::size_t c = 0; c < w.cols; ++c) {
          const std::size_t t = q.tile_of(r, c);
          const double s = q.scales[t], exact = w.view()(r, c) / s + q.zero(t);
          const int code = q.codes.view()(r, c);
          if (exact <= spec.qmin()) wrong += code != spec.qmin();
          else if (exact >= spec.qmax()) wrong += code != spec.qmax();
          // x / s and + z are rounded to f32 where |value| <= 2^8: each by at most 2^-16 of a step.
          else wrong += std::abs(code - exact) > 0.5 + 0x1p-15;
        }
      CAPTURE(spec.num_bits);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("rtn rounds ties to even") {
  law::matrix<float> w{1, 8};
  w.elements = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 127.0f, -126.5f};  // absmax 127: the scale is 1
  CHECK(round_with<rtn_rounder>(w, int8_per_channel{}).codes.elements == std::vector<std::int8_t>{0, 2, 2, 0, -2, -2, 127, -126});
}

TEST_CASE("rtn gives the nearest e4m3 value") {
  const law::matrix<float> w = law::gaussian(4, 64, 6);
  const rounded q = round_with<rtn_rounder>(w, fp8_per_channel{});
  for (std::size_t r = 0; r < w.rows; ++r)
    for (std::size_t c = 0; c < w.cols; ++c) {
      const double y = w.view()(r, c) / q.scales[r];  // f32, as the rounder divides
      const double error = std::abs(e4m3_to_float(static_cast<std::uint8_t>(q.codes.view()(r, c))) - y);
      for (int code = 0; code < 256; ++code) {
        const float other = e4m3_to_float(static_cast<std::uint8_t>(code));
        if (!std::isnan(other)) REQUIRE(error <= std::abs(other - y));
      }
    }
}
