// What each observer promises beyond the laws of tests/conformance/observers_test.cpp.
#include "../conformance/matrices.hpp"

#include <qlib/backend/native.hpp>
#include <qlib/registry.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace {

using namespace qlib;

constexpr float inf = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();

law::matrix<float> row(std::vector<float> values) {
  law::matrix<float> m{1, values.size()};
  m.elements = std::move(values);
  return m;
}

template <class O, class... Samples>
O observed(O o, tile t, const law::matrix<float>& first, const Samples&... rest) {
  o.reset(t, grid_of(t, first.rows, first.cols));
  o.observe(native_backend{}, first.view());
  (o.observe(native_backend{}, rest.view()), ...);
  return o;
}

bool same(std::span<const range> a, std::span<const range> b) {
  return std::ranges::equal(
      a, b, [](const range& x, const range& y) { return x.defined() == y.defined() && (!x.defined() || (x.min == y.min && x.max == y.max)); });
}

double total_of(const growing_histogram& h) {
  double total = 0;
  for (double count : h.counts()) total += count;
  return total;
}

/// Percentiles by a full sort.
range sorted_percentiles(std::vector<float> v, double lower, double upper) {
  std::sort(v.begin(), v.end());
  const auto at = [&](double percent) {
    const double place = percent / 100 * static_cast<double>(v.size() - 1);
    const auto k = static_cast<std::size_t>(place);
    const double weight = place - static_cast<double>(k);
    return static_cast<float>(weight == 0 ? v[k] : v[k] + weight * (static_cast<double>(v[k + 1]) - v[k])) + 0.0f;
  };
  return {at(lower), at(upper)};
}

}  // namespace

TEST_CASE("the mean of extremes counts samples, not tokens, and merges as sums and counts") {
  const auto a = row({-1, 2, .5f, 3}), b = row({-2, 1}), c = row({0, 10});
  const minmax_observer mean{{.running = false}};
  const auto ab = observed(mean, tile::per_tensor(), a, b);
  CHECK(ab.ranges()[0].min == -1.5f);
  CHECK(ab.ranges()[0].max == 2.0f);
  auto merged = observed(mean, tile::per_tensor(), a);
  merged.merge(observed(mean, tile::per_tensor(), b, c));
  CHECK(same(merged.ranges(), observed(mean, tile::per_tensor(), a, b, c).ranges()));
  CHECK(merged.ranges()[0].max == 14.0f / 3);
}

TEST_CASE("the range of samples per head is found by a tile of head_dim columns") {
  law::matrix<float> x{3, 8};
  for (std::size_t i = 0; i < x.elements.size(); ++i) x.elements[i] = static_cast<float>(i);
  const auto o = observed(minmax_observer{}, tile{0, 4}, x);
  REQUIRE(o.ranges().size() == 2);
  CHECK(o.ranges()[0].max == 19);
  CHECK(o.ranges()[1].min == 4);
}

TEST_CASE("the recall window is the narrowest, the first of equals, and unites over samples") {
  const auto window = [](double ratio, std::vector<float> values) {
    return observed(recall_window_observer{{.ratio = ratio}}, tile::per_tensor(), row(std::move(values))).ranges()[0];
  };
  range r = window(0.8, {5, 1, 2, 3, 100, -50, 2.5f, 2.2f, 1.5f, 4});
  CHECK(r.min == 1);
  CHECK(r.max == 5);
  r = window(0.5, {0, 1, 2, 3});
  CHECK(r.min == 0);
  CHECK(r.max == 1);
  r = window(0.01, {7, 8});  // one value at least
  CHECK(r.min == 7);
  CHECK(r.max == 7);
  const auto both = observed(recall_window_observer{{.ratio = 0.75}}, tile{0, 4}, row({1, 2, 3, 90, 0, 0, 0, 5}), row({9, 8, 7, -90, 1, 1, 1, 9}));
  CHECK(both.ranges()[0].min == 1);
  CHECK(both.ranges()[0].max == 9);
  CHECK(both.ranges()[1].max == 1);
  CHECK(!observed(recall_window_observer{{.ratio = 0.5}}, tile::per_tensor(), row({1, not_a_number, 2, 3})).ranges()[0].defined());
}

