/// What searches promise: never worse than doing nothing, and the same whatever the number of threads.
#include "../conformance/matrices.hpp"

#include <qlib/backend/scalar.hpp>
#include <qlib/observer/channel_statistics.hpp>
#include <qlib/registry.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace qlib;

namespace {

/// Inputs with some channels `outlier` times as large, two or three linears behind them, and what calibration says of the inputs.
struct layer {
  std::vector<law::matrix<float>> matrices;
  std::vector<matrix_view<const float>> weights;
  law::matrix<float> inputs;
  channel_map channels;
  channel_statistics seen;
  channel_statistics::divided of;

  layer(std::size_t cols, std::vector<std::size_t> rows, float outlier, unsigned seed, channel_map map = {})
      : inputs{law::gaussian(48, cols, seed)}, channels{map} {
    for (std::size_t t = 0; t < 48; ++t)
      for (std::size_t c = 0; c < cols; ++c) {
        if (map.channel_of(c) % 7 == 3) inputs.view()(t, c) *= outlier;
        if (map.channel_of(c) == 5) inputs.view()(t, c) = 0;  // a dead channel
      }
    for (std::size_t r : rows) matrices.push_back(law::gaussian(r, cols, ++seed));
    for (const auto& m : matrices) weights.push_back(m.view());
    seen = {cols, needs::column_absmax | needs::column_range | needs::column_mean | needs::column_deviation | needs::inputs, 1000};
    for (std::size_t s = 0; s < 3; ++s) seen.observe(scalar_backend{}, std::as_const(inputs).view().strip(16 * s, 16));
    of = seen.after({});
  }

  smoothing_group group(const quant_spec& w, std::optional<quant_spec> x) const {
    return {.weights = weights, .channels = channels, .weight_spec = w, .input_spec = x};
  }
};

std::vector<layer> layers() {
  std::vector<layer> out;
  for (const float outlier : {1.0f, 8.0f, 100.0f}) {
    out.emplace_back(24, std::vector<std::size_t>{12, 6, 6}, outlier, 11);
    out.emplace_back(16, std::vector<std::size_t>{1}, outlier, 12);                      // one row
    out.emplace_back(32, std::vector<std::size_t>{20}, outlier, 13, channel_map{2, 4});  // grouped heads
    out.emplace_back(24, std::vector<std::size_t>{5, 5, 5, 5, 5}, outlier, 14);          // more linears than flex_awq_ssz looks at
  }
  return out;
}

const quant_spec static_int8{.symmetric = false, .granularity = tile::per_tensor()};
const quant_spec lite_weights{.rule = scale_rule::compressed_tensors},
    lite_inputs{.symmetric = false, .granularity = tile::per_tensor(), .rule = scale_rule::compressed_tensors};

/// By the error that the policy minimizes.
template <class Policy>
void check_never_worse(const Policy& policy, const quant_spec& w, std::optional<quant_spec> x, std::size_t linears = 9) {
  for (const layer& l : layers()) {
    CAPTURE(Policy::name);
    CAPTURE(l.weights.size());
    const smoothing_group group = l.group(w, x);
    const transform t = policy.solve(group, l.of.view);
    smoothing_group judged = group;
    judged.weights = std::span{l.weights}.first(std::min(linears, l.weights.size()));
    output_error error{judged, l.of.view};
    if (!t.identity()) CHECK(t.scale.size() == l.channels.channels(l.inputs.cols));
    for (const float s : t.scale) CHECK((std::isfinite(s) && s > 0));
    CHECK(error.of(t) <= error.of({}));
  }
}

}  // namespace

TEST_CASE("no search ends with more error than the identity, with outliers and without, grouped heads, dead channels and single rows") {
  check_never_worse(awq{}, int4_per_channel{}, std::nullopt);
  check_never_worse(awq{{.duo_scaling = "true"}}, int4_per_group{8}, std::nullopt);
  check_never_worse(awq{{.duo_scaling = "both"}}, int4_per_group{8, false}, std::nullopt);
  check_never_worse(awq{{.inclusive = true}}, int8_per_channel{}, std::nullopt);
  check_never_worse(flex_smooth{}, quant_spec{}, quant_spec{});
  check_never_worse(flex_smooth{{.group_method = "max", .own_specs = true}}, int4_per_channel{}, static_int8);
  check_never_worse(outlier_suppression_lite{}, lite_weights, lite_inputs);
  check_never_worse(smooth_quant{{.alpha = std::nullopt}}, int8_per_channel{}, static_int8);
  check_never_worse(smooth_quant{{.alpha = std::nullopt}}, int4_per_channel{}, quant_spec{});
  for (const layer& l : layers()) {  // of more than three linears it looks at two
    const smoothing_group group = l.group(int4_per_channel{}, static_int8);
    smoothing_group judged = group;
    if (l.weights.size() > 3) judged.weights = std::span{l.weights}.first(2);
    output_error error{judged, l.of.view};
    CHECK(error.of(flex_awq_ssz{}.solve(group, l.of.view)) <= error.of({}));
  }
}

