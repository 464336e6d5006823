#include <qlib/quantize.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace qlib;

struct weights {
  std::size_t rows, cols;
  std::vector<float> values;

  weights(std::size_t r, std::size_t c, unsigned seed = 1) : rows{r}, cols{c}, values(r * c) {
    std::mt19937 random{seed};
    for (float& x : values) x = static_cast<float>(random() >> 8) * 0x1p-24f - 0.5f;
  }
  matrix_view<const float> view() const { return {values.data(), rows, cols}; }
};

template <class Packer, class T, class Spec>
result<quantized_matrix> pack(matrix_view<const T> w, const Spec& spec) {
  return quantize<minmax_observer, rtn_rounder, Packer>(w, spec);
}

std::string error_text(const result<quantized_matrix>& q) { return q ? "no error" : q.error().text(); }

bool same(const quantized_matrix& a, const quantized_matrix& b) {
  return std::ranges::equal(a.bytes(), b.bytes()) && std::ranges::equal(a.scales(), b.scales()) &&
         std::ranges::equal(a.zero_points(), b.zero_points());
}

}  // namespace

TEST_CASE("the ten lines of the README quantize a matrix") {
  const std::vector<float> w = {.10f, -.52f, .33f, .91f, -1.27f, .05f, .64f, -.18f, 2, -.03f, .7f, -1.1f, .25f, 0, -.6f, 1.5f};
  const auto q = quantize(matrix_view<const float>{w.data(), 2, 8}, int8_per_channel{});
  REQUIRE(q);
  CHECK(q->layout().type == dtype::i8);
  CHECK(q->scale_grid() == grid{2, 1});
  CHECK(q->scales()[0] == 1.27f / 127);
  CHECK(q->scales()[1] == 2.0f / 127);
  CHECK(q->zero_points().empty());
  CHECK(q->codes()(0, 4) == -127);
  CHECK(q->codes()(1, 7) == 95);
}

TEST_CASE("a NaN or an infinity is named with its row and column") {
  weights w{40, 3000};  // several strips
  w.values[31 * 3000 + 2999] = std::numeric_limits<float>::quiet_NaN();
  CHECK(error_text(quantize(w.view(), int8_per_channel{})).starts_with("weight[31, 2999]: NaN: "));
  CHECK(error_text(pack<pack_quantized_packer>(w.view(), int4_per_group{.group_size = 100})).starts_with("weight[31, 2999]: NaN: "));
  w.values[7 * 3000] = std::numeric_limits<float>::infinity();
  CHECK(error_text(quantize(w.view(), int8_per_channel{})).starts_with("weight[7, 0]: +infinity: "));
  w.values[0] = -std::numeric_limits<float>::infinity();
  CHECK(error_text(quantize(w.view(), quant_spec{.granularity = tile::per_tensor()})).starts_with("weight[0, 0]: -infinity: "));
  std::vector<bf16> narrow(6, bf16{0x3f80});
  narrow[4] = {0x7fc0};
  CHECK(error_text(quantize(matrix_view<const bf16>{narrow.data(), 2, 3}, int8_per_channel{})).starts_with("weight[1, 1]: NaN: "));
}

TEST_CASE("a group size that does not divide is an error with both numbers") {
  const weights w{2, 100};
  CHECK(error_text(pack<pack_quantized_packer>(w.view(), int4_per_group{.group_size = 64})) ==
        "weight: in_features 100 is not a multiple of group_size 64: choose a group_size that divides it");
  CHECK(pack<pack_quantized_packer>(w.view(), int4_per_group{.group_size = 50}));
  CHECK(pack<pack_quantized_packer>(w.view(), int4_per_group{.group_size = 1}));
}

TEST_CASE("a packer that cannot store a spec made at run time says so") {
  const weights w{3, 5};
  CHECK(error_text(pack<fp8_packer>(w.view(), quant_spec{})).starts_with("fp8_packer: needs e4m3 codes"));
  CHECK(error_text(pack<int8_packer>(w.view(), quant_spec{.type = number::floating})).starts_with("int8_packer: needs integer codes"));
  CHECK(error_text(pack<int4_rows_packer>(w.view(), int4_per_channel{})).starts_with("int4_rows_packer: out_features 3 is odd"));
  CHECK(error_text(pack<int4_columns_packer>(w.view(), int4_per_channel{})).starts_with("int4_columns_packer: in_features 5 is odd"));
}

