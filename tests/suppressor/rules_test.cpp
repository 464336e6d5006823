/// Every suppressor's rule on numbers that can be computed by hand.
#include <qlib/registry.hpp>

#include <doctest/doctest.h>

#include <cmath>

using namespace qlib;

namespace {

void check_near(const std::vector<float>& got, const std::vector<double>& expected, double tolerance = 2e-6) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t c = 0; c < got.size(); ++c)
    CHECK_MESSAGE(std::abs(got[c] - expected[c]) <= tolerance * std::abs(expected[c]), c << ": " << got[c]);
}

/// Two rows, four channels.
struct small_layer {
  std::vector<float> weight{0.4f, -1, 0.25f, 2, 0.8f, 0.5f, -0.5f, 0.1f};
  std::vector<float> low{-1, -4, -0.2f, -3}, high{2, 4, 0.3f, 1}, absmax{2, 4, 0.3f, 3}, mean{0.5f, 2, 0.1f, 1};
  std::vector<matrix_view<const float>> weights{{weight.data(), 2, 4}};
  std::vector<float> tokens{2, 4, 0.3f, 1, -1, -4, -0.2f, -3};

  smoothing_group group() const { return {.weights = weights}; }
  statistics_view stats() const {
    return {.column_absmax = absmax, .column_min = low, .column_max = high, .column_mean = mean, .inputs = {tokens.data(), 2, 4}, .tokens = 2};
  }
};

}  // namespace

TEST_CASE("SmoothQuant's scale is the paper's, and LLM-Compressor's by ranges") {
  const small_layer l;
  check_near(smooth_quant{}.solve(l.group(), l.stats()).scale, {1.581139, 2, 0.774597, 1.224745});
  check_near(smooth_quant{{.alpha = 0.8}}.solve(l.group(), l.stats()).scale, {1.820564, 3.031433, 0.438433, 2.096481});
  check_near(smooth_quant{{.statistic = "range"}}.solve(l.group(), l.stats()).scale, {1.369306, 2, 0.707107, 1});
  check_near(smooth_quant{{.alpha = 0.8, .statistic = "range"}}.solve(l.group(), l.stats()).scale, {2.192164, 4.594793, 0.574349, 2.297397});
}

TEST_CASE("AWQ's weights count relative to their tile's largest, and its scales are LLM-Compressor's") {
  const small_layer l;
  smoothing_group group = l.group();
  group.weight_spec = quant_spec{.num_bits = 4, .granularity = tile::per_group(2)};
  const std::vector<float> w = awq::relative_means(group);
  check_near(w, {0.699999, 0.812499, 0.562499, 0.600000}, 2e-6);
  check_near(awq::scale(l.mean, w, 0, false), {1, 1, 1, 1});
  check_near(awq::scale(l.mean, w, 0.5, true), {1.039121, 1.929022, 0.518398, 1.587268});
  check_near(awq::scale(l.mean, w, 0.5, false), {1.057371, 2.114743, 0.472871, 1.495349});
  check_near(awq::scale(l.mean, w, 1, true), {1.118034, 4.472136, 0.223607, 2.236068}, 1e-4);  // the vectors leave out the 1e-4 beside w
}

TEST_CASE("AWQ takes the largest mean of columns that share a channel, before the scale is made") {
  const std::vector<float> weight(4, 0.5f), mean{1, 4, 9, 2}, tokens{1, -4, 9, 2};
  const std::vector<matrix_view<const float>> weights{{weight.data(), 1, 4}};
  // Two heads of width 1 read channel 0, two channel 1.
  const smoothing_group group{.weights = weights, .channels = {2, 1}, .weight_spec = int4_per_channel{}};
  const transform t = awq{}.solve(group, {.column_mean = mean, .inputs = {tokens.data(), 1, 4}});
  if (!t.identity()) {  // 4^r and 9^r, over the root of their product
    REQUIRE(t.scale.size() == 2);
    CHECK(t.scale[0] * t.scale[1] == doctest::Approx(1));
    CHECK(t.scale[0] < t.scale[1]);
  }
  check_near(group.channels.largest(mean), {4, 9});
}

TEST_CASE("a flexible scale with given exponents is |x|^alpha / |w|^beta, and grouped heads take its mean or the largest statistics") {
  const small_layer l;
  check_near(flex_smooth{{.alpha = 0.6, .beta = 0.4}}.solve(l.group(), l.stats()).scale,
             {std::pow(2, .6) / std::pow(.8, .4), std::pow(4, .6), std::pow(.3, .6) / std::pow(.5, .4), std::pow(3, .6) / std::pow(2, .4)});
  smoothing_group heads = l.group();
  heads.channels = {2, 1};
  flex_smooth_options o{.alpha = 1, .beta = 0};
  check_near(flex_smooth{o}.solve(heads, l.stats()).scale, {(2 + 4) / 2.0, (0.3 + 3) / 2});
  o.group_method = "max";
  check_near(flex_smooth{o}.solve(heads, l.stats()).scale, {4, 3});
}

