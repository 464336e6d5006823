#include "flatten_inputs.hpp"
#include "matrices.hpp"
#include "registered.hpp"

#include <doctest/doctest.h>
#include <qlib/quantize.hpp>
#include <qlib/suppressor/fold.hpp>
#include <qlib/suppressor/search_cost.hpp>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <type_traits>

namespace {

using namespace qlib;

/// The registry's, and the example of docs/add-a-policy.md.
using suppressors = decltype(std::tuple_cat(law::suppressors{}, std::tuple<example::flatten_inputs>{}));

/// Inputs of a layer with a channel far above the others, and what calibration says of them.
struct layer {
  law::matrix<float> inputs = law::gaussian(16, 8, 1);
  law::matrix<float> weights = law::gaussian(4, 8, 2);
  law::matrix<float> ranges{2, 8};
  std::vector<float> absmax = std::vector<float>(8, 0.0f), low = absmax, high = absmax, mean = absmax;
  law::matrix<float> gram{8, 8};
  float deviation = 0.3f;

  /// `multiple` of the inputs; channel c is what channel (c + rotation) % 8 of the plain layer is; `dead` is one that is always zero.
  explicit layer(float multiple = 1, std::size_t rotation = 0, std::size_t dead = 8) {
    for (std::size_t t = 0; t < 16; ++t) inputs.view()(t, 3) *= 64;
    const auto turn = [&](law::matrix<float>& m) {
      for (std::size_t r = 0; r < m.rows; ++r) std::rotate(m.view().row(r), m.view().row(r) + rotation, m.view().row(r) + 8);
    };
    turn(inputs);
    turn(weights);
    for (std::size_t t = 0; t < 16; ++t)
      for (std::size_t c = 0; c < 8; ++c) inputs.view()(t, c) *= c == dead ? 0.0f : multiple;
    for (std::size_t t = 0; t < 16; ++t)
      for (std::size_t i = 0; i < 8; ++i) {
        const float x = inputs.view()(t, i);
        absmax[i] = std::max(absmax[i], std::abs(x));
        low[i] = std::min(low[i], x);
        high[i] = std::max(high[i], x);
        mean[i] += std::abs(x) / 16;
        for (std::size_t j = 0; j < 8; ++j) gram.view()(i, j) += inputs.view()(t, i) * inputs.view()(t, j);
      }
    for (std::size_t i = 0; i < 8; ++i) ranges.view()(0, i) = low[i], ranges.view()(1, i) = high[i];
    deviation *= multiple;
  }
  statistics_view stats() const {
    return {.column_absmax = absmax,
            .column_min = low,
            .column_max = high,
            .column_mean = mean,
            .sample_ranges = ranges.view(),
            .deviation = deviation,
            .inputs = inputs.view(),
            .first_inputs = 16,
            .gram = gram.view(),
            .tokens = 16};
  }
};

template <class S>
transform solved(const layer& l) {
  const matrix_view<const float> weights[] = {l.weights.view()};
  const smoothing_group group{.weights = weights, .weight_spec = int8_per_channel{}, .input_spec = quant_spec{.granularity = tile::per_tensor()}};
  return S{}.solve(group, l.stats());
}

std::vector<float> scales(const transform& t) { return t.scale.empty() ? std::vector<float>(8, 1.0f) : t.scale; }

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("a transform has one positive finite scale for each channel, or is the identity", S, suppressor_scales) {
  const transform t = solved<S>(layer{});
  if (t.identity()) return;
  REQUIRE(t.scale.size() == 8);
  for (const float s : t.scale) CHECK((std::isfinite(s) && s > 0));
}
TEST_CASE_TEMPLATE_APPLY(suppressor_scales, suppressors);

TEST_CASE_TEMPLATE_DEFINE("folding keeps the layer's function", S, suppressor_function) {
  const layer l;
  const transform t = solved<S>(l);
  law::matrix<float> folded = l.weights;
  fold_into_reader(t, {}, folded.view());
  for (std::size_t token = 0; token < 16; ++token)
    for (std::size_t row = 0; row < 4; ++row) {
      double before = 0, after = 0, magnitude = 0;
      for (std::size_t i = 0; i < 8; ++i) {
        const double x = l.inputs.view()(token, i), scaled = t.identity() ? x : x / t.scale[i];
        before += x * l.weights.view()(row, i);
        after += scaled * folded.view()(row, i);
        magnitude += std::abs(x * l.weights.view()(row, i));
      }
      REQUIRE(std::abs(before - after) <= 0x1p-24 * magnitude);  // each product carries the one rounding of its folded weight
    }
}
TEST_CASE_TEMPLATE_APPLY(suppressor_function, suppressors);

TEST_CASE_TEMPLATE_DEFINE("a dead channel spoils no scale", S, suppressor_dead) {
  for (const std::size_t dead : {3, 0})
    for (const float s : scales(solved<S>(layer{1, 0, dead}))) CHECK((std::isfinite(s) && s > 0));
}
TEST_CASE_TEMPLATE_APPLY(suppressor_dead, suppressors);

TEST_CASE_TEMPLATE_DEFINE("the order of channels does not matter", S, suppressor_order) {
  std::vector<float> expected = scales(solved<S>(layer{}));
  std::rotate(expected.begin(), expected.begin() + 3, expected.end());
  const std::vector<float> got = scales(solved<S>(layer{1, 3}));
  for (std::size_t c = 0; c < 8; ++c) CHECK(got[c] == doctest::Approx(expected[c]).epsilon(1e-6));  // sums in another order
}
TEST_CASE_TEMPLATE_APPLY(suppressor_order, suppressors);

TEST_CASE_TEMPLATE_DEFINE("inputs four times as large have scales in the same proportions, if all channels are scaled", S, suppressor_units) {
  // threshold_smooth and cbq_mask leave channels at 1: only the mask's scale has no unit.
  // Where alphas are nearly as good as each other (exponent_slack) the last bits of the scales may choose.
  if constexpr (std::is_same_v<S, threshold_smooth> || std::is_same_v<S, outlier_suppression_lite>) return;
  const std::vector<float> one = scales(solved<S>(layer{})), four = scales(solved<S>(layer{4}));
  for (std::size_t c = 0; c < 8; ++c) CHECK(four[c] / four[0] == doctest::Approx(one[c] / one[0]).epsilon(1e-5));
  if constexpr (std::is_same_v<S, cbq_mask> || std::is_same_v<S, awq>) CHECK(four[0] == doctest::Approx(one[0]).epsilon(1e-5));
}
TEST_CASE_TEMPLATE_APPLY(suppressor_units, suppressors);

TEST_CASE_TEMPLATE_DEFINE("quantize solves, folds and quantizes what is folded, and says what inputs are divided by", S, suppressor_quantize) {
  const layer l;
  const matrix_view<const float> weight = l.weights.view();
  const transform t = S{}.solve(smoothing_group{.weights = std::span{&weight, 1}, .weight_spec = int8_per_channel{}}, l.stats());
  law::matrix<float> folded = l.weights;
  fold_into_reader(t, {}, folded.view());
  const auto expected = quantize(matrix_view<const float>{folded.view()}, int8_per_channel{});
  const auto got = quantize<minmax_observer, rtn_rounder, int8_packer, S>(weight, int8_per_channel{}, l.stats());
  REQUIRE(expected);
  REQUIRE(got);
  CHECK(std::ranges::equal(got->bytes(), expected->bytes()));
  CHECK(std::ranges::equal(got->scales(), expected->scales()));
  CHECK(got->suppression().scale == t.scale);

  const auto lacking = quantize<minmax_observer, rtn_rounder, int8_packer, S>(weight, int8_per_channel{});
  CHECK(static_cast<bool>(lacking) == (S::needs == needs::nothing));
  if (!lacking) CHECK(lacking.error().problem.find(std::string{S::name} + " needs column_") == 0);
  if (!lacking) CHECK(lacking.error().problem.ends_with(" of 8 columns"));
}
TEST_CASE_TEMPLATE_APPLY(suppressor_quantize, suppressors);

TEST_CASE_TEMPLATE_DEFINE("a suppressor that says that it tries nothing reads no inputs, and one that tries some asks for them", S, suppressor_cost) {
  const layer l;
  if (tried_by(S{}) > 0) {
    CHECK(includes(S::needs, needs::inputs));
    return;
  }
  const matrix_view<const float> weights[] = {l.weights.view()};
  statistics_view without = l.stats();
  without.inputs = {};
  const smoothing_group group{.weights = weights, .weight_spec = int8_per_channel{}, .input_spec = quant_spec{.granularity = tile::per_tensor()}};
  CHECK(S{}.solve(group, without).scale == solved<S>(l).scale);
}
TEST_CASE_TEMPLATE_APPLY(suppressor_cost, suppressors);

TEST_CASE("given exponents leave nothing to try") {
  CHECK(tried_by(flex_smooth{}) == 42);
  CHECK(tried_by(flex_smooth{{.alpha = 0.5, .beta = 0.5}}) == 0);
  CHECK(tried_by(smooth_quant{}) == 0);
  CHECK(tried_by(smooth_quant{{.alpha = std::nullopt}}) == 14);
  CHECK(tried_by(awq{{.n_grid = 7}}) == 7);
  CHECK(tried_by(iterative_smooth{}) == 0);
}

TEST_CASE("no_suppressor is the identity") {
  const layer l;
  CHECK(solved<no_suppressor>(l).identity());
  law::matrix<float> folded = l.weights;
  fold_into_reader(solved<no_suppressor>(l), {}, folded.view());
  CHECK(folded.elements == l.weights.elements);
}

TEST_CASE("the suppressor of docs/add-a-policy.md is the one that is held to the laws here") {
  const auto text_of = [](const char* path) {
    std::ifstream file{std::string{QLIB_SOURCE_DIR} + path};
    return std::string{std::istreambuf_iterator<char>{file}, {}};
  };
  const std::string header = text_of("/tests/conformance/flatten_inputs.hpp"), mark = "// [flatten_inputs]\n";
  const std::size_t begin = header.find(mark) + mark.size(), end = header.rfind(mark);
  REQUIRE(begin < end);
  CHECK(text_of("/docs/add-a-policy.md").find("```cpp\n" + header.substr(begin, end - begin) + "```") != std::string::npos);
}
