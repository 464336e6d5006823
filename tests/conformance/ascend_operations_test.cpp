// What the Ascend backend has beyond the suite that it shares with all backends (backend_test.cpp): products, tokens, the paths it takes, several
// chunks. Against the scalar backend, on the fake of both rounding profiles.
#include "backends.hpp"

#include <qlib/backend/ascend/matmul_operation.hpp>
#include <qlib/backend/ascend/token_operation.hpp>
#include <qlib/backend/scalar.hpp>
#include <qlib/quantize.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace {

using namespace qlib;
using ascend_test::fake;
using ascend_test::session;
using law::loose_gaussian, law::loose_matrix;
using law::same_bits;

constexpr const auto& chips = law::ascend_chips;
constexpr tile tiles[] = {tile::per_tensor(),  tile::per_channel(),    tile::per_group(32),   tile::per_group(7), tile::per_group(1),
                          tile::per_group(48), tile::per_block(2, 32), tile::per_block(3, 0), tile{0, 1},         tile{70, 1}};
struct shape {
  std::size_t rows, cols;
};
constexpr shape shapes[] = {{1, 1}, {1, 7}, {3, 33}, {5, 300}, {71, 64}, {150, 31}};

struct product {
  std::size_t m, k, n;
};

ascend::soc_family family_of_chip(const char* chip) { return ascend::family_of(chip, 0); }

/// Parameters from the matrix's own ranges.
struct params {
  grid g;
  std::vector<float> scales;
  std::vector<std::int32_t> zeros;

  template <class T>
  params(matrix_view<const T> x, const quant_spec& spec)
      : g{grid_of(spec.granularity, x.rows(), x.cols())}, scales(g.tiles()), zeros(spec.symmetric ? 0 : g.tiles()) {
    REQUIRE(scalar_backend{}.solve_tiles(x, spec, qparams_view{g, scales, zeros}));
  }
  const_qparams_view view() const { return {g, scales, zeros}; }
};

}  // namespace

TEST_CASE_TEMPLATE("Ascend: ranges of every tile shape equal the scalar ones", T, float, bf16, f16) {
  for (const char* chip : chips) {
    fake f{{{"SOC", chip}}};
    session s{f};
    for (const shape& at : shapes)
      for (tile t : tiles) {
        const std::size_t rows = at.rows, cols = at.cols;
        const auto x = loose_gaussian<T>(rows, cols, 7);
        const std::size_t n = grid_of(t, rows, cols).tiles();
        for (range before : {range::empty(), range{-0.03f, 0.04f}, range::undefined()}) {
          std::vector<range> fast(n, before), slow(n, before);
          s->ranges(x.view(), t, std::span{fast});
          scalar_backend{}.ranges(x.view(), t, std::span{slow});
          INFO(std::string{chip}, ", ", rows, " x ", cols, ", tile ", t.rows, " x ", t.cols);
          REQUIRE(same_bits(fast, slow));
        }
      }
    CHECK(s->finish());
    CHECK(s->paths() == std::vector<std::string>{"ranges: Aminmax over rows, Aminmax, cpu"});
    CHECK(s.lines.empty());
  }
}

TEST_CASE_TEMPLATE("Ascend: a NaN or an infinity anywhere makes its tile undefined, and no other", T, float, bf16, f16) {
  constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  fake f;
  ascend::lane_options small;
  small.chunk_bytes = small.smallest_chunk_bytes = 1024;  // several chunks, most of them finite
  session s{f, {0}, 1, small};
  for (tile t : tiles)
    for (float bad : {nan, inf, -inf})
      for (std::size_t place : {0, 63, 64, 2000, 71 * 64 - 1}) {
        auto x = loose_gaussian<T>(71, 64, 3);
        x.view()(place / 64, place % 64) = law::narrowed<T>(bad);
        std::vector<range> fast(grid_of(t, 71, 64).tiles(), range::empty()), slow = fast;
        s->ranges(matrix_view<const T>{x.view()}, t, std::span{fast});
        scalar_backend{}.ranges(matrix_view<const T>{x.view()}, t, std::span{slow});
        std::vector<float> top(64, 0.01f), expected = top;
        s->column_absmax(matrix_view<const T>{x.view()}, std::span{top});
        scalar_backend{}.column_absmax(matrix_view<const T>{x.view()}, std::span{expected});
        INFO("tile ", t.rows, " x ", t.cols, ", bad ", bad, " at ", place);
        REQUIRE(same_bits(fast, slow));
        REQUIRE(same_bits(top, expected));
      }
}

