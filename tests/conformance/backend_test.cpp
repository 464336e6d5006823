// Every backend gives the bits of scalar_backend, or codes within its tolerance (backends.hpp): compared on random and on adversarial data, for
// the static Highway target of this unit, with qlib::compiled for every instruction set that the library has and this CPU runs, and for the
// Ascend backend on the fake in the ways that backends.hpp lists.
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

using law::all_data, law::code_comparison, law::data, law::device_work, law::for_each_backend, law::loose_matrix, law::make, law::narrowed;

constexpr tile tiles[] = {tile::per_tensor(),   tile::per_channel(),    tile::per_group(32),   tile::per_group(64),
                          tile::per_group(128), tile::per_group(1),     tile::per_group(7),    tile::per_group(16),
                          tile::per_group(48),  tile::per_block(2, 32), tile::per_block(3, 0), tile::per_block(2, 5)};
constexpr std::size_t widths[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 160, 192, 255, 256, 257, 288, 300};

/// The ranges of x by one backend, from ranges that already hold something.
template <class T, class B>
std::vector<range> ranges_of(const B& backend, loose_matrix<T>& x, tile t, range before) {
  std::vector<range> out(grid_of(t, x.rows, x.cols).tiles(), before);
  backend.ranges(matrix_view<const T>{x.view()}, t, std::span{out});
  return out;
}

bool same_bits(const std::vector<range>& a, const std::vector<range>& b) { return std::memcmp(a.data(), b.data(), a.size() * sizeof(range)) == 0; }

/// Codes by one backend, in a matrix whose guards must stay as they were.
template <class T, class B>
loose_matrix<std::int8_t> codes_by(const B& backend, loose_matrix<T>& x, const quant_spec& spec, const_qparams_view q) {
  loose_matrix<std::int8_t> codes{x.rows, x.cols, 5, std::int8_t{99}};
  backend.quantize(matrix_view<const T>{x.view()}, spec, q, codes.view());
  return codes;
}

}  // namespace

TEST_CASE_TEMPLATE("ranges of every tile shape equal the scalar ones", T, float, bf16, f16) {
  for_each_backend({device_work::ranges}, law::few_rows, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{1};
    for (std::size_t rows = 1; rows <= 5; ++rows)
      for (std::size_t cols : widths)
        for (data kind : all_data) {
          auto x = make<T>(rows, cols, kind, random);
          for (tile t : tiles)
            for (range before : {range::empty(), range{-0.03f, 0.04f}, range{1e30f, 2e30f}, range{-0.0f, 0.0f}}) {
              INFO("rows ", rows, ", cols ", cols, ", kind ", static_cast<int>(kind), ", t.rows ", t.rows, ", t.cols ", t.cols, ", before.min ",
                   before.min);
              REQUIRE(same_bits(ranges_of(backend, x, t, before), ranges_of(scalar_backend{}, x, t, before)));
            }
        }
  });
}

TEST_CASE_TEMPLATE("a NaN or an infinity anywhere makes its tile undefined, and no other", T, float, bf16, f16) {
  constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for_each_backend({device_work::ranges}, law::few_rows, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{2};
    for (std::size_t cols : {1, 5, 33, 64, 130, 256, 300})
      for (tile t : {tile::per_channel(), tile::per_group(32), tile::per_group(64), tile::per_group(7), tile::per_tensor()}) {
        const auto clean = make<T>(2, cols, data::gaussian, random);
        for (std::size_t c = 0; c < cols; ++c)
          for (float bad : {inf, -inf, nan, -nan}) {
            auto x = clean;
            x.view()(1, c) = narrowed<T>(bad);
            INFO("cols ", cols, ", t.cols ", t.cols, ", c ", c, ", bad ", bad);
            const auto seen = ranges_of(backend, x, t, range::empty());
            REQUIRE(same_bits(seen, ranges_of(scalar_backend{}, x, t, range::empty())));
            const grid g = grid_of(t, 2, cols);
            REQUIRE(!seen[(g.rows - 1) * g.cols + c / resolve(t, 2, cols).cols].defined());
          }
        auto x = clean;
        for (const range& r : ranges_of(backend, x, t, range::undefined())) REQUIRE(!r.defined());
      }
  });
}

