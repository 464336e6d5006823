// The kernels of outlier suppression give the bits of scalar_backend, and scalar_backend's those of its separate steps.
#include "backends.hpp"
#include "loose_matrix.hpp"

#include <qlib/backend/scalar.hpp>

#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace qlib;

using law::all_data, law::data, law::for_each_backend, law::loose_matrix, law::make, law::narrowed;

constexpr float inf = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();

constexpr tile tiles[] = {tile::per_tensor(), tile::per_channel(), tile::per_group(32),    tile::per_group(128),  tile::per_group(1),
                          tile::per_group(7), tile::per_group(48), tile::per_block(2, 32), tile::per_block(3, 0), tile{0, 1}};
constexpr std::size_t widths[] = {1, 7, 16, 33, 96, 128, 300, 2048, 2049, 4200};

std::vector<quant_spec> specs(tile t) {
  std::vector<quant_spec> all{{.type = number::floating, .granularity = t}};
  for (int bits : {2, 4, 7, 8})
    for (bool symmetric : {true, false})
      all.push_back({.num_bits = bits,
                     .symmetric = symmetric,
                     .granularity = t,
                     .rule = bits % 4 == 0 ? scale_rule::compressed_tensors : scale_rule::ascend,
                     .scale_dtype = bits == 4 ? dtype::bf16 : dtype::f32});
  all.push_back({.granularity = t, .arithmetic = dtype::bf16});
  return all;
}

/// Scales as smoothing makes them: positive, over several orders of magnitude, some exact.
std::vector<float> some_scales(std::size_t n, std::mt19937& random) {
  std::vector<float> s(n);
  for (float& v : s)
    v = random() % 4 == 0 ? 1.0f : std::ldexp(1.0f + static_cast<float>(random() % 4096) / 4096, static_cast<int>(random() % 13) - 6);
  return s;
}

/// Codes and parameters of scaled_quantize by one backend; guards of the codes must stay.
struct quantized {
  bool finite;
  loose_matrix<std::int8_t> codes;
  std::vector<float> scales;
  std::vector<std::int32_t> zero_points;
  friend bool operator==(const quantized&, const quantized&) = default;
};
template <class T, class B>
quantized scaled_codes(const B& backend, loose_matrix<T>& x, const std::vector<float>& factors, const quant_spec& spec) {
  const grid g = grid_of(spec.granularity, x.rows, x.cols);
  quantized out{false, {x.rows, x.cols, 5, std::int8_t{99}}, std::vector<float>(g.tiles(), -1.0f), std::vector<std::int32_t>(g.tiles(), -1)};
  if (spec.symmetric) out.zero_points.clear();
  out.finite = backend.scaled_quantize(matrix_view<const T>{x.view()}, std::span{factors}, spec, {g, out.scales, out.zero_points}, out.codes.view());
  return out;
}

}  // namespace

namespace {

/// for_each(check) calls check(backend, its name): the scalar bits are computed once for all of them.
template <class T, class ForEach>
void quantization_behind_scaling_is_scalar(ForEach for_each) {
  std::mt19937 random{31};
  for (std::size_t cols : widths)
    for (data kind : all_data) {
      if (kind == data::huge && !std::is_same_v<T, f16>) continue;  // products overflow: the test below
      const std::size_t rows = cols > 2000 ? 2 : 4;
      auto x = make<T>(rows, cols, kind, random);
      const std::vector<float> factors = some_scales(cols, random);
      for (tile t : tiles)
        for (const quant_spec& spec : specs(t)) {
          if (cols > 300 && (kind != data::gaussian || spec.num_bits % 4 != 0)) continue;
          for (const std::vector<float>& by : {factors, std::vector<float>{}}) {
            const quantized expected = scaled_codes(scalar_backend{}, x, by, spec);
            loose_matrix<float> slow{rows, cols, 5, 7.0f};
            REQUIRE(scalar_backend{}.scaled_fake_quantize(matrix_view<const T>{x.view()}, std::span{by}, spec, slow.view()));
            for_each([&](const auto& backend, const std::string& name) {
              INFO(name, ", cols ", cols, ", kind ", static_cast<int>(kind), ", t.rows ", t.rows, ", t.cols ", t.cols, ", bits ", spec.num_bits,
                   ", symmetric ", spec.symmetric);
              REQUIRE(scaled_codes(backend, x, by, spec) == expected);
              loose_matrix<float> fast{rows, cols, 5, 7.0f};
              REQUIRE(backend.scaled_fake_quantize(matrix_view<const T>{x.view()}, std::span{by}, spec, fast.view()));
              REQUIRE(fast == slow);
            });
          }
        }
    }
}

}  // namespace