TEST_CASE_TEMPLATE("Ascend: the largest magnitudes of columns equal the scalar ones", T, float, bf16, f16) {
  for (const char* chip : chips) {
    fake f{{{"SOC", chip}}};
    session s{f};
    for (const shape& at : shapes) {
      const std::size_t rows = at.rows, cols = at.cols;
      const auto x = loose_gaussian<T>(rows, cols, 9);
      std::vector<float> fast(cols, 0.02f);
      fast[cols / 2] = std::numeric_limits<float>::quiet_NaN();
      std::vector<float> slow = fast;
      s->column_absmax(x.view(), std::span{fast});
      scalar_backend{}.column_absmax(x.view(), std::span{slow});
      INFO(std::string{chip}, ", ", rows, " x ", cols);
      REQUIRE(same_bits(fast, slow));
    }
    CHECK(s->paths() == std::vector<std::string>{"column_absmax: Aminmax over rows"});
  }
}

TEST_CASE_TEMPLATE("Ascend: histograms equal the scalar ones, also at the edges of bins", T, float, bf16, f16) {
  for (const char* chip : chips) {
    fake f{{{"SOC", chip}}};
    session s{f};
    for (std::size_t bins : {1, 7, 100, 2048, 9000})
      for (range limits : {range{-0.1f, 0.2f}, range{-1e-3f, 1e-3f}, range{-0x1p-140f, 0x1p-141f}, range{-3e38f, 3e38f}}) {
        auto x = loose_gaussian<T>(40, 90, 11);
        for (std::size_t b = 0; b < 90; ++b)
          x.view()(5, b) = law::narrowed<T>(limits.min + (limits.max * 0.5f - limits.min * 0.5f) * 2 * static_cast<float>(b) / 100);
        std::vector<std::uint32_t> fast(bins, 7), slow(bins, 7);
        s->histogram(matrix_view<const T>{x.view()}, limits, std::span{fast});
        scalar_backend{}.histogram(matrix_view<const T>{x.view()}, limits, std::span{slow});
        INFO(std::string{chip}, ", bins ", bins, ", limits ", limits.min, " ", limits.max);
        REQUIRE(fast == slow);
      }
    CHECK(s->finish());
  }
}

TEST_CASE("Ascend: histograms are made by a device whose bins are ours to the last bit, and by the CPU otherwise") {
  for (const char* chip : chips)
    for (const bool torch : {true, false}) {
      fake f{{{"SOC", chip}, {"HISTC", torch ? "torch" : "own"}}};
      ascend::lane_options small;
      small.chunk_bytes = small.smallest_chunk_bytes = 16 << 10;  // several chunks
      session s{f, {0}, 1, small};
      for (std::size_t bins : {1, 100, 2048})
        for (range limits : {range{-0.1f, 0.2f}, range{-0.13f, 0.17f}}) {
          auto x = loose_gaussian<float>(40, 500, 11);
          for (std::size_t b = 0; b < 500; ++b)  // at edges of bins, and beside them
            x.view()(5, b) = std::nextafter(limits.min + (limits.max - limits.min) * static_cast<float>(b) / 500, b % 3 == 0 ? -1.0f : 1.0f);
          std::vector<std::uint32_t> fast(bins, 7), slow(bins, 7);
          s->histogram(matrix_view<const float>{x.view()}, limits, std::span{fast});
          scalar_backend{}.histogram(matrix_view<const float>{x.view()}, limits, std::span{slow});
          INFO(std::string{chip}, ", bins ", bins, ", limits ", limits.min, " ", limits.max);
          REQUIRE(fast == slow);
        }
      CHECK(s->paths() == std::vector<std::string>{torch ? "histogram: Histc" : "histogram: cpu"});
      CHECK(s.lines.size() == (torch ? 0 : 1));  // says why it is not used
    }
}

