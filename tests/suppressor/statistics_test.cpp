#include "../conformance/matrices.hpp"

#include <qlib/backend/scalar.hpp>
#include <qlib/observer/channel_statistics.hpp>

#include <doctest/doctest.h>

#include <cmath>

using namespace qlib;

namespace {

constexpr needs everything = needs::column_absmax | needs::column_range | needs::column_mean | needs::column_deviation | needs::inputs;

channel_statistics of(std::initializer_list<const law::matrix<float>*> samples, std::size_t most) {
  channel_statistics out{5, everything, most};
  for (const auto* s : samples) out.observe(scalar_backend{}, s->view());
  return out;
}

void check_equal(const channel_statistics& a, const channel_statistics& b) {
  for (const std::vector<float>& scale : {std::vector<float>{}, std::vector<float>{1, 2, 0.5f, 3, 7}}) {
    const auto x = a.after(scale), y = b.after(scale);
    CHECK(x.absmax == y.absmax);
    CHECK(x.low == y.low);
    CHECK(x.high == y.high);
    for (std::size_t c = 0; c < 5; ++c) CHECK(x.mean[c] == doctest::Approx(y.mean[c]).epsilon(1e-6));  // f64 sums, rounded to f32
    CHECK(x.sample_ranges == y.sample_ranges);
    CHECK(x.inputs == y.inputs);
    CHECK(x.view.deviation == y.view.deviation);
    CHECK(x.view.first_inputs == y.view.first_inputs);
    CHECK(x.view.tokens == y.view.tokens);
  }
}

}  // namespace

TEST_CASE("merging channel statistics of parts is associative, equals the whole, and nothing is neutral") {
  const law::matrix<float> a = law::gaussian(3, 5, 1), b = law::gaussian(4, 5, 2, 0.5f), c = law::gaussian(2, 5, 3, -1);
  for (const std::size_t most : {100, 4, 0}) {
    const channel_statistics whole = of({&a, &b, &c}, most);
    channel_statistics left = of({&a}, most), right = of({&b}, most), empty = of({}, most);
    left.merge(of({&b}, most));
    left.merge(of({&c}, most));
    right.merge(of({&c}, most));
    channel_statistics other = of({&a}, most);
    other.merge(right);
    check_equal(left, whole);
    check_equal(other, whole);
    empty.merge(whole);
    check_equal(empty, whole);
    other.merge(of({}, most));
    check_equal(other, whole);
  }
}

TEST_CASE("the deviation is that of a sample around the middles seen until then, and follows a division of the channels") {
  const law::matrix<float> a = law::gaussian(6, 5, 4), b = law::gaussian(7, 5, 5, 2);
  for (const std::vector<float>& scale : {std::vector<float>(5, 1.0f), std::vector<float>{1, 2, 0.5f, 3, 7}}) {
    std::vector<double> low(5, 1e30), high(5, -1e30);
    double expected = 0;
    for (const auto* s : {&a, &b}) {
      double sum = 0, squares = 0;
      for (std::size_t i = 0; i < s->elements.size(); ++i) {
        low[i % 5] = std::min(low[i % 5], static_cast<double>(s->elements[i] / scale[i % 5]));
        high[i % 5] = std::max(high[i % 5], static_cast<double>(s->elements[i] / scale[i % 5]));
      }
      for (std::size_t i = 0; i < s->elements.size(); ++i) {
        const double v = s->elements[i] / scale[i % 5] - (low[i % 5] + high[i % 5]) / 2;
        sum += v;
        squares += v * v;
      }
      const double n = static_cast<double>(s->elements.size());
      expected = std::max(expected, std::sqrt((squares - sum * sum / n) / (n - 1)));
    }
    CHECK(of({&a, &b}, 10).after(scale).view.deviation == doctest::Approx(expected).epsilon(1e-5));
  }
}

TEST_CASE("tokens of the first sample are counted among those that are kept") {
  const law::matrix<float> a = law::gaussian(6, 5, 6), b = law::gaussian(7, 5, 7);
  CHECK(of({&a, &b}, 100).after({}).view.first_inputs == 6);
  CHECK(of({&a, &b}, 4).after({}).view.first_inputs == 4);
  channel_statistics thinned{5, everything, 100, 4};
  thinned.observe(scalar_backend{}, a.view());
  thinned.observe(scalar_backend{}, b.view());
  const auto got = thinned.after({});
  CHECK(got.view.first_inputs == 2);   // tokens 0 and 4
  CHECK(got.view.inputs.rows() == 4);  // and 8 and 12
}