TEST_CASE("the recall window of many values is that of all of them in order") {
  std::mt19937 random{3};
  for (const std::size_t n : {3, 10, 1000, 1001, 20011})
    for (const double ratio : {0.3, 0.75, 0.99, 0.9999}) {
      CAPTURE(n);
      CAPTURE(ratio);
      std::vector<float> values(n);
      for (float& v : values) v = static_cast<float>(static_cast<int>(random() % 4001) - 2000) * static_cast<float>(random() % 50 == 0 ? 7 : 1);
      std::vector<float> sorted = values;
      std::sort(sorted.begin(), sorted.end());
      const auto held = std::max<std::size_t>(1, static_cast<std::size_t>(ratio * static_cast<double>(n)));
      std::size_t best = 0;
      for (std::size_t i = 0; i + held <= n; ++i)
        if (sorted[i + held - 1] - sorted[i] < sorted[best + held - 1] - sorted[best]) best = i;
      const range got = observed(recall_window_observer{{.ratio = ratio}}, tile::per_tensor(), row(std::move(values))).ranges()[0];
      CHECK(got.min == sorted[best]);
      CHECK(got.max == sorted[best + held - 1]);
    }
}

TEST_CASE("percentiles equal those of a full sort, for all kinds of large data and any place") {
  const std::size_t rows = 96, cols = 1024;
  std::vector<std::pair<const char*, law::matrix<float>>> kinds;
  kinds.emplace_back("gaussian", law::gaussian(rows, cols, 1));
  law::matrix<float> x = law::gaussian(rows, cols, 2);
  for (std::size_t i = 0; i < x.elements.size(); ++i)
    if (i % cols % 256 == 9) x.elements[i] *= 30;
  kinds.emplace_back("outlier columns", x);
  for (float& v : x.elements) v = std::max(0.0f, v);
  kinds.emplace_back("half zeros", x);
  for (float& v : x.elements) v = std::nearbyint(v * 100) / 100;
  kinds.emplace_back("few levels", x);
  std::sort(x.elements.begin(), x.elements.end());
  kinds.emplace_back("sorted", x);
  for (std::size_t i = 0; i < x.elements.size(); ++i) x.elements[i] = i % 50000 == 3 ? -1.0f : 0.0f;
  kinds.emplace_back("almost all zero", x);
  for (std::size_t i = 0; i < x.elements.size(); ++i) x.elements[i] = i / cols == 50 ? static_cast<float>(i) : 0.001f * static_cast<float>(i % 7);
  kinds.emplace_back("one row of outliers", x);
  constexpr std::pair<double, double> percentiles[] = {{0.1, 99.9}, {0.0, 100.0}, {0.001, 99.9999}, {1.0, 97.0}, {25.0, 75.0}, {50.0, 50.0}};
  for (const auto& kind : kinds)
    for (const auto& p : percentiles)
      for (bool keep : {false, true}) {
        CAPTURE(kind.first);
        CAPTURE(p.first);
        CAPTURE(keep);
        const auto o = observed(percentile_observer{{.lower = p.first, .upper = p.second, .keep_values = keep}}, tile::per_tensor(), kind.second);
        const range expected = sorted_percentiles(kind.second.elements, p.first, p.second);
        CHECK(o.ranges()[0].min == expected.min);
        CHECK(o.ranges()[0].max == expected.max);
      }
}

TEST_CASE("the k-th smallest of many values is that of a sort, whatever their spread") {
  std::mt19937 random{3};
  for (int kind = 0; kind < 5; ++kind)
    for (std::size_t n : {1, 100, 4096, 5000, 70000}) {
      std::vector<float> values(n);
      for (std::size_t i = 0; i < n; ++i) {
        const float u = static_cast<float>(random()) * 0x1p-32f - 0.5f;
        values[i] = kind == 0   ? u
                    : kind == 1 ? std::ldexp(u, static_cast<int>(random() % 250) - 125)  // all exponents
                    : kind == 2 ? std::nearbyint(u * 4)                                  // ties, zeros of both signs
                    : kind == 3 ? 7.0f                                                   // one value
                                : 1.0f + u * 0x1p-20f;                                   // a few patterns
      }
      std::vector<float> sorted = values;
      std::sort(sorted.begin(), sorted.end());
      for (std::size_t k : {std::size_t{0}, n / 1000, n / 3, n / 2, n - 1}) {
        CAPTURE(kind);
        CAPTURE(n);
        CAPTURE(k);
        CHECK(detail::kth_smallest(values, k) == sorted[k]);
      }
    }
}