TEST_CASE_TEMPLATE("Ascend: codes are within one of the scalar ones, and few differ", T, float, bf16, f16) {
  for (const char* chip : chips) {
    fake f{{{"SOC", chip}}};
    session s{f};
    const ascend::numeric_bounds bounds = ascend::bounds_of(family_of_chip(chip), dtype_of<T>);
    // compressed_tensors puts the largest magnitude of a tile at qmax + 0.5, a tie: one code a tile may differ there.
    std::size_t all = 0, different = 0, all_at_ties = 0, different_at_ties = 0, tie_tiles = 0;
    for (const shape& at : shapes)
      for (tile t : tiles)
        for (int num_bits : {8, 4, 3})
          for (bool symmetric : {true, false})
            for (scale_rule rule : {scale_rule::ascend, scale_rule::compressed_tensors}) {
              const std::size_t rows = at.rows, cols = at.cols;
              const auto x = loose_gaussian<T>(rows, cols, static_cast<unsigned>(rows + cols));
              const quant_spec spec{.num_bits = num_bits, .symmetric = symmetric, .granularity = t, .rule = rule};
              const params q{x.view(), spec};
              loose_matrix<std::int8_t> fast{rows, cols}, slow{rows, cols};
              s->quantize(x.view(), spec, q.view(), fast.view());
              scalar_backend{}.quantize(x.view(), spec, q.view(), slow.view());
              const bool ties = symmetric && rule == scale_rule::compressed_tensors;
              int largest = 0;
              for (std::size_t i = 0; i < fast.memory.size(); ++i) {
                const int d = std::abs(fast.memory[i] - slow.memory[i]);
                largest = std::max(largest, d);
                (ties ? different_at_ties : different) += d != 0;
              }
              (ties ? all_at_ties : all) += rows * cols;
              tie_tiles += ties ? q.g.tiles() : 0;
              INFO(std::string{chip}, ", ", rows, " x ", cols, ", tile ", t.rows, " x ", t.cols, ", bits ", num_bits, ", symmetric ", symmetric);
              REQUIRE(largest <= bounds.code_difference);
            }
    INFO(std::string{chip});
    CHECK(different <= bounds.mismatches(bounds.static_rate, all));
    CHECK(different_at_ties <= bounds.mismatches(bounds.static_rate, all_at_ties) + tie_tiles);
    CHECK(s->finish());
    CHECK(s.lines.empty());
  }
}

TEST_CASE("Ascend: what the device's arithmetic cannot say is quantized by the CPU, to the bit") {
  fake f;
  session s{f};
  const auto x = loose_gaussian<bf16>(9, 64, 5);
  for (quant_spec spec : {quant_spec{.arithmetic = dtype::bf16}, quant_spec{.type = number::floating}}) {
    const params q{x.view(), spec};
    loose_matrix<std::int8_t> fast{9, 64}, slow{9, 64};
    s->quantize(x.view(), spec, q.view(), fast.view());
    scalar_backend{}.quantize(x.view(), spec, q.view(), slow.view());
    CHECK(fast.memory == slow.memory);
  }
  SUBCASE("a scale without a reciprocal") {
    const auto tiny = loose_gaussian<float>(2, 64, 5);
    const float scales[] = {0x1p-130f, 0.5f};
    const const_qparams_view q{{2, 1}, scales, {}};
    loose_matrix<std::int8_t> fast{2, 64}, slow{2, 64};
    s->quantize(tiny.view(), quant_spec{}, q, fast.view());
    scalar_backend{}.quantize(tiny.view(), quant_spec{}, q, slow.view());
    CHECK(fast.memory == slow.memory);
  }
  CHECK(s->paths() == std::vector<std::string>{"quantize: cpu"});
}

TEST_CASE("Ascend: values from codes equal the scalar ones") {
  for (const char* chip : chips) {
    fake f{{{"SOC", chip}}};
    session s{f};
    for (const shape& at : shapes)
      for (tile t : tiles)
        for (bool symmetric : {true, false}) {
          const std::size_t rows = at.rows, cols = at.cols;
          const auto x = loose_gaussian<float>(rows, cols, 21);
          const quant_spec spec{.symmetric = symmetric, .granularity = t};
          const params q{x.view(), spec};
          const auto codes = law::codes(rows, cols, -128, 127, 4);
          loose_matrix<float> fast{rows, cols}, slow{rows, cols};
          s->dequantize(codes.view(), spec, q.view(), fast.view());
          scalar_backend{}.dequantize(codes.view(), spec, q.view(), slow.view());
          INFO(std::string{chip}, ", ", rows, " x ", cols, ", tile ", t.rows, " x ", t.cols, ", symmetric ", symmetric);
          REQUIRE(same_bits(fast.memory, slow.memory));
        }
    CHECK(s->paths() == std::vector<std::string>{"dequantize: Cast + Add + Mul, cpu"});
  }
}