TEST_CASE("searches take away four fifths of the error that outliers make, fixed rules a third") {
  // Three of 24 channels are a hundred times as large. int8 and one scale for all: their own error stays, an eighth of what was.
  const layer l{24, {12, 6, 6}, 100, 21};
  const auto gain = [&](const auto& policy, const quant_spec& w, std::optional<quant_spec> x) {
    const smoothing_group group = l.group(w, x);
    output_error error{group, l.of.view};
    return error.of(policy.solve(group, l.of.view)) / error.of({});
  };
  CHECK(gain(smooth_quant{{.alpha = std::nullopt}}, int8_per_channel{}, static_int8) < 0.2);
  CHECK(gain(outlier_suppression_lite{}, int8_per_channel{}, static_int8) < 0.2);
  CHECK(gain(flex_smooth{{.own_specs = true}}, int8_per_channel{}, static_int8) < 0.2);
  CHECK(gain(flex_smooth{}, int8_per_channel{}, quant_spec{}) < 0.2);
  CHECK(gain(flex_awq_ssz{}, int8_per_channel{}, static_int8) < 0.2);
  CHECK(gain(threshold_smooth{}, int8_per_channel{}, static_int8) < 0.67);
  CHECK(gain(cbq_mask{}, int8_per_channel{}, static_int8) < 0.67);
  CHECK(gain(awq{}, int4_per_channel{}, std::nullopt) < 0.67);
}

TEST_CASE("the number of threads changes no bit of an error or a scale") {
  const layer l{64, {300, 70}, 30, 31};
  const smoothing_group group = l.group(int4_per_group{32}, static_int8);
  std::vector<float> first;
  double error = 0;
  for (const std::size_t threads : {1, 2, 5}) {
    const gemm products{{.kind = gemm_kind::reproducible, .threads = threads}};
    smoothing_group with = group;
    with.products = &products;
    const transform t = awq{}.solve(with, l.of.view);
    const double e = output_error{with, l.of.view}.of(t);
    if (threads == 1) first = t.scale, error = e;
    CHECK(t.scale == first);
    CHECK(e == error);
  }
  CHECK(error > 0);
}

TEST_CASE("the error of int8 on both sides is that of dequantized values, whoever multiplies") {
  const layer l{64, {300, 70}, 30, 31};
  const smoothing_group group = l.group(quant_spec{}, quant_spec{});
  const transform smooth = smooth_quant{}.solve(group, l.of.view);
  for (const transform& t : {transform{}, smooth}) {
    const std::vector<float> scale = t.identity() ? std::vector<float>(64, 1.0f) : t.scale;
    std::vector<float> inverse(64), x(l.of.view.inputs.size());
    for (std::size_t c = 0; c < 64; ++c) inverse[c] = 1 / scale[c];
    const matrix_view<const float> in = l.of.view.inputs;
    const matrix_view<float> x_q{x.data(), in.rows(), 64};
    REQUIRE(scalar_backend{}.scaled_fake_quantize(in, inverse, quant_spec{}, x_q));  // times scale again: as the fold has it
    double lost = 0, energy = 0;
    for (const auto& w : l.weights) {
      std::vector<float> q(w.size());
      const matrix_view<float> w_q{q.data(), w.rows(), 64};
      REQUIRE(scalar_backend{}.scaled_fake_quantize(w, scale, quant_spec{}, w_q));
      for (std::size_t r = 0; r < in.rows(); ++r)
        for (std::size_t o = 0; o < w.rows(); ++o) {
          double exact = 0, got = 0;
          for (std::size_t c = 0; c < 64; ++c) {
            exact += static_cast<double>(in(r, c)) * static_cast<double>(w(o, c));
            got += static_cast<double>(x_q(r, c)) * static_cast<double>(w_q(o, c));
          }
          lost += (got - exact) * (got - exact);
          energy += exact * exact;
        }
    }
    std::vector<double> errors;
    for (const gemm_kind kind : {gemm_kind::reproducible, gemm_kind::fastest})
      for (const std::size_t threads : {1, 3}) {
        const gemm products{{.kind = kind, .threads = threads}};
        smoothing_group with = group;
        with.products = &products;
        errors.push_back(output_error{with, l.of.view}.of(t));
        CHECK(errors.back() == doctest::Approx(lost / energy).epsilon(1e-4));
      }
    CHECK(errors[0] == errors[1]);
    CHECK(errors[2] == errors[3]);
  }
}