TEST_CASE_TEMPLATE("quantization behind a scaling has the scalar bits, for every tile shape and spec, with and without factors", T, float, bf16,
                   f16) {
  quantization_behind_scaling_is_scalar<T>([](auto check) { law::for_each_host_backend(check); });
  law::for_each_device_backend({}, 1, [](const auto& backend, const std::string& name) {
    quantization_behind_scaling_is_scalar<T>([&](auto check) { check(backend, name); });
  });
}

TEST_CASE("quantization behind a scaling is its separate steps: scale, solve, quantize, dequantize, unscale") {
  std::mt19937 random{32};
  const scalar_backend b;
  for (std::size_t cols : {33, 128, 300})
    for (tile t : tiles)
      for (const quant_spec& spec : specs(t)) {
        CAPTURE(cols);
        CAPTURE(t.cols);
        CAPTURE(spec.num_bits);
        auto x = make<float>(6, cols, data::gaussian, random);
        const std::vector<float> factors = some_scales(cols, random);
        loose_matrix<float> steps = x, fused{6, cols};
        b.scale_columns(steps.view(), factors);
        const grid g = grid_of(t, 6, cols);
        std::vector<float> scales(g.tiles());
        std::vector<std::int32_t> zeros(spec.symmetric ? 0 : g.tiles());
        loose_matrix<std::int8_t> codes{6, cols, 5, std::int8_t{99}};
        const qparams_view q{g, scales, zeros};
        REQUIRE(b.solve_tiles(matrix_view<const float>{steps.view()}, spec, q));
        b.quantize(matrix_view<const float>{steps.view()}, spec, as_const(q), codes.view());
        const quantized at_once = scaled_codes(b, x, factors, spec);
        REQUIRE(at_once.finite);
        CHECK(at_once.codes == codes);
        CHECK(at_once.scales == scales);
        CHECK(at_once.zero_points == zeros);
        b.dequantize(matrix_view<const std::int8_t>{codes.view()}, spec, as_const(q), steps.view());
        for (std::size_t r = 0; r < 6; ++r)
          for (std::size_t c = 0; c < cols; ++c) steps.view()(r, c) /= factors[c];
        REQUIRE(b.scaled_fake_quantize(matrix_view<const float>{x.view()}, std::span{factors}, spec, fused.view()));
        for (std::size_t r = 0; r < 6; ++r) CHECK(std::memcmp(fused.view().row(r), steps.view().row(r), cols * sizeof(float)) == 0);
      }
}

TEST_CASE("a product that is not finite is refused, wherever it is") {
  for_each_backend({}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{33};
    for (std::size_t cols : {1, 20, 128, 512, 4100})
      for (tile t : {tile::per_channel(), tile::per_group(32), tile::per_group(7), tile::per_tensor()})
        for (int round = 0; round < 20; ++round)
          for (float bad : {inf, -inf, not_a_number, 3e38f}) {  // the last overflows when it is scaled
            auto x = make<float>(3, cols, data::gaussian, random);
            std::vector<float> factors = some_scales(cols, random);
            const std::size_t c = random() % cols;
            factors[c] = 4;
            const quant_spec spec{.num_bits = 4, .symmetric = round % 2 == 0, .granularity = t};
            loose_matrix<float> out{3, cols};
            CHECK(backend.scaled_fake_quantize(matrix_view<const float>{x.view()}, std::span{factors}, spec, out.view()));
            x.view()(random() % 3, c) = bad;
            INFO("cols ", cols, ", t.cols ", t.cols, ", c ", c, ", bad ", bad);
            REQUIRE(!backend.scaled_fake_quantize(matrix_view<const float>{x.view()}, std::span{factors}, spec, out.view()));
            REQUIRE(!scaled_codes(backend, x, factors, spec).finite);
          }
  });
}