TEST_CASE("Ascend: rows and columns are scaled with one rounding") {
  for (const char* chip : chips) {
    fake f{{{"SOC", chip}}};
    session s{f};
    for (const shape& at : shapes)
      for (bool by_column : {false, true}) {
        const std::size_t rows = at.rows, cols = at.cols;
        auto fast = loose_gaussian<float>(rows, cols, 13);
        loose_matrix<float> slow = fast;
        const auto factors = law::gaussian(1, by_column ? cols : rows, 3, 1.0f).elements;
        if (by_column) s->scale_columns(fast.view(), factors);
        else s->scale_rows(fast.view(), factors);
        for (std::size_t r = 0; r < rows; ++r)
          for (std::size_t c = 0; c < cols; ++c) slow.view()(r, c) *= factors[by_column ? c : r];
        INFO(std::string{chip}, ", ", rows, " x ", cols, ", by column ", by_column);
        REQUIRE(same_bits(fast.memory, slow.memory));
      }
    CHECK(s->paths() == std::vector<std::string>{"scale: InplaceMul"});
  }
}

TEST_CASE_TEMPLATE("Ascend: tokens are quantized by their own extremes within the bounds of the chip", T, float, bf16, f16) {
  for (const char* chip : chips) {
    fake f{{{"SOC", chip}}};
    session s{f};
    const ascend::numeric_bounds bounds = ascend::bounds_of(family_of_chip(chip), dtype_of<T>);
    std::size_t all = 0, different = 0;
    for (const shape& at : shapes) {
      const std::size_t rows = at.rows, cols = at.cols;
      auto x = loose_gaussian<T>(rows, cols, 17);
      if (rows > 2)
        for (std::size_t c = 0; c < cols; ++c) {
          x.view()(1, c) = T{};                                                   // a token of zeros
          x.view()(2, c) = law::narrowed<T>(to_float(x.view()(2, c)) * 0x1p-9f);  // one whose 127 / absmax is no f16
        }
      loose_matrix<std::int8_t> fast{rows, cols}, slow{rows, cols};
      std::vector<float> scales(rows), expected(rows);
      s->quantize_per_token(matrix_view<const T>{x.view()}, fast.view(), scales);
      ascend::quantize_per_token_on_host(ascend::host_matrix{matrix_view<const T>{x.view()}}, slow.view(), expected);
      for (std::size_t r = 0; r < rows; ++r) {
        INFO(std::string{chip}, ", ", rows, " x ", cols, ", row ", r, ", scale ", scales[r], ", expected ", expected[r]);
        REQUIRE(std::fabs(scales[r] - expected[r]) <= bounds.scale_relative * expected[r]);
        for (std::size_t c = 0; c < cols; ++c) {
          const int d = std::abs(fast.view()(r, c) - slow.view()(r, c));
          REQUIRE(d <= bounds.code_difference);
          different += d != 0;
        }
      }
      all += rows * cols;
    }
    CHECK(different <= bounds.mismatches(bounds.dynamic_rate, all));
    CHECK(s.lines.empty());
  }
}

TEST_CASE("Ascend: products of codes are exact, but for the rounding of a chip whose results are f16") {
  for (const char* chip : chips) {
    fake f{{{"SOC", chip}}};
    session s{f};
    for (const product& p : {product{1, 1, 1}, {5, 33, 17}, {40, 256, 96}, {7, 2000, 3}}) {
      const std::size_t m = p.m, k = p.k, n = p.n;
      const auto x = law::codes(m, k, -128, 127, 1), w = law::codes(n, k, -128, 127, 2);
      const auto xs = law::gaussian(1, m, 3, 0.5f).elements, ws = law::gaussian(1, n, 4, 0.5f).elements;
      law::matrix<float> fast{m, n}, slow{m, n};
      s->int8_matmul(x.view(), xs, w.view(), ws, fast.view());
      for (std::size_t r = 0; r < m; ++r)
        for (std::size_t c = 0; c < n; ++c) {
          std::int64_t sum = 0;
          for (std::size_t i = 0; i < k; ++i) sum += x.view()(r, i) * w.view()(c, i);
          slow.view()(r, c) = static_cast<float>(sum) * ws[c] * xs[r];
        }
      INFO(std::string{chip}, ", ", m, " x ", k, " x ", n);
      const float relative = ascend::int8_product_relative(family_of_chip(chip));
      if (relative == 0) REQUIRE(same_bits(fast.elements, slow.elements));
      for (std::size_t i = 0; i < fast.elements.size(); ++i)
        REQUIRE(std::fabs(fast.elements[i] - slow.elements[i]) <= relative * std::fabs(slow.elements[i]));
    }
    CHECK(s->paths() == std::vector<std::string>{chip == chips[0] ? "int8_matmul: QuantMatmulV5" : "int8_matmul: QuantMatmulV5 to f16, FRACTAL_NZ"});
    CHECK(s.lines.empty());
  }
}

