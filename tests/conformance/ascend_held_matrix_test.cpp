// A matrix that stays on the device is uploaded once, and nothing else changes.
#include "backends.hpp"

#include <qlib/backend/hold.hpp>
#include <qlib/quantize.hpp>

#include <doctest/doctest.h>

#include <limits>

namespace {

using namespace qlib;
using ascend_test::fake;
using ascend_test::session;
using law::loose_gaussian, law::loose_matrix;
using law::same_bits;

constexpr const auto& chips = law::ascend_chips;

}  // namespace

TEST_CASE_TEMPLATE("Ascend: a held matrix is uploaded once for its ranges and its codes, to the same results", T, float, bf16, f16) {
  for (const char* chip : chips)
    for (tile t : {tile::per_channel(), tile::per_group(33), tile{0, 1}}) {
      fake f{{{"SOC", chip}}};
      ascend::lane_options small;
      small.chunk_bytes = small.smallest_chunk_bytes = 64 << 10;  // several chunks
      session s{f, {0}, 1, small};
      constexpr std::size_t rows = 300, cols = 264;
      const auto x = loose_gaussian<T>(rows, cols, 7);
      const grid g = grid_of(t, rows, cols);
      const quant_spec spec{.granularity = t};
      const auto range_and_quantize = [&] {
        std::vector<range> seen(g.tiles(), range::empty());
        s->ranges(x.view(), t, std::span{seen});
        std::vector<float> scales(g.tiles());
        solve_qparams(seen, spec, {g, scales, {}});
        loose_matrix<std::int8_t> codes{rows, cols};
        s->quantize(x.view(), spec, {g, scales, {}}, codes.view());
        return std::pair{scales, codes.memory};
      };
      { const auto warm = hold(*s, x.view()); }  // all paths are proven
      const auto apart = range_and_quantize();
      s->forget_paths();
      const std::uint64_t before = f.uploaded();
      {
        const auto held = hold(*s, x.view());
        REQUIRE(held);
        CHECK(!hold(*s, x.view()));  // one a lane
        (void)range_and_quantize();  // f32 paths are proven
        const std::uint64_t again = f.uploaded();
        const auto together = range_and_quantize();
        CHECK(together == apart);
        CHECK(f.uploaded() - again <= rows * cols / 4);  // the scales of each chunk alone
        // Some of its rows too.
        std::vector<range> some(grid_of(t, 80, cols).tiles(), range::empty()), expected = some;
        const std::uint64_t now = f.uploaded();
        s->ranges(x.view().strip(160, 80), t, std::span{some});
        scalar_backend{}.ranges(x.view().strip(160, 80), t, std::span{expected});
        CHECK(same_bits(some, expected));
        CHECK(f.uploaded() == now);
      }
      const bool widened = !std::is_same_v<T, float> && (!std::is_same_v<T, bf16> || chip == chips[0]);
      CHECK(f.uploaded() - before >= rows * cols * (widened ? 2 : 4));
      const auto paths = s->paths();
      REQUIRE(!paths.empty());
      CHECK(paths.back() == (widened ? "hold: Cast to f32" : "hold: as f32"));
      // What changed since is uploaded again.
      loose_matrix<T> other = x;
      other.view()(3, 3) = law::narrowed<T>(9.0f);
      std::vector<range> seen(g.tiles(), range::empty()), expected = seen;
      s->ranges(matrix_view<const T>{other.view()}, t, std::span{seen});
      scalar_backend{}.ranges(matrix_view<const T>{other.view()}, t, std::span{expected});
      CHECK(same_bits(seen, expected));
      CHECK(s->finish());
    }
}

TEST_CASE("Ascend: quantization of a strip uploads it once: 16 bits an element, and the scales") {
  fake f;
  session s{f};
  constexpr std::size_t rows = 512, cols = 1024;
  const auto x = law::gaussian<bf16>(rows, cols, 3);
  const quant_spec spec{};
  std::vector<float> scales(rows), expected_scales(rows);
  std::vector<std::byte> out(rows * cols), expected(rows * cols);
  const auto make = [&](const auto& backend, std::vector<float>& to_scales, std::vector<std::byte>& to) {
    pipeline<minmax_observer, no_suppressor, rtn_rounder, int8_packer, std::remove_cvref_t<decltype(backend)>> p{};
    p.backend = backend;
    REQUIRE(p.run_strip(x.view(), spec, {}, {{rows, 1}, to_scales, {}}, nullptr, to.data()));
  };
  make(*s, scales, out);  // tests the paths
  const std::uint64_t before = f.uploaded();
  make(*s, scales, out);
  CHECK(f.uploaded() - before <= rows * cols * 2 + rows * 4 + 4096);
  make(scalar_backend{}, expected_scales, expected);
  CHECK(scales == expected_scales);
  std::size_t different = 0;
  for (std::size_t i = 0; i < out.size(); ++i) different += out[i] != expected[i];
  const ascend::numeric_bounds bounds = ascend::bounds_of(ascend::soc_family::a2, dtype::bf16);
  CHECK(different <= bounds.mismatches(bounds.static_rate, out.size()));
  CHECK(s->paths() == std::vector<std::string>{"ranges: Aminmax", "quantize: AscendQuantV3", "hold: Cast to f32"});
}

TEST_CASE("Ascend: what cannot be held is uploaded by each operation") {
  const auto ranges_are_right = [](const session& s, matrix_view<const float> x) {
    std::vector<range> seen(x.rows(), range::empty()), expected = seen;
    s->ranges(x, tile::per_channel(), std::span{seen});
    scalar_backend{}.ranges(x, tile::per_channel(), std::span{expected});
    CHECK(same_bits(seen, expected));
    CHECK(s->finish());
  };
  SUBCASE("a NaN") {
    fake f;
    session s{f};
    auto x = loose_gaussian<float>(40, 64, 3);
    x.view()(7, 5) = std::numeric_limits<float>::quiet_NaN();
    CHECK(!hold(*s, matrix_view<const float>{x.view()}));
    ranges_are_right(s, x.view());
  }
  SUBCASE("larger than is allowed") {
    fake f;
    ascend::lane_options options;
    options.largest_held_bytes = 1000;
    session s{f, {0}, 1, options};
    const auto x = loose_gaussian<float>(40, 64, 3);
    CHECK(!hold(*s, x.view()));
    ranges_are_right(s, x.view());
  }
  SUBCASE("no room on the device") {
    fake f{{{"MEMORY", std::to_string(600 << 10)}}};
    session s{f};
    const auto x = loose_gaussian<float>(1000, 200, 3);
    CHECK(!hold(*s, x.view()));
    ranges_are_right(s, x.view());
  }
  SUBCASE("no Cast: as f32") {
    fake f{{{"FAIL", "aclnnCastGetWorkspaceSize:1:561003"}}};
    session s{f};
    const auto x = loose_gaussian<bf16>(40, 64, 3);
    CHECK(hold(*s, x.view()));
    CHECK(s->paths() == std::vector<std::string>{"hold: as f32"});
  }
  SUBCASE("no device") {
    const auto x = loose_gaussian<float>(4, 4, 3);
    CHECK(!hold(ascend_backend{}, x.view()));
    CHECK(!hold(scalar_backend{}, x.view()));
  }
}
