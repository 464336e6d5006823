#include "matrices.hpp"
#include "registered.hpp"

#include <qlib/backend/scalar.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

namespace {

using namespace qlib;

constexpr tile all_tiles[] = {tile::per_tensor(),    tile::per_channel(),      tile::per_group(1), tile::per_group(4), tile::per_group(5), {0, 1},
                              tile::per_block(2, 3), tile::per_block(100, 100)};

bool same(std::span<const range> a, std::span<const range> b) {
  return std::ranges::equal(
      a, b, [](const range& x, const range& y) { return x.defined() == y.defined() && (!x.defined() || (x.min == y.min && x.max == y.max)); });
}

template <class O, class First, class... Rest>
O observed(tile t, const First& first, const Rest&... rest) {
  O o;
  o.reset(t, grid_of(t, first.rows, first.cols));
  o.observe(scalar_backend{}, first.view());
  (o.observe(scalar_backend{}, rest.view()), ...);
  return o;
}

template <class O>
O merged(O a, const O& b) {
  a.merge(b);
  return a;
}

const law::matrix<float> a = law::gaussian(7, 20, 1), b = law::gaussian(7, 20, 2, 0.5f), c = law::gaussian(7, 20, 3, -2.0f);

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("an observer has one range for each tile, and none is empty", O, observer_tiles) {
  for (const tile t : all_tiles) {
    const O o = observed<O>(t, a);
    REQUIRE(o.ranges().size() == grid_of(t, a.rows, a.cols).tiles());
    for (const range& r : o.ranges()) CHECK(r.min <= r.max);
  }
}
TEST_CASE_TEMPLATE_APPLY(observer_tiles, law::observers);

TEST_CASE_TEMPLATE_DEFINE("merge is associative and does not depend on order", O, observer_merge) {
  for (const tile t : all_tiles) {
    const O x = observed<O>(t, a), y = observed<O>(t, b), z = observed<O>(t, c);
    CHECK(same(merged(merged(x, y), z).ranges(), merged(x, merged(y, z)).ranges()));
    CHECK(same(merged(x, y).ranges(), merged(y, x).ranges()));
  }
}
TEST_CASE_TEMPLATE_APPLY(observer_merge, law::observers);

TEST_CASE_TEMPLATE_DEFINE("observing parts and merging equals observing the whole", O, observer_parts) {
  for (const tile t : all_tiles)
    CHECK(same(merged(merged(observed<O>(t, a), observed<O>(t, b)), observed<O>(t, c)).ranges(), observed<O>(t, a, b, c).ranges()));
  for (const tile t : {tile::per_tensor(), tile{0, 1}, tile{0, 4}})  // tiles over all rows: tokens may come in any portions
    for (std::size_t cut = 1; cut < a.rows; ++cut) {
      O upper, lower;
      upper.reset(t, grid_of(t, a.rows, a.cols));
      lower.reset(t, grid_of(t, a.rows, a.cols));
      upper.observe(scalar_backend{}, a.view().strip(0, cut));
      lower.observe(scalar_backend{}, a.view().strip(cut, a.rows - cut));
      CHECK(same(merged(upper, lower).ranges(), observed<O>(t, a).ranges()));
    }
}
TEST_CASE_TEMPLATE_APPLY(observer_parts, law::observers);

TEST_CASE_TEMPLATE_DEFINE("reset forgets everything, even when the tiles change", O, observer_reset) {
  for (const tile first : all_tiles)
    for (const tile second : all_tiles) {
      O o = observed<O>(first, a, c);
      o.reset(second, grid_of(second, b.rows, b.cols));
      o.observe(scalar_backend{}, b.view());
      CHECK(same(o.ranges(), observed<O>(second, b).ranges()));
    }
}
TEST_CASE_TEMPLATE_APPLY(observer_reset, law::observers);

TEST_CASE_TEMPLATE_DEFINE("a NaN or an infinity makes its tile undefined, and no other", O, observer_non_finite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()})
    for (const tile t : all_tiles) {
      law::matrix<float> x = a;
      x.view()(4, 6) = bad;
      const tile shape = resolve(t, x.rows, x.cols);
      const std::size_t hit = 4 / shape.rows * grid_of(t, x.rows, x.cols).cols + 6 / shape.cols;
      for (const O& o : {observed<O>(t, x), observed<O>(t, x, b), observed<O>(t, b, x), merged(observed<O>(t, b), observed<O>(t, x))})
        for (std::size_t i = 0; i < o.ranges().size(); ++i) REQUIRE(o.ranges()[i].defined() == (i != hit));
    }
}
TEST_CASE_TEMPLATE_APPLY(observer_non_finite, law::observers);

TEST_CASE_TEMPLATE_DEFINE("16-bit elements are observed as the floats that they are", O, observer_elements) {
  const auto check = [](auto narrow) {
    law::matrix<float> wide{narrow.rows, narrow.cols};
    std::ranges::transform(narrow.elements, wide.elements.begin(), [](auto v) { return to_float(v); });
    for (const tile t : all_tiles) CHECK(same(observed<O>(t, narrow).ranges(), observed<O>(t, wide).ranges()));
  };
  check(law::gaussian<bf16>(5, 9, 4));
  check(law::gaussian<f16>(5, 9, 5));
}
TEST_CASE_TEMPLATE_APPLY(observer_elements, law::observers);

TEST_CASE("minmax finds the extremes of each tile") {
  const law::matrix<float> x = [] {
    law::matrix<float> m{2, 4};
    m.elements = {1, -2, 3, 4, -5, 6, 0, -8};
    return m;
  }();
  const auto extremes = [&](tile t) {
    const auto o = observed<minmax_observer>(t, x);
    std::vector<float> out;
    for (const range& r : o.ranges()) out.insert(out.end(), {r.min, r.max});
    return out;
  };
  CHECK(extremes(tile::per_tensor()) == std::vector<float>{-8, 6});
  CHECK(extremes(tile::per_channel()) == std::vector<float>{-2, 4, -8, 6});
  CHECK(extremes(tile::per_group(2)) == std::vector<float>{-2, 1, 3, 4, -5, 6, -8, 0});
  CHECK(extremes(tile::per_block(2, 3)) == std::vector<float>{-5, 6, -8, 4});
}