TEST_CASE("Ascend: on 310P the smallest and the largest sums of codes are exact, and one that f16 cannot hold is the CPU's") {
  fake f{{{"SOC", "Ascend310P3"}}};
  session s{f};
  const float one[] = {1.0f, 1.0f};
  for (std::size_t k : {33, 2000, 40000, 65535}) {
    law::matrix<std::int8_t> x{2, k, -128}, w{1, k, -128};
    for (std::size_t c = 0; c < k; ++c) x.view()(1, c) = c == k / 2 ? 1 : 0;
    w.view()(0, k / 2) = 1;
    law::matrix<float> out{2, 1};
    s->int8_matmul(std::as_const(x).view(), one, std::as_const(w).view(), std::span{one}.first(1), out.view());
    const double large = 16384.0 * static_cast<double>(k - 1) - 128;
    CHECK(out.view()(1, 0) == 1.0f);
    CHECK(std::fabs(out.view()(0, 0) - large) <= large * 0x1p-11);
  }
  CHECK(s->paths() == std::vector<std::string>{"int8_matmul: QuantMatmulV5 to f16, FRACTAL_NZ, cpu"});
}

TEST_CASE_TEMPLATE("Ascend: weight-only products are within the rounding of 16-bit operands", T, float, bf16, f16) {
  for (const char* chip : chips) {
    fake f{{{"SOC", chip}}};
    session s{f};
    for (const product& p : {product{1, 32, 1}, {5, 96, 17}, {40, 256, 96}})
      for (tile t : {tile::per_tensor(), tile::per_channel(), tile::per_group(32), tile::per_group(7)})
        for (bool symmetric : {true, false}) {
          const std::size_t m = p.m, k = p.k, n = p.n;
          const auto x = law::gaussian<T>(m, k, 5);
          const auto weight = law::gaussian(n, k, 6);
          const quant_spec spec{.symmetric = symmetric, .granularity = t};
          const params q{weight.view(), spec};
          law::matrix<std::int8_t> codes{n, k};
          scalar_backend{}.quantize(weight.view(), spec, q.view(), codes.view());
          law::matrix<float> back{n, k}, found{m, n};
          scalar_backend{}.dequantize(std::as_const(codes).view(), spec, q.view(), back.view());
          s->weight_only_matmul(x.view(), std::as_const(codes).view(), spec, q.view(), found.view());
          const dtype used = std::is_same_v<T, bf16> && chip == chips[0] ? dtype::bf16 : dtype::f16;
          for (std::size_t r = 0; r < m; ++r)
            for (std::size_t c = 0; c < n; ++c) {
              double sum = 0, size = 0;
              for (std::size_t i = 0; i < k; ++i) {
                const double term = static_cast<double>(to_float(x.view()(r, i))) * back.view()(c, i);
                sum += term;
                size += std::fabs(term);
              }
              INFO(std::string{chip}, ", ", m, " x ", k, " x ", n, ", tile ", t.cols, ", symmetric ", symmetric, ", found ", found.view()(r, c),
                   ", sum ", sum);
              REQUIRE(std::fabs(found.view()(r, c) - sum) <= static_cast<double>(ascend::weight_only_relative(used)) * size);
            }
        }
    CHECK(s.lines.empty());
  }
}

TEST_CASE("Ascend: a backend without a device gives the scalar backend's bits") {
  const ascend_backend none;
  CHECK(none.finish());
  CHECK(!none.lost());
  CHECK(none.paths().empty());
  const auto x = loose_gaussian<bf16>(7, 50, 5);
  const params q{x.view(), quant_spec{}};
  loose_matrix<std::int8_t> fast{7, 50}, slow{7, 50};
  none.quantize(x.view(), quant_spec{}, q.view(), fast.view());
  scalar_backend{}.quantize(x.view(), quant_spec{}, q.view(), slow.view());
  CHECK(fast.memory == slow.memory);
}

TEST_CASE("Ascend: matrices without rows or columns are nothing to do") {
  fake f;
  session s{f};
  const matrix_view<const float> none{nullptr, 0, 5};
  s->ranges(none, tile::per_channel(), {});
  s->quantize(none, quant_spec{}, {}, {nullptr, 0, 5});
  s->column_absmax(none, {});
  CHECK(s->finish());
  CHECK(s->paths().empty());
}