TEST_CASE("without tokens, and with values that overflow, searches keep the identity") {
  const layer l{24, {12}, 8, 41};
  statistics_view blind = l.of.view;
  blind.inputs = {};
  const smoothing_group group = l.group(int8_per_channel{}, static_int8);
  CHECK(awq{}.solve(group, blind).identity());
  CHECK(flex_smooth{}.solve(group, blind).identity());
  CHECK(flex_awq_ssz{}.solve(group, blind).identity());
  CHECK(outlier_suppression_lite{}.solve(group, blind).identity());
  CHECK(smooth_quant{{.alpha = std::nullopt}}.solve(group, blind).identity());
  const std::vector<float> vanishing(24, 1e-42f);
  output_error error{group, l.of.view};
  CHECK(std::isinf(error.of({vanishing, {}})));
}

TEST_CASE("a static range can be the mean of the samples' extremes") {
  const std::vector<float> weight{1, 1}, low{-1, 0}, high{3, 0}, ranges{-1, 0, 1, 0, -1, 0, 3, 0}, tokens{3, 0, 0.3f, 0};
  const std::vector<matrix_view<const float>> weights{{weight.data(), 1, 2}};
  smoothing_group group{.weights = weights, .input_spec = quant_spec{.num_bits = 4, .symmetric = false, .granularity = tile::per_tensor()}};
  const statistics_view stats{.column_min = low, .column_max = high, .sample_ranges = {ranges.data(), 4, 2}, .inputs = {tokens.data(), 2, 2}};
  // [-1, 3]: steps of 4/15, codes of 3 and .3 give 2.9333 and .26667. Mean [-1, 2]: steps of .2, clipped at 2, and .4 for .3 (1.5 to even).
  const double energy = 9 + 0.09;
  CHECK(output_error{group, stats}.of({}) == doctest::Approx((0.0666667 * 0.0666667 + 0.0333333 * 0.0333333) / energy).epsilon(1e-4));
  group.mean_ranges = true;
  CHECK(output_error{group, stats}.of({}) == doctest::Approx((1.0 + 0.1 * 0.1) / energy).epsilon(1e-4));
}

TEST_CASE("scaled fake quantization is scaling, quantizing and scaling back") {
  const law::matrix<float> w = law::gaussian(70, 48, 51);
  std::vector<float> scale(48);
  for (std::size_t c = 0; c < 48; ++c) scale[c] = 0.25f + 0.1f * static_cast<float>(c);
  for (const quant_spec& spec : {quant_spec(int8_per_channel{}), quant_spec(int4_per_group{16}), quant_spec(int4_per_group{16, false}), static_int8,
                                 quant_spec(fp8_per_channel{})}) {
    law::matrix<float> expected = w, got{70, 48};
    for (std::size_t i = 0; i < w.elements.size(); ++i) expected.elements[i] *= scale[i % 48];
    fake_quantizer quantizer{spec}, threaded{spec, 3};
    REQUIRE(quantizer(expected.view()));
    for (std::size_t i = 0; i < w.elements.size(); ++i) expected.elements[i] /= scale[i % 48];
    REQUIRE(threaded.scaled(w.view(), scale, got.view()));
    CHECK(got.elements == expected.elements);
  }
  law::matrix<float> bad = w, got{70, 48};
  bad.elements[100] = std::numeric_limits<float>::quiet_NaN();
  CHECK_FALSE(fake_quantizer{int8_per_channel{}}.scaled(std::as_const(bad).view(), scale, got.view()));
}