TEST_CASE("infinities that cancel in a sum are still found") {
  for_each_backend({device_work::ranges}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    loose_matrix<float> x{1, 256, 3, 3e38f};  // sums overflow, values do not
    CHECK(ranges_of(backend, x, tile::per_group(32), range::empty())[0].max == 3e38f);
    x.view()(0, 3) = std::numeric_limits<float>::infinity();
    x.view()(0, 19) = -std::numeric_limits<float>::infinity();
    const auto seen = ranges_of(backend, x, tile::per_group(32), range::empty());
    CHECK(!seen[0].defined());
    CHECK(seen[1].defined());
  });
}

TEST_CASE("scales and zero points equal the scalar ones for every rule, width and scale dtype") {
  for_each_backend({}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{8};
    for (std::size_t count = 1; count <= 70; ++count)
      for (int bits : {2, 3, 4, 7, 8, 80})
        for (bool symmetric : {true, false})
          for (scale_rule rule : {scale_rule::ascend, scale_rule::compressed_tensors})
            for (dtype stored : {dtype::f32, dtype::bf16, dtype::f16})
              for (dtype arithmetic : {dtype::f32, dtype::bf16}) {
                std::vector<range> seen(count);
                for (range& r : seen) {
                  const float size = std::exp2(static_cast<float>(random() % 40) - 20.0f) * (random() % 20  ? 1.0f
                                                                                             : random() % 2 ? 0x1p-125f
                                                                                                            : 0x1p107f);
                  const float a = static_cast<float>(random() % 2001) / 1000 - 1,
                              b = random() % 8 ? static_cast<float>(random() % 2001) / 1000 - 1 : a;
                  r = {std::min(a, b) * size + 0.0f, std::max(a, b) * size + 0.0f};
                  if (random() % 10 == 0) r = range::empty();
                  if (random() % 10 == 0) r = {0.0f, 0.0f};
                }
                const quant_spec spec{.type = bits == 80 ? number::floating : number::integer,
                                      .num_bits = bits == 80 ? 8 : bits,
                                      .symmetric = symmetric,
                                      .rule = rule,
                                      .scale_dtype = stored,
                                      .arithmetic = arithmetic};
                std::vector<float> fast(count), slow(count);
                std::vector<std::int32_t> fast_zero(count, 99), slow_zero(count, 99);
                const std::size_t zeros = symmetric && random() % 2 ? 0 : count;
                backend.solve_qparams(seen, spec, {{1, count}, fast, {fast_zero.data(), zeros}});
                scalar_backend{}.solve_qparams(seen, spec, {{1, count}, slow, {slow_zero.data(), zeros}});
                INFO("count ", count, ", bits ", bits, ", symmetric ", symmetric, ", rule ", static_cast<int>(rule), ", scales ",
                     static_cast<int>(stored));
                REQUIRE(std::memcmp(fast.data(), slow.data(), count * sizeof(float)) == 0);
                REQUIRE(fast_zero == slow_zero);
              }
  });
}

