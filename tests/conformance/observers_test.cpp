#include "backends.hpp"
#include "matrices.hpp"
#include "registered.hpp"

#include <qlib/backend/native.hpp>
#include <qlib/backend/scalar.hpp>
#include <qlib/core/parallel.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
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

TEST_CASE_TEMPLATE_DEFINE("merge is associative, and an observer that saw nothing changes nothing", O, observer_merge) {
  for (const tile t : all_tiles) {
    const O x = observed<O>(t, a), y = observed<O>(t, b), z = observed<O>(t, c);
    CHECK(same(merged(merged(x, y), z).ranges(), merged(x, merged(y, z)).ranges()));
    O nothing;
    nothing.reset(t, grid_of(t, a.rows, a.cols));
    CHECK(same(merged(x, nothing).ranges(), x.ranges()));
    CHECK(same(merged(nothing, x).ranges(), x.ranges()));
    CHECK(same(merged(nothing, merged(x, nothing)).ranges(), x.ranges()));
  }
}
TEST_CASE_TEMPLATE_APPLY(observer_merge, law::observers);

TEST_CASE_TEMPLATE_DEFINE("portions that the observer's law allows are merged to equal the whole", O, observer_parts) {
  constexpr merge_law merges = merge_law_of<O>;
  for (const tile t : all_tiles) {
    if constexpr (merges != merge_law::portions) {
      CHECK(same(merged(merged(observed<O>(t, a), observed<O>(t, b)), observed<O>(t, c)).ranges(), observed<O>(t, a, b, c).ranges()));
      CHECK(same(merged(observed<O>(t, a), observed<O>(t, b, c)).ranges(), observed<O>(t, a, b, c).ranges()));
    }
    if constexpr (merges == merge_law::elements || merges == merge_law::samples)
      CHECK(same(merged(observed<O>(t, a), observed<O>(t, b)).ranges(), merged(observed<O>(t, b), observed<O>(t, a)).ranges()));
  }
  if constexpr (merges == merge_law::elements)
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

TEST_CASE_TEMPLATE_DEFINE("portions observed on any number of threads and merged in order give the same ranges", O, observer_threads) {
  constexpr std::size_t portions = 6;
  std::vector<law::matrix<float>> samples;
  for (unsigned i = 0; i < 2 * portions; ++i) samples.push_back(law::gaussian(5, 12, 40 + i, 0.1f * static_cast<float>(i)));
  const auto sample = [&](std::size_t i) -> matrix_view<const float> { return samples[i].view(); };
  for (const tile t : {tile::per_tensor(), tile{0, 1}, tile{0, 4}}) {
    const auto by = [&](std::size_t threads) {
      std::vector<O> parts(portions);
      parallel_for(portions, threads, [&](std::size_t, std::size_t i) {
        parts[i].reset(t, grid_of(t, 5, 12));
        parts[i].observe(scalar_backend{}, sample(2 * i));
        parts[i].observe(scalar_backend{}, sample(2 * i + 1));
        return true;
      });
      O whole;
      whole.reset(t, grid_of(t, 5, 12));
      for (const O& part : parts) whole.merge(part);
      const auto ranges = whole.ranges();
      return std::vector<range>(ranges.begin(), ranges.end());
    };
    const std::vector<range> one = by(1);
    CHECK(same(by(2), one));
    CHECK(same(by(3), one));
  }
}
TEST_CASE_TEMPLATE_APPLY(observer_threads, law::observers);

TEST_CASE_TEMPLATE_DEFINE("every backend gives an observer the same ranges", O, observer_backends) {
  const auto by = [](const auto& backend, tile t) {
    O o;
    o.reset(t, grid_of(t, 19, 130));
    for (unsigned seed : {1u, 2u}) {
      const law::matrix<float> x = law::gaussian(19, 130, seed);
      o.observe(backend, x.view());
    }
    const auto ranges = o.ranges();
    return std::vector<range>(ranges.begin(), ranges.end());
  };
  constexpr tile tiles[] = {tile::per_tensor(), tile::per_channel(), tile::per_group(64), tile{0, 1}, tile{0, 13}};
  for (const tile t : tiles) CHECK(same(by(native_backend{}, t), by(scalar_backend{}, t)));
  if constexpr (O::name != "mse") {  // it weighs codes, and a device's are within one
    const ascend_test::fake f{{{"HISTC", "torch"}}};
    const ascend_test::session device{f};
    for (const tile t : tiles) CHECK(same(by(*device, t), by(scalar_backend{}, t)));
    CHECK(device->finish());
    CHECK(device.lines.empty());
    if (O::name == "percentile") return;  // it sorts values, which the CPU does
    const auto paths = device->paths();
    CHECK(std::ranges::any_of(paths, [](const std::string& line) { return !line.ends_with(": cpu"); }));
  }
}
TEST_CASE_TEMPLATE_APPLY(observer_backends, law::observers);

TEST_CASE_TEMPLATE_DEFINE("a sample without tokens changes nothing, and without samples ranges are empty", O, observer_empty) {
  for (const tile t : {tile::per_tensor(), tile{0, 1}, tile{0, 4}}) {
    O o;
    o.reset(t, grid_of(t, a.rows, a.cols));
    o.observe(scalar_backend{}, a.view().strip(0, 0));
    for (const range& r : o.ranges()) CHECK(r.min > r.max);
    o.observe(scalar_backend{}, a.view());
    o.observe(scalar_backend{}, a.view().strip(0, 0));
    CHECK(same(o.ranges(), observed<O>(t, a).ranges()));
  }
}
TEST_CASE_TEMPLATE_APPLY(observer_empty, law::observers);

TEST_CASE_TEMPLATE_DEFINE("a tile of one value, or of equal values, has that value as its range", O, observer_constants) {
  for (const float value : {0.0f, -0.0f, 3.5f, -2.25f, 1e-42f, 3e38f}) {
    CAPTURE(value);
    const law::matrix<float> x{3, 8, value}, one{1, 1, value};
    for (const O& o : {observed<O>(tile::per_tensor(), x), observed<O>(tile{0, 1}, x), observed<O>(tile::per_channel(), x, x),
                       observed<O>(tile::per_tensor(), one)})
      for (const range& r : o.ranges()) {
        if (O::name == "mse") {  // may shrink it, where 127.5 steps clip it less so
          CHECK(std::abs(r.max) <= (1 + 0x1p-22f) * std::abs(value));
          CHECK(std::abs(r.max) >= 0.8f * std::abs(value) - 1e-44f);
        } else if (O::name == "moving_average") {  // 0.99f + 0.01f is one only within half an ulp
          CHECK(std::abs(r.max - value) <= 0x1p-23f * std::abs(value));
        } else {
          CHECK(r.max == value);
        }
        CHECK(r.min == r.max);
      }
  }
}
TEST_CASE_TEMPLATE_APPLY(observer_constants, law::observers);

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