TEST_CASE("percentiles of samples that were merged are those of all their values") {
  const auto a = law::gaussian(40, 1000, 1), b = law::gaussian(70, 1000, 2, 3.0f);
  std::vector<float> all = a.elements;
  all.insert(all.end(), b.elements.begin(), b.elements.end());
  auto o = observed(percentile_observer{}, tile::per_tensor(), a);
  o.merge(observed(percentile_observer{}, tile::per_tensor(), b));
  const range expected = sorted_percentiles(all, 0.1, 99.9);
  CHECK(o.ranges()[0].min == expected.min);
  CHECK(o.ranges()[0].max == expected.max);
}

TEST_CASE("a single NaN or infinity anywhere in a large tile makes its percentiles undefined") {
  for (float bad : {not_a_number, inf, -inf})
    for (std::size_t at : {std::size_t{0}, std::size_t{77777}, std::size_t{96 * 1024 - 1}})
      for (bool keep : {false, true}) {
        law::matrix<float> x = law::gaussian(96, 1024, 5);
        x.elements[at] = bad;
        CHECK(!observed(percentile_observer{{.keep_values = keep}}, tile::per_tensor(), x).ranges()[0].defined());
      }
}

TEST_CASE("a second sample without kept values has no exact percentile and is undefined") {
  const percentile_observer once{{.keep_values = false}};
  const auto a = law::gaussian(3, 50, 1), b = law::gaussian(3, 50, 2);
  CHECK(observed(once, tile::per_tensor(), a).ranges()[0].defined());
  CHECK(!observed(once, tile::per_tensor(), a, b).ranges()[0].defined());
  auto merged = observed(once, tile::per_tensor(), a);
  merged.merge(observed(once, tile::per_tensor(), b));
  CHECK(!merged.ranges()[0].defined());
}

TEST_CASE("samples of equal values leave a histogram as it is") {
  const auto x = law::gaussian(30, 40, 1), constant = row({9, 9, 9});
  const histogram_observer h;
  CHECK(same(observed(h, tile::per_tensor(), x, constant).ranges(), observed(h, tile::per_tensor(), x).ranges()));
  CHECK(same(observed(h, tile::per_tensor(), constant, x).ranges(), observed(h, tile::per_tensor(), x).ranges()));
  const auto constants = observed(h, tile::per_tensor(), constant, row({-1, -1}));
  CHECK(constants.ranges()[0].min == -1);
  CHECK(constants.ranges()[0].max == 9);
}

TEST_CASE("a histogram keeps every count while its limits grow by any factor, and its range lies within the data's") {
  for (float factor : {1.5f, 3.0f, 1e3f, 1e9f, 1e30f}) {
    CAPTURE(factor);
    law::matrix<float> x = law::gaussian(20, 20, 1), y = x;
    for (float& v : y.elements) v *= factor;
    for (const auto& o : {observed(histogram_observer{}, tile::per_tensor(), x, y), observed(histogram_observer{}, tile::per_tensor(), y, x)}) {
      CHECK(total_of(o.histogram_of(0)) == doctest::Approx(800).epsilon(1e-9));
      const auto [low, high] = std::ranges::minmax(y.elements);
      const float bin = (high - low) / 2048;
      CHECK(o.ranges()[0].min >= low);
      CHECK(o.ranges()[0].max <= high + 16 * bin);
      CHECK(o.ranges()[0].min < o.ranges()[0].max);
    }
  }
}

TEST_CASE("the widest limits that f32 has still give a histogram") {
  const float most = std::numeric_limits<float>::max();
  const auto o = observed(histogram_observer{}, tile::per_tensor(), row({-most, -1, 0, 1, most}), row({-most / 2, most}));
  CHECK(total_of(o.histogram_of(0)) == 7);
  CHECK(o.ranges()[0].defined());
}

TEST_CASE("a merged histogram has all counts, each at most one bin of its portion away from where the whole has it") {
  const auto a = law::gaussian(200, 100, 1), b = law::gaussian(200, 100, 2, 0.2f);
  auto o = observed(histogram_observer{}, tile::per_tensor(), a);
  o.merge(observed(histogram_observer{}, tile::per_tensor(), b));
  const growing_histogram merged = o.histogram_of(0), whole = observed(histogram_observer{}, tile::per_tensor(), a, b).histogram_of(0),
                          portion = observed(histogram_observer{}, tile::per_tensor(), b).histogram_of(0);
  CHECK(total_of(merged) == doctest::Approx(40000).epsilon(1e-12));
  CHECK(merged.limits().min == whole.limits().min);
  CHECK(merged.limits().max == whole.limits().max);
  const double one_bin = *std::ranges::max_element(portion.counts());
  double below_merged = 0, below_whole = 0;
  for (std::size_t i = 0; i < merged.counts().size(); ++i) {
    below_merged += merged.counts()[i];
    below_whole += whole.counts()[i];
    REQUIRE(std::fabs(below_merged - below_whole) <= one_bin + 1e-6);
  }
}