TEST_CASE("a big matrix has the bytes of its rows one by one") {
  const weights w{50, 2000};  // 7 strips of f32
  const auto check = [&](auto spec, auto packer) {
    using P = decltype(packer);
    const auto whole = pack<P>(w.view(), spec);
    REQUIRE(whole);
    for (std::size_t r = 0; r < w.rows; r += P::row_multiple) {
      const auto rows = pack<P>(w.view().strip(r, P::row_multiple), spec);
      REQUIRE(rows);
      CHECK(std::ranges::equal(rows->bytes(), whole->bytes().subspan(r / P::row_multiple * whole->layout().row_bytes(), rows->bytes().size())));
      CHECK(std::ranges::equal(rows->scales(), whole->scales().subspan(r * whole->scale_grid().cols, rows->scales().size())));
    }
  };
  check(int8_per_channel{}, int8_packer{});
  check(int8_per_channel{.symmetric = false}, pack_quantized_packer{});
  check(int4_per_channel{}, int4_rows_packer{});
  check(int4_per_channel{}, int4_columns_packer{});
  check(int4_per_group{.group_size = 40}, pack_quantized_packer{});
  check(int4_per_group{.group_size = 40, .symmetric = false}, pack_quantized_packer{});
  check(quant_spec{.num_bits = 3}, pack_quantized_packer{});
  check(fp8_per_channel{}, fp8_packer{});
}

TEST_CASE("blocks of several rows share their scale, whatever the strips") {
  const weights w{50, 2000};
  const auto q = pack<int8_packer>(w.view(), quant_spec{.granularity = tile::per_block(16, 300)});
  REQUIRE(q);
  CHECK(q->scale_grid() == grid{4, 7});
  for (std::size_t i = 0; i < 4; ++i)
    for (std::size_t j = 0; j < 7; ++j) {
      float absmax = 0;
      for (std::size_t r = i * 16; r < std::min<std::size_t>(50, i * 16 + 16); ++r)
        for (std::size_t c = j * 300; c < std::min<std::size_t>(2000, j * 300 + 300); ++c) absmax = std::max(absmax, std::abs(w.view()(r, c)));
      CHECK(q->scales()[i * 7 + j] == absmax / 127);
    }
}

TEST_CASE("16-bit weights are quantized as the floats that they are, whatever the rows' distance") {
  weights w{4, 10};
  std::vector<bf16> narrow(4 * 13);
  std::vector<float> wide(40);
  for (std::size_t i = 0; i < 40; ++i) {
    narrow[i / 10 * 13 + i % 10] = to_bf16(w.values[i]);
    wide[i] = to_float(to_bf16(w.values[i]));
  }
  const auto a = quantize(matrix_view<const bf16>{narrow.data(), 4, 10, 13}, int8_per_channel{.symmetric = false});
  const auto b = quantize(matrix_view<const float>{wide.data(), 4, 10}, int8_per_channel{.symmetric = false});
  REQUIRE((a && b));
  CHECK(same(*a, *b));
}

TEST_CASE("a weight comes back within half a step") {
  const weights w{8, 64};
  for (const quant_spec& spec : {quant_spec{}, quant_spec{.symmetric = false}, quant_spec{.num_bits = 4, .granularity = tile::per_group(16)}}) {
    const auto q = pack<int8_packer>(w.view(), spec);
    REQUIRE(q);
    std::vector<float> back(w.values.size());
    scalar_backend{}.dequantize(q->codes(), spec, q->qparams(), {back.data(), 8, 64});
    const std::size_t group = spec.granularity.cols ? spec.granularity.cols : 64;
    for (std::size_t i = 0; i < back.size(); ++i) {
      // An asymmetric zero point is rounded, too: at the ends of the range its half step adds to the clipping.
      const float steps = spec.symmetric ? 0.5f : 1.0f;
      CHECK(std::abs(back[i] - w.values[i]) <= q->scales()[i / group] * (steps + 1e-4f));
    }
  }
}

TEST_CASE("an empty matrix is quantized to nothing") {
  for (const auto& [rows, cols] : {std::pair<std::size_t, std::size_t>{0, 0}, {0, 8}, {3, 0}}) {
    const auto q = quantize(matrix_view<const float>{nullptr, rows, cols}, int8_per_channel{});
    REQUIRE(q);
    CHECK(q->bytes().empty());
  }
}

TEST_CASE("strips hold whole tiles and whole packed rows, and at least one") {
  CHECK(strip_rows({}, 1, 1000, 2048, 4) == 2);
  CHECK(strip_rows({}, 2, 1000, 2048, 2) == 4);
  CHECK(strip_rows({}, 2, 1000, 1 << 20, 4) == 2);
  CHECK(strip_rows({}, 1, 3, 10, 4) == 3);
  CHECK(strip_rows({.granularity = tile::per_block(128, 128)}, 2, 1000, 4096, 2) == 128);
  CHECK(strip_rows({.granularity = tile::per_block(3, 3)}, 2, 1000, 1 << 20, 2) == 6);
  CHECK(strip_rows({.granularity = tile::per_tensor()}, 1, 1000, 4096, 4) == 1000);
}