TEST_CASE_TEMPLATE("codes are those of the scalar backend for every width, tile, scale and zero point", T, float, bf16, f16) {
  for_each_backend({device_work::codes}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{3};
    code_comparison all{law::tolerance_of(backend, dtype_of<T>)};
    const float scales[] = {1.0f, 0.0371f, 1.0f / 127, 3.1e-5f, 0x1p-23f, 0x1.fffffep-7f, 1e-38f, 1e-42f, 0x1p-149f, 1e30f, 0x1p-80f, 0x1p80f};
    for (std::size_t cols : widths)
      for (tile t : tiles) {
        const std::size_t rows = 1 + random() % 5;
        const data kind = all_data[random() % 5];
        const grid g = grid_of(t, rows, cols);
        const auto finite = make<T>(rows, cols, kind, random);
        auto x = finite;
        x.view()(0, cols / 2) = narrowed<T>(random() % 2 ? std::numeric_limits<float>::infinity() : -std::numeric_limits<float>::infinity());
        std::vector<float> s(g.tiles());
        std::vector<std::int32_t> z(g.tiles());
        const bool moderate = random() % 2 == 0;  // one scale out of bounds changes the way of all its neighbours
        for (float& v : s) v = moderate ? 0.0003f * static_cast<float>(1 + random() % 50) : scales[random() % std::size(scales)];
        for (int bits : {2, 3, 4, 5, 6, 7, 8, 80})
          for (bool symmetric : {true, false}) {
            quant_spec spec{
                .type = bits == 80 ? number::floating : number::integer, .num_bits = bits == 80 ? 8 : bits, .symmetric = symmetric, .granularity = t};
            for (auto& v : z)
              v = random() % 50 == 0 ? static_cast<std::int32_t>(random() % 200000) - 100000 : static_cast<std::int32_t>(random() % 256) - 128;
            const const_qparams_view q{g, s, symmetric ? std::span<std::int32_t>{} : std::span{z}};
            INFO("rows ", rows, ", cols ", cols, ", kind ", static_cast<int>(kind), ", t.rows ", t.rows, ", t.cols ", t.cols, ", bits ", bits,
                 ", symmetric ", symmetric, ", s[0] ", s[0], ", z[0] ", z[0]);
            for (const bool all_finite : {false, true}) {
              auto y = all_finite ? finite : x;
              const auto found = codes_by(backend, y, spec, q), right = codes_by(scalar_backend{}, y, spec, q);
              if (spec.type == number::floating) REQUIRE(found == right);
              else REQUIRE(all.near(found, right));
            }
          }
        for (dtype arithmetic : {dtype::bf16, dtype::f16}) {
          const quant_spec spec{.granularity = t, .arithmetic = arithmetic};
          REQUIRE(codes_by(backend, x, spec, {g, s, {}}) == codes_by(scalar_backend{}, x, spec, {g, s, {}}));
        }
      }
    INFO(all.different(), " of ", all.all(), " codes differ");
    CHECK(all.rare());
  });
}

TEST_CASE_TEMPLATE("codes at exact ties, and one to three ulps beside them, are those of the scalar backend", T, float, bf16, f16) {
  for_each_backend({device_work::codes}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{4};
    code_comparison ties{law::tolerance_of(backend, dtype_of<T>)};
    constexpr std::size_t cols = 260 * 7;
    for (int round = 0; round < 300; ++round) {
      const float s = round < 20 ? std::ldexp(1.0f, round - 10)
                                 : std::ldexp(1.0f + static_cast<float>(random() % (1 << 23)) * 0x1p-23f, static_cast<int>(random() % 40) - 20);
      for (int zero : {0, 3, -128, 127}) {
        loose_matrix<T> x{1, cols};
        for (std::size_t i = 0; i < cols; ++i) {
          const float tie = (static_cast<float>(i / 7) - 130.5f - static_cast<float>(zero)) * s;
          std::int32_t bits = std::bit_cast<std::int32_t>(tie);
          if (tie != 0) bits += static_cast<std::int32_t>(i % 7) - 3;
          x.view()(0, i) = narrowed<T>(std::bit_cast<float>(bits));
        }
        const quant_spec spec{.symmetric = zero == 0};
        const const_qparams_view q{{1, 1}, std::span{&s, 1}, std::span{&zero, zero == 0 ? 0u : 1u}};
        INFO("s ", s, ", zero ", zero);
        REQUIRE(ties.near(codes_by(backend, x, spec, q), codes_by(scalar_backend{}, x, spec, q)));
      }
    }
  });
}