TEST_CASE("auto_mixed takes the histogram up to its threshold, and min-max above") {
  const auto near = law::gaussian(40, 64, 1);
  law::matrix<float> far = near;
  far.elements[700] = 100;
  far.elements[701] = -100;  // in another channel: the shift of its own channel alone grows
  const auto calm = observed(auto_mixed_observer{}, tile::per_tensor(), near);
  CHECK(calm.uses_histogram());
  CHECK(same(calm.ranges(), observed(histogram_observer{{.upsample = 128}}, tile::per_tensor(), near).ranges()));
  const auto strict = observed(auto_mixed_observer{{.threshold = calm.score() * 0.999}}, tile::per_tensor(), near, far);
  CHECK(!strict.uses_histogram());
  CHECK(same(strict.ranges(), observed(minmax_observer{{.running = false}}, tile::per_tensor(), near, far).ranges()));
}

TEST_CASE("the range score looks at the first samples only, takes the largest deviation, and merges in order") {
  const auto a = law::gaussian(20, 8, 1), b = law::gaussian(20, 8, 2, 1.0f), c = law::gaussian(20, 8, 3, 40.0f);
  const auto of = [](std::size_t samples, auto&... x) {
    range_score s{samples};
    (s.observe(native_backend{}, std::as_const(x).view()), ...);
    return s;
  };
  CHECK(of(2, a, b, c).score() == of(2, a, b).score());
  CHECK(of(3, a, b, c).score() != of(2, a, b).score());
  range_score merged = of(3, a);
  merged.merge(of(3, b, c));
  CHECK(merged.score() == of(3, a, b, c).score());
  const law::matrix<float> zeros{4, 4}, constant{4, 4, 2.0f};
  CHECK(of(5).score() == 0);
  CHECK(of(5, zeros).score() == 0);
  CHECK(of(5, constant).score() == 2);  // sigma 0: the numerator
  law::matrix<float> broken = a;
  broken.elements[3] = not_a_number;
  CHECK(std::isnan(of(5, broken).score()));
}

TEST_CASE("the moving average starts at the first sample and follows the others") {
  const auto o = observed(moving_average_observer{{.averaging_constant = 0.5}}, tile{0, 1}, row({1, -4}), row({3, 4}), row({5, 0}));
  CHECK(o.ranges()[0].min == 3.5f);
  CHECK(o.ranges()[1].max == 0.0f);
  CHECK(!observed(moving_average_observer{}, tile{0, 1}, row({1, 2}), row({inf, 3}), row({1, 2})).ranges()[0].defined());
}

TEST_CASE("the MSE range never has a larger error than min-max, and patience only ends the search earlier") {
  const auto w = law::gaussian(6, 96, 11);
  const quant_spec spec{.num_bits = 4, .granularity = tile::per_channel(), .rule = scale_rule::compressed_tensors};
  const auto error = [&](std::span<const range> ranges) {
    double sum = 0;
    for (std::size_t r = 0; r < w.rows; ++r) {
      const scale_and_zero q = solve_qparams(ranges[r], spec);
      for (std::size_t c = 0; c < w.cols; ++c) {
        const float x = w.elements[r * w.cols + c];
        sum += std::pow(std::fabs(static_cast<double>(static_cast<float>(quantize_value(x, q.scale, 0, spec)) * q.scale) - x), 2.4);
      }
    }
    return sum;
  };
  const double full = error(observed(mse_observer{{.spec = spec}}, tile::per_channel(), w).ranges());
  const double patient = error(observed(mse_observer{{.spec = spec, .patience = 5}}, tile::per_channel(), w).ranges());
  const double extremes = error(observed(minmax_observer{}, tile::per_channel(), w).ranges());
  CHECK(full < extremes);
  CHECK(full <= patient * (1 + 1e-6));
  CHECK(patient <= extremes * (1 + 1e-6));
}
