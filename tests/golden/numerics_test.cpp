/// Against PyTorch 2.14.0 on CPU: conversions, and the arithmetic that quantization tools written in Python do with it (README.md).
#include "quantized_folder.hpp"

#include <qlib/core/qparams.hpp>
#include <qlib/observer/minmax.hpp>
#include <qlib/rounder/rtn.hpp>

#include <algorithm>
#include <bit>
#include <cmath>

using namespace qlib_test;

namespace {

tensor_set load(const char* name) {
  tensor_set set;
  set.open(std::string{QLIB_SOURCE_DIR "/tests/golden/data/numerics/"} + name);
  return set;
}

std::uint32_t bits_of_float(float x) { return std::bit_cast<std::uint32_t>(x); }

/// What PyTorch made of `w` [24, 128]: symmetric scales are absmax / qmax, and 1 for a tile of zeros.
struct symmetric_case {
  std::string name;
  qlib::quant_spec spec;
};

std::vector<symmetric_case> symmetric_cases() {
  using qlib::tile;
  return {{"int8_tensor", {.granularity = tile::per_tensor()}},
          {"int8_channel", {}},
          {"int4_channel", {.num_bits = 4}},
          {"int4_g32", {.num_bits = 4, .granularity = tile::per_group(32)}},
          {"fp8_channel", {.type = qlib::number::floating}}};
}

constexpr std::size_t rows = 24, cols = 128;

struct quantized {
  std::vector<float> scales;
  std::vector<std::int32_t> zero_points;
  std::vector<std::int8_t> codes;
  std::vector<float> values;
};

/// Range, parameters, codes and values of w [24, 128] by the scalar backend.
template <class T>
quantized quantize(const std::vector<T>& w, const qlib::quant_spec& spec) {
  const qlib::scalar_backend backend;
  const qlib::grid grid = qlib::grid_of(spec.granularity, rows, cols);
  const qlib::matrix_view<const T> view{w.data(), rows, cols};
  quantized out;
  out.scales.resize(grid.tiles());
  out.zero_points.resize(spec.symmetric ? 0 : grid.tiles());
  out.codes.resize(rows * cols);
  out.values.resize(rows * cols);
  const qlib::qparams_view q{grid, out.scales, out.zero_points};
  qlib::minmax_observer observer;
  observer.reset(spec.granularity, grid);
  observer.observe(backend, view);
  qlib::solve_qparams(observer.ranges(), spec, q);
  const qlib::matrix_view<std::int8_t> codes{out.codes.data(), rows, cols};
  qlib::rtn_rounder{}.round(backend, view, spec, {}, qlib::as_const(q), codes);
  backend.dequantize(qlib::matrix_view<const std::int8_t>{codes}, spec, qlib::as_const(q), qlib::matrix_view<float>{out.values.data(), rows, cols});
  return out;
}

}  // namespace

TEST_CASE("f32 becomes PyTorch's bf16, f16 and e4m3 bits, and NaN stays NaN") {
  const tensor_set set = load("convert.safetensors");
  const auto x = set.elements<float>("x");
  const auto as_bf16 = set.elements<std::uint16_t>("bf16"), as_f16 = set.elements<std::uint16_t>("f16");
  const auto as_e4m3 = set.elements<std::uint8_t>("e4m3fn_sat");  // clamped to +-448 first, as every quantizer does
  REQUIRE(x.size() == 4849);
  for (std::size_t i = 0; i < x.size(); ++i) {
    CAPTURE(bits_of_float(x[i]));
    if (std::isnan(x[i])) {  // payloads differ between PyTorch's own code paths
      CHECK(std::isnan(qlib::to_float(qlib::to_bf16(x[i]))));
      CHECK(std::isnan(qlib::to_float(qlib::to_f16(x[i]))));
      CHECK(std::isnan(qlib::e4m3_to_float(qlib::to_e4m3(x[i]))));
      continue;
    }
    CHECK(qlib::to_bf16(x[i]).bits == as_bf16[i]);
    CHECK(qlib::to_f16(x[i]).bits == as_f16[i]);
    CHECK(qlib::to_e4m3(std::clamp(x[i], -qlib::e4m3_max, qlib::e4m3_max)) == as_e4m3[i]);
  }
}

TEST_CASE("each of PyTorch's codes widens to a float that converts back to it") {
  const tensor_set set = load("convert.safetensors");
  for (const std::uint16_t code : set.elements<std::uint16_t>("bf16"))
    if (const float v = qlib::to_float(qlib::bf16{code}); !std::isnan(v)) CHECK(qlib::to_bf16(v).bits == code);
  for (const std::uint16_t code : set.elements<std::uint16_t>("f16"))
    if (const float v = qlib::to_float(qlib::f16{code}); !std::isnan(v)) CHECK(qlib::to_f16(v).bits == code);
  for (const std::uint8_t code : set.elements<std::uint8_t>("e4m3fn_sat"))
    if (const float v = qlib::e4m3_to_float(code); !std::isnan(v)) CHECK(qlib::to_e4m3(v) == code);
}

