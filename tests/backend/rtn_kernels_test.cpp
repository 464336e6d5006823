// The kernels that join two steps of round-to-nearest give the bits of the steps one after the other.
#include "../conformance/backends.hpp"
#include "../conformance/matrices.hpp"

#include <qlib/backend/scalar.hpp>
#include <qlib/quantize.hpp>

#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace qlib;

using law::narrowed;

/// The fast backends, and scalar: its fused kernels are compared with its separate ones.
template <class Law>
void for_each_backend(Law check) {
  check(scalar_backend{}, "scalar");
  law::for_each_host_backend(check);
}

/// Gaussian values with zero, one-signed and negative-zero stretches of 32 columns.
template <class T>
std::vector<T> values(std::size_t rows, std::size_t stride, std::mt19937& random) {
  std::normal_distribution<float> gaussian{0, 0.05f};
  std::vector<T> x(rows * stride);
  int kind = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (i % 32 == 0) kind = static_cast<int>(random() % 12);
    const float v = gaussian(random);
    x[i] = narrowed<T>(kind == 0 ? 0.0f : kind == 1 ? -0.0f : kind == 2 ? std::fabs(v) : kind == 3 ? -std::fabs(v) : kind == 4 ? v * 0x1p-100f : v);
  }
  return x;
}

constexpr std::size_t widths[] = {2, 30, 32, 64, 96, 128, 192, 256, 288, 320, 512, 1024, 1152, 4096};
constexpr tile tiles[] = {tile::per_channel(),  tile::per_group(16),  tile::per_group(32),    tile::per_group(64), tile::per_group(96),
                          tile::per_group(128), tile::per_group(256), tile::per_block(2, 32), tile::per_tensor(),  tile::per_group(2)};

}  // namespace

TEST_CASE_TEMPLATE("nibbles quantized at once equal codes that are quantized and then packed", T, float, bf16, f16) {
  for_each_backend([](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{1};
    for (std::size_t cols : widths)
      for (tile t : tiles)
        for (bool symmetric : {true, false})
          for (std::size_t guard : {0, 64, 3}) {
            constexpr std::size_t rows = 3;
            const auto x = values<T>(rows, cols + guard, random);
            const matrix_view<const T> w{x.data(), rows, cols, cols + guard};
            const grid g = grid_of(t, rows, cols);
            std::vector<float> s(g.tiles());
            std::vector<std::int32_t> z(g.tiles());
            const int strange = static_cast<int>(random() % 3);  // one scale out of bounds changes the way of all its neighbours
            for (float& v : s) v = strange == 2 && random() % 40 == 0 ? 0x1p-100f : 0.0003f * static_cast<float>(1 + random() % 50);
            for (auto& v : z) v = static_cast<std::int32_t>(random() % 16) - 8;
            const quant_spec spec{.num_bits = 4, .symmetric = symmetric, .granularity = t};
            const const_qparams_view q{g, s, symmetric ? std::span<std::int32_t>{} : std::span{z}};
            for (std::uint8_t flip : {std::uint8_t{0}, std::uint8_t{8}}) {
              std::vector<std::int8_t> codes(rows * cols);
              const std::size_t stride = cols / 2 + guard;
              buffer fast{rows * stride}, slow{rows * stride};
              std::memset(fast.data(), 7, fast.size());
              std::memset(slow.data(), 7, slow.size());
              const auto bytes = [&](buffer& b) {
                return matrix_view<std::uint8_t>{reinterpret_cast<std::uint8_t*>(b.data()), rows, cols / 2, stride};
              };
              backend.quantize_nibbles(w, spec, q, flip, {codes.data(), rows, cols}, bytes(fast));
              scalar_backend{}.quantize(w, spec, q, {codes.data(), rows, cols});
              scalar_backend{}.pack_nibbles({codes.data(), rows, cols}, flip, bytes(slow));
              INFO("cols ", cols, ", t.rows ", t.rows, ", t.cols ", t.cols, ", symmetric ", symmetric, ", guard ", guard, ", flip ", int{flip});
              REQUIRE(std::memcmp(fast.data(), slow.data(), fast.size()) == 0);
            }
          }
  });
}