TEST_CASE_TEMPLATE("codes in aligned rows, where stores may stream, are those of the scalar backend", T, float, bf16, f16) {
  for_each_backend({device_work::codes}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{9};
    code_comparison all{law::tolerance_of(backend, dtype_of<T>)};
    for (std::size_t cols : {64, 128, 192, 1024, 4096})
      for (tile t : {tile::per_channel(), tile::per_group(16), tile::per_group(32), tile::per_group(64), tile::per_group(96), tile::per_group(128)})
        for (int bits : {4, 8}) {
          constexpr std::size_t rows = 3;
          auto x = make<T>(rows, cols, data::gaussian, random);
          const grid g = grid_of(t, rows, cols);
          std::vector<float> s(g.tiles());
          for (float& v : s) v = 0.0003f * static_cast<float>(1 + random() % 50);
          const quant_spec spec{.num_bits = bits, .granularity = t};
          alignas(64) static std::int8_t fast[rows * 4096], slow[rows * 4096];
          backend.quantize(matrix_view<const T>{x.view()}, spec, {g, s, {}}, {fast, rows, cols});
          scalar_backend{}.quantize(matrix_view<const T>{x.view()}, spec, {g, s, {}}, {slow, rows, cols});
          INFO("cols ", cols, ", t.cols ", t.cols, ", bits ", bits);
          REQUIRE(all.near(fast, slow, rows * cols));
          alignas(64) static std::uint8_t fast_bytes[rows * 4096], slow_bytes[rows * 4096];
          backend.pack_nibbles({fast, rows, cols}, 8, {fast_bytes, rows, cols / 2});
          scalar_backend{}.pack_nibbles({fast, rows, cols}, 8, {slow_bytes, rows, cols / 2});
          REQUIRE(std::memcmp(fast_bytes, slow_bytes, rows * cols / 2) == 0);
          backend.pack_nibble_rows({fast, 2, cols}, {fast_bytes, 1, cols});
          scalar_backend{}.pack_nibble_rows({fast, 2, cols}, {slow_bytes, 1, cols});
          REQUIRE(std::memcmp(fast_bytes, slow_bytes, cols) == 0);
        }
    CHECK(all.rare());
  });
}

TEST_CASE("e4m3 codes at ties between neighbours, of zeros and of NaN equal the scalar ones") {
  for_each_backend({}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{5};
    constexpr quant_spec spec{.type = number::floating};
    for (int round = 0; round < 300; ++round) {
      const float s = std::ldexp(1.0f + static_cast<float>(random() % (1 << 23)) * 0x1p-23f, static_cast<int>(random() % 40) - 20);
      loose_matrix<float> x{1, 127 * 10 + 4};
      for (std::size_t i = 0; i < 127; ++i) {
        const float tie =
            (e4m3_to_float(static_cast<std::uint8_t>(i)) + (i < 126 ? e4m3_to_float(static_cast<std::uint8_t>(i + 1)) : 464.0f)) / 2 * s;
        for (std::size_t k = 0; k < 10; ++k)
          x.view()(0, i * 10 + k) =
              (k < 5 ? 1.0f : -1.0f) * std::bit_cast<float>(std::bit_cast<std::int32_t>(tie) + static_cast<std::int32_t>(k % 5) - 2);
      }
      x.view()(0, 1270) = -0.0f;
      x.view()(0, 1271) = -1e-40f;
      x.view()(0, 1272) = std::numeric_limits<float>::quiet_NaN();
      x.view()(0, 1273) = -std::numeric_limits<float>::infinity();
      const const_qparams_view q{{1, 1}, std::span{&s, 1}, {}};
      CAPTURE(s);
      REQUIRE(codes_by(backend, x, spec, q) == codes_by(scalar_backend{}, x, spec, q));
    }
  });
}