TEST_CASE("symmetric scales, codes and dequantized values are PyTorch's, bit for bit") {
  const tensor_set set = load("quantize.safetensors");
  const auto w = set.elements<float>("w");
  for (const symmetric_case& c : symmetric_cases()) {
    CAPTURE(c.name);
    const quantized ours = quantize(w, c.spec);
    const auto scales = set.elements<float>(c.name + ".scale"), values = set.elements<float>(c.name + ".dq");
    const auto codes = set.elements<std::int8_t>(c.name + ".q");
    REQUIRE(ours.scales.size() == scales.size());
    const std::size_t tile = w.size() / scales.size();
    for (std::size_t t = 0; t < scales.size(); ++t) {
      bool zero = true;
      for (std::size_t i = 0; i < tile; ++i) zero = zero && w[t * tile + i] == 0.0f;
      // A tile of zeros has any scale: 1 there, the smallest here. Its values are zeros with both.
      if (zero) CHECK(ours.scales[t] > 0.0f);
      else CHECK(bits_of_float(ours.scales[t]) == bits_of_float(scales[t]));
    }
    CHECK(ours.codes == codes);
    CHECK(ours.values == values);
  }
}

TEST_CASE("asymmetric scales and zero points are PyTorch's, and codes differ only at ties") {
  const tensor_set set = load("quantize.safetensors");
  const auto w = set.elements<float>("w");
  const struct {
    std::string name;
    qlib::quant_spec spec;
  } cases[] = {
      {"uint8_tensor", {.symmetric = false, .granularity = qlib::tile::per_tensor(), .rule = qlib::scale_rule::compressed_tensors}},
      {"uint8_token", {.symmetric = false, .rule = qlib::scale_rule::compressed_tensors}},
      {"uint4_g32", {.num_bits = 4, .symmetric = false, .granularity = qlib::tile::per_group(32), .rule = qlib::scale_rule::compressed_tensors}}};
  for (const auto& c : cases) {
    CAPTURE(c.name);
    const quantized ours = quantize(w, c.spec);
    const auto scales = set.elements<float>(c.name + ".scale");
    const auto zero_points = set.elements<std::uint8_t>(c.name + ".zp"), codes = set.elements<std::uint8_t>(c.name + ".q");
    REQUIRE(ours.scales.size() == scales.size());
    const std::size_t tile = w.size() / scales.size();
    const int half = 1 << (c.spec.num_bits - 1);  // these codes are unsigned, ours signed
    for (std::size_t t = 0; t < scales.size(); ++t) {
      bool zero = true;
      for (std::size_t i = 0; i < tile; ++i) zero = zero && w[t * tile + i] == 0.0f;
      if (!zero) {
        CHECK(bits_of_float(ours.scales[t]) == bits_of_float(scales[t]));
        CHECK(ours.zero_points[t] == zero_points[t] - half);
      }
      for (std::size_t i = t * tile; i < (t + 1) * tile; ++i) {
        // The file adds the zero point after rounding, the rounding contract before: at a tie, half to even then depends on it. The
        // f32 sum x / s + z is off by up to 2^-24 of its terms, which is how far from a tie the two can still disagree.
        const double y = static_cast<double>(w[i]) / scales[t], reach = 0x1p-23 * (std::abs(y) + 2.0 * half);
        const bool tie = std::abs(std::abs(y - std::floor(y)) - 0.5) <= reach;
        const int difference = ours.codes[i] + half - codes[i];
        CAPTURE(i);
        if (zero) CHECK(ours.codes[i] == ours.zero_points[t]);  // a tile of zeros: each side's own zero point
        else if (tie) CHECK(std::abs(difference) <= 1);
        else CHECK(difference == 0);
      }
    }
  }
}

TEST_CASE("codes of near-ties are those of a true division") {
  const tensor_set set = load("quantize.safetensors");
  const auto w = set.elements<float>("near.w"), scales = set.elements<float>("near.scale");
  const auto divided = set.elements<std::int8_t>("near.div"), multiplied = set.elements<std::int8_t>("near.recip");
  const std::size_t width = w.size() / scales.size();
  std::size_t told_apart = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    CHECK(qlib::quantize_value(w[i], scales[i / width], 0, {}) == divided[i]);
    told_apart += divided[i] != multiplied[i];
  }
  CHECK(told_apart == 546);  // of 6144: the file would notice a multiplication by 1 / s
}

TEST_CASE("halves round to even, and codes saturate") {
  const tensor_set set = load("quantize.safetensors");
  const auto x = set.elements<float>("ties"), rounded = set.elements<float>("ties.round");
  for (std::size_t i = 0; i < x.size(); ++i)
    CHECK(static_cast<float>(qlib::quantize_value(x[i], 1.0f, 0, {})) == std::clamp(rounded[i], -128.0f, 127.0f));
}

TEST_CASE("bf16 arithmetic gives the scales and codes that PyTorch computes on bf16 tensors") {
  const tensor_set set = load("quantize.safetensors");
  const auto w = set.elements<qlib::bf16>("bf16_in.w");
  const auto scales = set.floats("bf16_in.scale");
  const auto codes = set.elements<std::int8_t>("bf16_in.q");
  const quantized ours = quantize(w, {.scale_dtype = qlib::dtype::bf16, .arithmetic = qlib::dtype::bf16});
  for (std::size_t r = 0; r < rows; ++r)
    if (scales[r] != 0.0f) CHECK(bits_of_float(ours.scales[r]) == bits_of_float(scales[r]));  // 0: the row of zeros
  CHECK(ours.codes == codes);
}