TEST_CASE("scaled columns and rows have the scalar bits, and nothing beside them is written") {
  for_each_backend({law::device_work::scaling}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{34};
    for (std::size_t cols : {1, 3, 15, 16, 17, 64, 100, 1000})
      for (data kind : all_data)
        for (bool finite : {true, false}) {
          auto x = make<float>(4, cols, kind, random);
          if (!finite) x.view()(1, cols / 2) = -inf;
          const auto by_columns = some_scales(cols, random), by_rows = some_scales(4, random);
          loose_matrix<float> fast = x, slow = x;
          backend.scale_columns(fast.view(), by_columns);
          scalar_backend{}.scale_columns(slow.view(), by_columns);
          REQUIRE(fast == slow);
          backend.scale_rows(fast.view(), by_rows);
          scalar_backend{}.scale_rows(slow.view(), by_rows);
          REQUIRE(fast == slow);
        }
  });
}

TEST_CASE("Hadamard transforms of rows and columns have the scalar bits for every block size") {
  for_each_backend({}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{35};
    for (std::size_t block = 1; block <= 16384; block *= 2)
      for (std::size_t blocks : {1, 3})
        for (data kind : {data::gaussian, data::zeros, data::tiny, data::huge}) {
          CAPTURE(block);
          CAPTURE(blocks);
          auto x = make<float>(block > 1000 ? 1 : 3, block * blocks, kind, random);
          loose_matrix<float> fast = x, slow = x;
          backend.hadamard_rows(fast.view(), block);
          scalar_backend{}.hadamard_rows(slow.view(), block);
          REQUIRE(law::same_but_nan(fast, slow));
          for (std::size_t cols : {1, 16, 37}) {
            if (block > 1000 && cols == 37) continue;
            auto y = make<float>(block * blocks, cols, kind, random);
            loose_matrix<float> fast_columns = y, slow_columns = y;
            backend.hadamard_columns(fast_columns.view(), block);
            scalar_backend{}.hadamard_columns(slow_columns.view(), block);
            REQUIRE(law::same_but_nan(fast_columns, slow_columns));
          }
        }
  });
}

TEST_CASE("sums of signed rows have the scalar bits") {
  for_each_backend({}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{36};
    for (std::size_t rows : {1, 2, 12, 28})
      for (std::size_t sums : {1, 4, 12, 13})
        for (std::size_t cols : {1, 8, 31, 32, 64, 100}) {
          loose_matrix<float> signs{rows, sums};
          for (float& s : signs.memory) s = random() % 2 == 0 ? 1.0f : -1.0f;
          auto x = make<float>(rows, cols, data::gaussian, random);
          loose_matrix<float> fast{sums, cols, 3, 7.0f}, slow = fast;
          backend.combine_rows(signs.view(), x.view(), fast.view());
          scalar_backend{}.combine_rows(signs.view(), x.view(), slow.view());
          REQUIRE(fast == slow);
        }
  });
}

TEST_CASE("a Hadamard transform is the product with Sylvester's matrix, exact for integers") {
  std::mt19937 random{37};
  for (std::size_t block = 1; block <= 256; block *= 2) {
    loose_matrix<float> x{2, 2 * block};
    for (float& v : x.memory) v = static_cast<float>(static_cast<int>(random() % 2001) - 1000);
    loose_matrix<float> y = x;
    scalar_backend{}.hadamard_rows(y.view(), block);
    for (std::size_t r = 0; r < 2; ++r)
      for (std::size_t c = 0; c < 2 * block; ++c) {
        double sum = 0;  // Sylvester: the sign of (i, j) is the parity of the bits that i and j share
        for (std::size_t i = 0; i < block; ++i) {
          std::size_t common = i & c % block, odd = 0;
          for (; common != 0; common &= common - 1) odd ^= 1;
          sum += (odd ? -1.0 : 1.0) * x.view()(r, c / block * block + i);
        }
        REQUIRE(y.view()(r, c) == sum);
      }
  }
}
