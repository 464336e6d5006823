// Searches of outlier suppression on one linear, one thread: time as a multiple of the products that they cannot do without.
#include <qlib/core/stopwatch.hpp>
#include <qlib/linalg/int8_gemm.hpp>
#include <qlib/registry.hpp>
#include <qlib/suppressor/weight_clip.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace qlib;

constexpr std::size_t rows = 4096, cols = 4096, tokens = 512;

/// A linear with Gaussian weights, and Gaussian inputs of which every 64th channel is 50 times as large.
struct linear {
  std::vector<float> weight, inputs, absmax, low, high, mean, outputs;
  std::vector<matrix_view<const float>> weights;
  gemm products{gemm_options{}};
  int8_gemm code_products;
  int8_rows codes, weight_codes;

  linear() : weight(rows * cols), inputs(tokens * cols), absmax(cols), low(cols), high(cols), mean(cols), outputs(tokens * rows) {
    std::mt19937 random{1};
    std::normal_distribution<float> gaussian{0, 0.02f};
    for (float& v : weight) v = gaussian(random);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const std::size_t c = i % cols;
      inputs[i] = 50 * gaussian(random) * (c % 64 == 7 ? 50.0f : 1.0f);
      low[c] = std::min(low[c], inputs[i]);
      high[c] = std::max(high[c], inputs[i]);
      absmax[c] = std::max(absmax[c], std::abs(inputs[i]));
      mean[c] += std::abs(inputs[i]) / tokens;
    }
    weights.push_back({weight.data(), rows, cols});
  }

  /// Of f32, or of int8 codes, as the search multiplies.
  double product_seconds(bool of_codes) {
    const matrix_view<const float> x{inputs.data(), tokens, cols};
    const matrix_view<float> y{outputs.data(), tokens, rows};
    if (of_codes && codes.scales().empty() && (!codes.quantize(x) || !weight_codes.quantize(weights[0]))) return 0;
    const qlib::stopwatch start;
    if (of_codes) code_products(codes, weight_codes, y);
    else products(x, weights[0], y);
    return start.seconds();
  }
};

/// Runs `work`, and says how many times as long it takes as `products` of the linear's.
template <class Work>
void measure(benchmark::State& state, linear& l, bool of_codes, double products, const Work& work) {
  std::vector<double> alone, all;
  for (auto _ : state) {  // products before and after, so that a clock that changes meets both
    for (int i = 0; i < 3; ++i) alone.push_back(l.product_seconds(of_codes));
    const qlib::stopwatch start;
    work();
    all.push_back(start.seconds());
    for (int i = 0; i < 3; ++i) alone.push_back(l.product_seconds(of_codes));
    state.SetIterationTime(all.back());
  }
  std::nth_element(alone.begin(), alone.begin() + static_cast<std::ptrdiff_t>(alone.size() / 2), alone.end());
  std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2), all.end());
  const double product = alone[alone.size() / 2];
  state.counters["of_products"] = all[all.size() / 2] / (products * product);
  state.counters["product_Gops"] = 2e-9 * static_cast<double>(rows * cols * tokens) / product;
}

linear& the_linear() {
  static linear l;
  return l;
}

/// `products`: how many a search computes at least.
template <class Policy>
void search(benchmark::State& state, const Policy& policy, const quant_spec& w, std::optional<quant_spec> x, double products) {
  linear& l = the_linear();
  const bool of_codes = w == quant_spec{} && x == quant_spec{};  // what output_error multiplies then
  const smoothing_group group{.weights = l.weights, .weight_spec = w, .input_spec = x, .products = &l.products};
  const statistics_view stats{.column_absmax = l.absmax,
                              .column_min = l.low,
                              .column_max = l.high,
                              .column_mean = l.mean,
                              .inputs = {l.inputs.data(), tokens, cols},
                              .tokens = tokens};
  measure(state, l, of_codes, products, [&] { benchmark::DoNotOptimize(policy.solve(group, stats)); });
}

/// Ten products of every tile's errors with its Gram matrix, or with its inputs where they are fewer.
void clip(benchmark::State& state, const quant_spec& w) {
  linear& l = the_linear();
  const double columns = static_cast<double>(std::min(resolve(w.granularity, rows, cols).cols, tokens));
  measure(state, l, false, static_cast<double>(clip_steps) * columns / static_cast<double>(tokens), [&] {
    benchmark::DoNotOptimize(search_clips(l.weights[0], w, {l.inputs.data(), tokens, cols}, l.products));
  });
}

}  // namespace

int main(int argc, char** argv) {
  const auto add = [](const std::string& name, auto policy, quant_spec w, std::optional<quant_spec> x, double products) {
    benchmark::RegisterBenchmark((name + "/4096x4096/512 tokens").c_str(), [=](benchmark::State& s) { search(s, policy, w, x, products); })
        ->UseManualTime()
        ->Iterations(3)
        ->Unit(benchmark::kMillisecond);
  };
  const quant_spec int8{}, static_int8{.symmetric = false, .granularity = tile::per_tensor()};
  add("awq/20 scales/int4 g128", awq{}, int4_per_group{}, std::nullopt, 20);
  add("awq/20 scales/int8", awq{}, int8, std::nullopt, 20);
  add("smooth_quant/13 alphas/w8a8 static", smooth_quant{{.alpha = std::nullopt}}, int8, static_int8, 13);
  add("flex_smooth_quant/42 points/int8", flex_smooth{}, int8, int8, 42);  // 41 pairs of exponents and the identity
  const auto add_clip = [](const std::string& name, quant_spec w) {
    benchmark::RegisterBenchmark((name + "/4096x4096/512 tokens").c_str(), [=](benchmark::State& s) { clip(s, w); })
        ->UseManualTime()
        ->Iterations(3)
        ->Unit(benchmark::kMillisecond);
  };
  add_clip("clip/10 ratios/int4 g32", int4_per_group{32});
  add_clip("clip/10 ratios/int4 g128", int4_per_group{128});
  add_clip("clip/10 ratios/int4 g128 asymmetric", int4_per_group{128, false});
  add_clip("clip/10 ratios/int4 channel", int4_per_channel{});
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