TEST_CASE("the CBQ mask scales the channels above the widest gap, by how far they stand out") {
  // Maxima 1 to 10, then suspects 30, 31 and 100: quantiles 3.4 and 10.6 of 13 values, threshold 21.4. Gaps less variances below: 1 - 0 for
  // {30 | 31, 100}, 69 - .5 for {30, 31 | 100}: only 100 is an outlier, and the largest normal maximum is 31.
  std::vector<float> high{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 30, 31, 100}, low(13, -1.0f);
  const std::vector<float> weight(13, 1.0f);
  const std::vector<matrix_view<const float>> weights{{weight.data(), 1, 13}};
  std::vector<double> expected(13, 1.0);
  expected[12] = std::pow(100.0 / 31, 0.7);
  check_near(cbq_mask{}.solve({.weights = weights}, {.column_min = low, .column_max = high}).scale, expected);
  low[0] = -50;  // the one suspect of its side: -1 is the lowest normal one
  expected[0] = std::pow(50.0, 0.7);
  check_near(cbq_mask{}.solve({.weights = weights}, {.column_min = low, .column_max = high}).scale, expected);
  std::fill(low.begin(), low.end(), 0.0f);  // no negative values: that side asks for nothing
  expected[0] = 1;
  check_near(cbq_mask{}.solve({.weights = weights}, {.column_min = low, .column_max = high}).scale, expected);
}

TEST_CASE("SmoothQuant+ leaves channels below its threshold alone") {
  // 15 channels of +-1 and one of +-64, weights 1/4: extremes are 1 and 64, and only the outlier may move: sqrt(64 / .25) = 16. Steps of all
  // channels are then 1/32 instead of 1/2, the outlier's own 1/2 as before: a sixteenth of the error over many tokens.
  std::vector<float> low(16, -1.0f), high(16, 1.0f), absmax(16, 1.0f), weight(16, 0.25f), tokens(64 * 16);
  low[5] = -64;
  high[5] = absmax[5] = 64;
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = std::sin(static_cast<float>(i * i)) * (i % 16 == 5 ? 64.0f : 1.0f);
  const std::vector<matrix_view<const float>> weights{{weight.data(), 1, 16}};
  statistics_view stats{.column_absmax = absmax, .column_min = low, .column_max = high, .deviation = 4, .inputs = {tokens.data(), 64, 16}};
  std::vector<double> expected(16, 1.0);
  expected[5] = 16;
  check_near(threshold_smooth{}.solve({.weights = weights}, stats).scale, expected);
  // Where three deviations reach the largest extreme nothing stands out: plain SmoothQuant.
  stats.deviation = 22;
  for (double& s : expected) s = 2;
  expected[5] = 16;
  check_near(threshold_smooth{}.solve({.weights = weights}, stats).scale, expected);
}

TEST_CASE("SmoothQuant+ takes a channel's extreme above the middle of what it spanned until then") {
  // One channel, samples [-1, 1] and [-9, 1]: 1 above the first middle 0; above the second, -4, it would be 5.
  const std::vector<float> low{-9, -1}, high{1, 1}, absmax{9, 1}, ranges{-1, -1, 1, 1, -9, -1, 1, 1}, weight{1, 1}, tokens{-9, 0.7f, 1, -0.4f};
  const std::vector<matrix_view<const float>> weights{{weight.data(), 1, 2}};
  const statistics_view stats{.column_absmax = absmax,
                              .column_min = low,
                              .column_max = high,
                              .sample_ranges = {ranges.data(), 4, 2},
                              .deviation = 0.01f,
                              .inputs = {tokens.data(), 2, 2}};
  const transform t = threshold_smooth{}.solve({.weights = weights}, stats);
  REQUIRE(t.scale.size() == 2);
  CHECK((t.scale[0] == 1.0f || t.scale[0] == doctest::Approx(std::sqrt(5.0))));
  CHECK(t.scale[1] == 1.0f);
}

TEST_CASE("scales of searches are those of one of their exponents") {
  const small_layer l;
  smoothing_group group = l.group();
  group.weight_spec = int4_per_channel{};
  group.input_spec = quant_spec{.num_bits = 4, .granularity = tile::per_tensor()};
  const auto is_power = [&](const transform& t, auto scale) {
    if (t.identity()) return true;
    for (int i = 0; i <= 20; ++i)
      if (scale(i / 20.0) == t.scale) return true;
    return false;
  };
  const std::vector<float> w = group.column_absmax(), ones(4, 1.0f);
  const transform lite = outlier_suppression_lite{}.solve(group, l.stats()), flex = flex_awq_ssz{}.solve(group, l.stats());
  CHECK(is_power(lite, [&](double a) { return smoothing_scale(l.absmax, w, a, 1 - a, 1e-5); }));
  CHECK(is_power(flex, [&](double a) { return smoothing_scale(l.mean, ones, a, 0, 1e-5); }));
}