TEST_CASE("all codes dequantize to the scalar values") {
  for_each_backend({device_work::values}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{6};
    for (std::size_t cols : widths)
      for (tile t : tiles)
        for (number type : {number::integer, number::floating}) {
          const std::size_t rows = 1 + random() % 3;
          loose_matrix<std::int8_t> codes{rows, cols};
          for (auto& c : codes.memory) c = static_cast<std::int8_t>(random());
          const grid g = grid_of(t, rows, cols);
          std::vector<float> s(g.tiles());
          std::vector<std::int32_t> z(g.tiles());
          for (float& v : s) v = random() % 8 == 0 ? 1e-42f : 1e-3f * static_cast<float>(1 + random() % 999);
          for (auto& v : z) v = static_cast<std::int32_t>(random() % 256) - 128;
          for (bool zeros : {false, true}) {
            const const_qparams_view q{g, s, zeros && type == number::integer ? std::span{z} : std::span<std::int32_t>{}};
            loose_matrix<float> fast{rows, cols}, slow{rows, cols};
            backend.dequantize(codes.view(), {.type = type, .granularity = t}, q, fast.view());
            scalar_backend{}.dequantize(codes.view(), {.type = type, .granularity = t}, q, slow.view());
            INFO("rows ", rows, ", cols ", cols, ", t.rows ", t.rows, ", t.cols ", t.cols, ", zeros ", zeros);
            REQUIRE(fast == slow);
          }
        }
  });
}

TEST_CASE_TEMPLATE("all bit patterns widen to the scalar bits", T, bf16, f16) {
  for_each_backend({}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    for (std::size_t cols : {1, 5, 16, 255, 256, 1000}) {
      loose_matrix<T> x{(65536 + cols - 1) / cols, cols, 1};
      for (std::size_t i = 0; i < 65536; ++i) x.view()(i / cols, i % cols) = T{static_cast<std::uint16_t>(i)};
      loose_matrix<float> fast{x.rows, cols}, slow{x.rows, cols};
      backend.to_float(matrix_view<const T>{x.view()}, fast.view());
      scalar_backend{}.to_float(matrix_view<const T>{x.view()}, slow.view());
      REQUIRE(fast == slow);
    }
  });
}

TEST_CASE("packed nibbles equal the scalar bytes for every width, contiguous or not") {
  for_each_backend({}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{7};
    for (std::size_t cols = 1; cols <= 300; ++cols)
      for (std::size_t guard : {0, 3})
        for (std::uint8_t flip : {std::uint8_t{0}, std::uint8_t{8}}) {
          const std::size_t rows = 1 + random() % 5;
          loose_matrix<std::int8_t> codes{rows, cols, guard};
          for (auto& c : codes.memory) c = static_cast<std::int8_t>(random());
          for (std::size_t width : {(cols + 1) / 2, (cols + 7) / 8 * 4}) {
            loose_matrix<std::uint8_t> fast{rows, width, guard, 7}, slow{rows, width, guard, 7};
            backend.pack_nibbles(codes.view(), flip, fast.view());
            scalar_backend{}.pack_nibbles(codes.view(), flip, slow.view());
            INFO("rows ", rows, ", cols ", cols, ", guard ", guard, ", width ", width);
            REQUIRE(fast == slow);
          }
          loose_matrix<std::int8_t> even{2 * rows, cols, guard};
          for (auto& c : even.memory) c = static_cast<std::int8_t>(random());
          loose_matrix<std::uint8_t> fast{rows, cols, guard, 7}, slow{rows, cols, guard, 7};
          backend.pack_nibble_rows(even.view(), fast.view());
          scalar_backend{}.pack_nibble_rows(even.view(), slow.view());
          REQUIRE(fast == slow);
        }
  });
}

TEST_CASE_TEMPLATE("ranges of tiles of one column equal the scalar ones", T, float, bf16, f16) {
  for_each_backend({device_work::ranges, device_work::column_ranges}, law::few_rows, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{20};
    for (std::size_t rows : {1, 2, 7, 8, 9, 17, 40, 64, 65, 150})  // from 64 on a device does them by columns
      for (std::size_t cols : {1, 3, 16, 17, 33, 64, 100})
        for (data kind : all_data)
          for (tile t : {tile{0, 1}, tile{2, 1}, tile{9, 1}, tile{rows < 64 ? 16u : 70u, 1}})
            for (float bad : {0.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
              auto x = make<T>(rows, cols, kind, random);
              if (bad != 0) x.view()(random() % rows, random() % cols) = narrowed<T>(bad);
              for (range before : {range::empty(), range{-0.03f, 0.04f}, range{-0.0f, 0.0f}, range::undefined()}) {
                INFO("rows ", rows, ", cols ", cols, ", kind ", static_cast<int>(kind), ", t.rows ", t.rows, ", bad ", bad);
                REQUIRE(same_bits(ranges_of(backend, x, t, before), ranges_of(scalar_backend{}, x, t, before)));
              }
            }
  });
}

