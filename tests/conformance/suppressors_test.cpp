#include "matrices.hpp"
#include "registered.hpp"

#include <doctest/doctest.h>
#include <qlib/suppressor/fold.hpp>

#include <cmath>

namespace {

using namespace qlib;

/// Inputs of a layer with a channel far above the others, and what calibration says of them.
struct layer {
  law::matrix<float> inputs = law::gaussian(16, 8, 1);
  law::matrix<float> weights = law::gaussian(4, 8, 2);
  std::vector<float> absmax = std::vector<float>(8, 0.0f), low = absmax, high = absmax, mean = absmax;
  law::matrix<float> gram{8, 8};

  layer() {
    for (std::size_t t = 0; t < 16; ++t) inputs.view()(t, 3) *= 64;
    for (std::size_t t = 0; t < 16; ++t)
      for (std::size_t i = 0; i < 8; ++i) {
        const float x = inputs.view()(t, i);
        absmax[i] = std::max(absmax[i], std::abs(x));
        low[i] = std::min(low[i], x);
        high[i] = std::max(high[i], x);
        mean[i] += std::abs(x) / 16;
        for (std::size_t j = 0; j < 8; ++j) gram.view()(i, j) += inputs.view()(t, i) * inputs.view()(t, j);
      }
  }
  statistics_view stats() const {
    return {.column_absmax = absmax,
            .column_min = low,
            .column_max = high,
            .column_mean = mean,
            .deviation = 8,
            .inputs = inputs.view(),
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

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("a transform has one positive finite scale for each channel, or is the identity", S, suppressor_scales) {
  const transform t = solved<S>(layer{});
  if (t.identity()) return;
  REQUIRE(t.scale.size() == 8);
  for (const float s : t.scale) CHECK((std::isfinite(s) && s > 0));
}
TEST_CASE_TEMPLATE_APPLY(suppressor_scales, law::suppressors);

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
TEST_CASE_TEMPLATE_APPLY(suppressor_function, law::suppressors);

TEST_CASE("no_suppressor is the identity") {
  const layer l;
  CHECK(solved<no_suppressor>(l).identity());
  law::matrix<float> folded = l.weights;
  fold_into_reader(solved<no_suppressor>(l), {}, folded.view());
  CHECK(folded.elements == l.weights.elements);
}
