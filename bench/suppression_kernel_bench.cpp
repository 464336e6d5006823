// Kernels of outlier suppression, one thread. Bytes: a share of the bound that only moves them (bound.hpp), in turn with it. The Hadamard
// transform of a row in L1: how many times as fast as the textbook loop. Products: shares of oneDNN's int8 product of whole matrices.
// share_of_bound = median of rounds, share_at_best = fastest bound by fastest case.
#include "in_turn.hpp"

#include <qlib/backend/dispatch.hpp>
#include <qlib/core/buffer.hpp>
#include <qlib/linalg/hadamard.hpp>
#include <qlib/linalg/int8_gemm.hpp>
#include <qlib/linalg/onednn.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

void textbook_hadamard(float* x, std::size_t n);
void textbook_hadamard_native(float* x, std::size_t n);

namespace {

using namespace qlib;

constexpr std::size_t rows = 4096, cols = 4096, tokens = 512;

/// Gaussian weights, in touched huge pages.
struct memory {
  buffer w{rows * cols * 4}, out{rows * cols * 4};
  memory() {
    std::mt19937 random{1};
    std::normal_distribution<float> gaussian{0, 0.02f};
    std::vector<float> some(1 << 20);
    for (float& v : some) v = gaussian(random);
    for (std::size_t i = 0; i < rows * cols; ++i) {
      at(w)[i] = some[(i * 7 + i / cols * 331) & (some.size() - 1)];
      at(out)[i] = 0;
    }
  }
  static float* at(const buffer& b) { return reinterpret_cast<float*>(b.data()); }
};
const memory& data() {
  static const memory m;
  return m;
}
matrix_view<const float> weights() { return {memory::at(data().w), rows, cols}; }
matrix_view<float> output() { return {memory::at(data().out), rows, cols}; }

std::vector<float> smoothing_scales(double alpha) {
  std::vector<float> s(cols);
  for (std::size_t c = 0; c < cols; ++c) s[c] = static_cast<float>(std::pow(0.5 + static_cast<double>(c % 97), alpha));
  return s;
}

template <class Bound, class Work>
void in_turn(benchmark::State& state, Bound bound, Work work) {
  bench::in_turn(
      state, [&] { return bench::time_of(bound); }, [&] { return bench::time_of(work); });
}

void add(const std::string& name, auto run) { benchmark::RegisterBenchmark(name.c_str(), run)->UseManualTime()->Unit(benchmark::kMillisecond); }

void read_and_write() {
  bench::move_bytes<1>(reinterpret_cast<const char*>(data().w.data()), rows * cols * 4, reinterpret_cast<char*>(data().out.data()));
}

void fake_quantize(benchmark::State& state, const quant_spec& spec, native_backend backend) {
  const std::vector<float> s = smoothing_scales(0.3);
  in_turn(state, read_and_write, [&] {
    if (!backend.streaming().scaled_fake_quantize(weights(), std::span{s}, spec, output())) state.SkipWithError("not finite");
    backend.finish_streaming();
  });
}

/// 100 transforms of one row of 4096 that stays in L1; new values now and then, as they grow 64-fold a time.
void hadamard_row(benchmark::State& state, void (*textbook)(float*, std::size_t), native_backend backend) {
  constexpr std::size_t n = 4096;
  const buffer place{n * 4};
  float* const x = memory::at(place);
  const auto repeat = [&](auto transform) {
    return [=] {
      for (int i = 0; i < 100; ++i) {
        if (i % 20 == 0)
          for (std::size_t c = 0; c < n; ++c) x[c] = weights()(0, c);
        transform();
      }
      benchmark::DoNotOptimize(x[7]);
    };
  };
  in_turn(state, repeat([=] { textbook(x, n); }), repeat([&] { backend.hadamard_rows({x, 1, n}, n); }));
}

void rotate(benchmark::State& state, bool columns, std::size_t size) {
  const auto r = hadamard_rotation::make(size, {.seed = 1});
  const matrix_view<float> w{output().data(), columns ? size : rows * cols / size, columns ? rows * cols / size : size};
  std::copy_n(weights().data(), rows * cols, output().data());
  // In place: the bound reads and writes as much, past the caches.
  in_turn(
      state,
      [] { bench::move_bytes<1>(reinterpret_cast<const char*>(data().w.data()), rows * cols * 4, reinterpret_cast<char*>(data().out.data())); },
      [&] { columns ? r->columns(w) : r->rows(w); });
}

void int8_product(benchmark::State& state, gemm_kind kind) {
  int8_rows x, w;
  if (!x.quantize(weights().strip(0, tokens)) || !w.quantize(weights())) return state.SkipWithError("not finite");
  std::vector<float> y(tokens * rows), bare(tokens * rows);
  const int8_gemm gemm8{kind};
  std::vector<double> times;
  in_turn(
      state,
      [&] {
        benchmark::DoNotOptimize(onednn_multiply(x.codes(), w.codes(), matrix_view<float>{bare.data(), tokens, rows}));
      },
      [&] {
        const double start = bench::seconds(CLOCK_MONOTONIC);
        gemm8(x, w, {y.data(), tokens, rows});
        times.push_back(bench::seconds(CLOCK_MONOTONIC) - start);
      });
  state.counters["Gops"] = 2e-9 * static_cast<double>(tokens * rows * cols) / bench::median(times);
}

}  // namespace

int main(int argc, char** argv) {
  const quant_spec int4{.num_bits = 4, .granularity = tile::per_group(128), .rule = scale_rule::compressed_tensors};
  quant_spec int4_asymmetric = int4;
  int4_asymmetric.symmetric = false;
  for (std::string_view isa : compiled_targets()) {
    const native_backend backend{**kernels_for(isa)};
    const std::string tail = '/' + std::string{isa};
    add("scaled_fake_quantize/int4_g128" + tail, [=](auto& state) { fake_quantize(state, int4, backend); });
    add("scaled_fake_quantize/int4_g128_asymmetric" + tail, [=](auto& state) { fake_quantize(state, int4_asymmetric, backend); });
    add("scaled_fake_quantize/int8_channel" + tail, [=](auto& state) { fake_quantize(state, quant_spec{}, backend); });
    add("scaled_fake_quantize/fp8_channel" + tail, [=](auto& state) { fake_quantize(state, {.type = number::floating}, backend); });
    add("hadamard_row_4096_to_textbook_O3" + tail, [=](auto& state) { hadamard_row(state, textbook_hadamard, backend); });
    add("hadamard_row_4096_to_textbook_O3_native" + tail, [=](auto& state) { hadamard_row(state, textbook_hadamard_native, backend); });
  }
  for (const std::size_t size : {128, 4096, 16384}) {
    add("rotate_columns/" + std::to_string(size), [=](auto& state) { rotate(state, true, size); });
    add("rotate_rows/" + std::to_string(size), [=](auto& state) { rotate(state, false, size); });
  }
  add("rotate_columns/3584", [](auto& state) { rotate(state, true, 3584); });
  if (onednn().s8) {
    add("int8_product/512x4096x4096/fastest", [](auto& state) { int8_product(state, gemm_kind::fastest); });
    add("int8_product/512x4096x4096/ours", [](auto& state) { int8_product(state, gemm_kind::reproducible); });
  }
  benchmark::AddCustomContext("instruction set", std::string{chosen_target()});
  benchmark::AddCustomContext("int8 products", std::string{int8_gemm{}.name()});
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