TEST_CASE_TEMPLATE("nibbles of values at exact ties, and ulps beside them, equal the scalar ones", T, float, bf16) {
  for_each_backend([](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{4};
    constexpr std::size_t cols = 256;
    for (int round = 0; round < 3000; ++round) {
      // Mantissas 2 - 2^-23 and beside it are where the cheaper forms of the division fail.
      const float s = round < 20   ? std::ldexp(1.0f, round - 10)
                      : round < 40 ? std::ldexp(2.0f - static_cast<float>(round - 19) * 0x1p-23f, 3)
                                   : std::ldexp(1.0f + static_cast<float>(random() % (1 << 23)) * 0x1p-23f, static_cast<int>(random() % 40) - 20);
      std::vector<T> x(cols);
      for (std::size_t i = 0; i < cols; ++i) {
        const float tie = (static_cast<float>(i / 7 % 20) - 9.5f) * s;
        x[i] = narrowed<T>(std::bit_cast<float>(std::bit_cast<std::int32_t>(tie) + static_cast<std::int32_t>(i % 7) - 3));
      }
      const quant_spec spec{.num_bits = 4};
      const const_qparams_view q{{1, 1}, std::span{&s, 1}, {}};
      std::vector<std::int8_t> codes(cols);
      std::vector<std::uint8_t> fast(cols / 2), slow(cols / 2);
      const matrix_view<const T> w{x.data(), 1, cols};
      backend.quantize_nibbles(w, spec, q, 8, {codes.data(), 1, cols}, {fast.data(), 1, cols / 2});
      scalar_backend{}.quantize_nibbles(w, spec, q, 8, {codes.data(), 1, cols}, {slow.data(), 1, cols / 2});
      INFO("s ", s);
      REQUIRE(fast == slow);
    }
  });
}

TEST_CASE_TEMPLATE("parameters solved from tiles equal those of their ranges, for every rule and scale dtype", T, float, bf16, f16) {
  for_each_backend([](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{2};
    for (std::size_t cols : widths)
      for (tile t : tiles)
        for (bool symmetric : {true, false})
          for (scale_rule rule : {scale_rule::ascend, scale_rule::compressed_tensors})
            for (dtype stored : {dtype::f32, dtype::bf16, dtype::f16})
              for (number type : {number::integer, number::floating}) {
                constexpr std::size_t rows = 3;
                const auto x = values<T>(rows, cols + 3, random);
                const matrix_view<const T> w{x.data(), rows, cols, cols + 3};
                const quant_spec spec{.type = type,
                                      .num_bits = type == number::floating ? 8 : 4,
                                      .symmetric = symmetric,
                                      .granularity = t,
                                      .rule = rule,
                                      .scale_dtype = stored};
                const grid g = grid_of(t, rows, cols);
                std::vector<range> seen(g.tiles(), range::empty());
                std::vector<float> fast(g.tiles()), slow(g.tiles());
                std::vector<std::int32_t> fast_zero(g.tiles(), 99), slow_zero(g.tiles(), 99);
                const std::size_t zeros = symmetric ? 0 : g.tiles();
                scalar_backend{}.ranges(w, t, std::span{seen});
                scalar_backend{}.solve_qparams(seen, spec, {g, slow, {slow_zero.data(), zeros}});
                INFO("cols ", cols, ", t.rows ", t.rows, ", t.cols ", t.cols, ", symmetric ", symmetric, ", rule ", static_cast<int>(rule),
                     ", scales ", static_cast<int>(stored));
                REQUIRE(backend.solve_tiles(w, spec, {g, fast, {fast_zero.data(), zeros}}));
                REQUIRE(std::memcmp(fast.data(), slow.data(), fast.size() * sizeof(float)) == 0);
                REQUIRE(fast_zero == slow_zero);
              }
  });
}

TEST_CASE_TEMPLATE("no parameters come of a tile with a NaN or an infinity, wherever it is", T, float, bf16, f16) {
  constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for_each_backend([](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{3};
    for (std::size_t cols : {32, 64, 512, 1024})
      for (tile t : {tile::per_channel(), tile::per_group(32), tile::per_group(128), tile::per_tensor()})
        for (bool symmetric : {true, false}) {
          auto x = values<T>(2, cols, random);
          const quant_spec spec{.num_bits = 4, .symmetric = symmetric, .granularity = t};
          const grid g = grid_of(t, 2, cols);
          std::vector<float> s(g.tiles());
          std::vector<std::int32_t> z(g.tiles());
          const qparams_view q{g, s, {z.data(), symmetric ? 0 : g.tiles()}};
          REQUIRE(backend.solve_tiles(matrix_view<const T>{x.data(), 2, cols}, spec, q));
          for (std::size_t c = 0; c < cols; ++c)
            for (float bad : {inf, -inf, nan, -nan}) {
              const T good = std::exchange(x[cols + c], narrowed<T>(bad));
              INFO("cols ", cols, ", t.cols ", t.cols, ", c ", c, ", bad ", bad, ", symmetric ", symmetric);
              REQUIRE(!backend.solve_tiles(matrix_view<const T>{x.data(), 2, cols}, spec, q));
              x[cols + c] = good;
            }
        }
  });
}