TEST_CASE_TEMPLATE("codes of tiles of one column are those of the scalar backend, and so are their values", T, float, bf16, f16) {
  for_each_backend({device_work::column_codes, device_work::values}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{25};
    code_comparison all{law::tolerance_of(backend, dtype_of<T>)};
    for (std::size_t rows : {7, 64, 65, 150})
      for (std::size_t cols : {2, 17, 64, 300})
        for (tile t : {tile{0, 1}, tile{70, 1}})
          for (bool symmetric : {true, false}) {
            auto x = make<T>(rows, cols, data::gaussian, random);
            const grid g = grid_of(t, rows, cols);
            std::vector<float> s(g.tiles());
            std::vector<std::int32_t> z(g.tiles());
            for (float& v : s) v = 0.0003f * static_cast<float>(1 + random() % 50);
            for (auto& v : z) v = static_cast<std::int32_t>(random() % 256) - 128;
            const quant_spec spec{.num_bits = random() % 2 == 0 ? 8 : 4, .symmetric = symmetric, .granularity = t};
            const const_qparams_view q{g, s, symmetric ? std::span<std::int32_t>{} : std::span{z}};
            INFO("rows ", rows, ", cols ", cols, ", t.rows ", t.rows, ", symmetric ", symmetric);
            const auto found = codes_by(backend, x, spec, q);
            auto right = codes_by(scalar_backend{}, x, spec, q);
            REQUIRE(all.near(found, right));
            loose_matrix<float> fast{rows, cols}, slow{rows, cols};
            backend.dequantize(right.view(), spec, q, fast.view());
            scalar_backend{}.dequantize(right.view(), spec, q, slow.view());
            REQUIRE(fast == slow);
          }
    INFO(all.different(), " of ", all.all(), " codes differ");
    CHECK(all.rare());
  });
}

TEST_CASE_TEMPLATE("the largest magnitudes of columns equal the scalar ones", T, float, bf16, f16) {
  constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for_each_backend({device_work::column_absmax}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{21};
    for (std::size_t rows : {0, 1, 5, 8, 9, 24, 31})
      for (std::size_t cols : widths)
        for (data kind : all_data)
          for (float bad : {0.0f, inf, -inf, nan}) {
            auto x = make<T>(rows, cols, kind, random);
            if (bad != 0 && rows > 0) x.view()(random() % rows, random() % cols) = narrowed<T>(bad);
            std::vector<float> fast(cols, 0.02f);
            fast[random() % cols] = random() % 2 ? nan : 1e30f;
            std::vector<float> slow = fast;
            backend.column_absmax(matrix_view<const T>{x.view()}, std::span{fast});
            scalar_backend{}.column_absmax(matrix_view<const T>{x.view()}, std::span{slow});
            INFO("rows ", rows, ", cols ", cols, ", kind ", static_cast<int>(kind), ", bad ", bad);
            REQUIRE(std::memcmp(fast.data(), slow.data(), cols * sizeof(float)) == 0);
          }
  });
}

#if defined(QLIB_COMPILED)
TEST_CASE("an instruction set is found by name, and an unknown one names the choices") {
  CHECK(compiled_targets().back() == "scalar");
  CHECK(compiled_targets().front() == chosen_target());
  CHECK(native_backend{}.isa() == chosen_target());
  const auto missing = kernels_for("mmx");
  REQUIRE(!missing);
  CHECK(missing.error().text().find("scalar") != std::string::npos);
}
#endif
