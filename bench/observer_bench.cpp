// Observers and their kernels on 2048x4096 activations, one thread. Each row reports its share of a bound that only reads the same bytes
// (median of rounds, and fastest bound by fastest case) and nanoseconds an element.
#include "in_turn.hpp"

#include <qlib/backend/dispatch.hpp>
#include <qlib/core/buffer.hpp>
#include <qlib/registry.hpp>

#include <random>
#include <string>

namespace {

using namespace qlib;

constexpr std::size_t rows = 2048, cols = 4096;

#if defined(__x86_64__)
__attribute__((target("avx512f"))) int read_512(const char* in, std::size_t bytes) {
  __m512i all[4] = {};
  for (std::size_t i = 0; i < bytes; i += 256)
    for (std::size_t k = 0; k < 4; ++k) {
      _mm_prefetch(in + i + 64 * k + 4096, _MM_HINT_T0);
      all[k] = _mm512_or_si512(all[k], _mm512_loadu_si512(in + i + 64 * k));
    }
  const __m512i one = _mm512_or_si512(_mm512_or_si512(all[0], all[1]), _mm512_or_si512(all[2], all[3]));
  return _mm512_cmpneq_epi32_mask(one, _mm512_setzero_si512());
}
__attribute__((target("avx2"))) int read_256(const char* in, std::size_t bytes) {
  __m256i all[4] = {};
  for (std::size_t i = 0; i < bytes; i += 128)
    for (std::size_t k = 0; k < 4; ++k) {
      if (k % 2 == 0) _mm_prefetch(in + i + 32 * k + 4096, _MM_HINT_T0);
      all[k] = _mm256_or_si256(all[k], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i + 32 * k)));
    }
  const __m256i one = _mm256_or_si256(_mm256_or_si256(all[0], all[1]), _mm256_or_si256(all[2], all[3]));
  return _mm256_movemask_epi8(one);
}
#endif

/// Reads in[0, bytes), a multiple of 256, with the widest vectors, and nothing else.
int read_bytes(const char* in, std::size_t bytes) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return read_512(in, bytes);
  if (__builtin_cpu_supports("avx2")) return read_256(in, bytes);
#endif
  std::uint64_t all[8] = {};
  for (std::size_t i = 0; i < bytes; i += 64)
    for (std::size_t k = 0; k < 8; ++k) {
      std::uint64_t word;
      std::memcpy(&word, in + i + 8 * k, 8);
      all[k] |= word;
    }
  return static_cast<int>((all[0] | all[1] | all[2] | all[3] | all[4] | all[5] | all[6] | all[7]) != 0);
}

enum class kind { gaussian, ties };

/// Gaussian values with eight outlier columns; or half of them zero and the rest on 64 levels, as after a ReLU of low precision.
template <class T, kind Kind>
matrix_view<const T> inputs() {
  static const buffer memory = [] {
    buffer b{rows * cols * sizeof(T)};
    std::mt19937 random{1};
    std::normal_distribution<float> gaussian{0, 0.02f};
    auto* x = reinterpret_cast<T*>(b.data());
    for (std::size_t i = 0; i < rows * cols; ++i) {
      float v = gaussian(random) * (i % cols % 512 == 77 ? 20.0f : 1.0f);
      if (Kind == kind::ties) v = std::max(0.0f, std::nearbyint(v * 400) / 400);
      if constexpr (std::is_same_v<T, float>) x[i] = v;
      else x[i] = to_bf16(v);
    }
    return b;
  }();
  return {reinterpret_cast<const T*>(memory.data()), rows, cols};
}

/// Runs bound and case in turn.
template <class T, kind Kind = kind::gaussian, class Work>
void measure(benchmark::State& state, Work work) {
  const matrix_view<const T> x = inputs<T, Kind>();
  const auto read = [&] { benchmark::DoNotOptimize(read_bytes(reinterpret_cast<const char*>(x.data()), x.size() * sizeof(T))); };
  const bench::turns found = bench::in_turn(
      state, [&] { return bench::time_of(read); }, [&] { return bench::time_of([&] { work(x); }); });
  state.counters["ns_an_element"] = 1e9 * found.work / static_cast<double>(x.size());
  state.counters["ns_at_best"] = 1e9 * found.fastest / static_cast<double>(x.size());
}

template <class Run>
void add(const std::string& name, Run run) {
  benchmark::RegisterBenchmark(name.c_str(), run)->UseManualTime()->Unit(benchmark::kMillisecond);
}

/// An observer from reset to ranges.
template <class T, kind Kind, class O, class B>
void observe(benchmark::State& state, O observer, tile t, B backend) {
  measure<T, Kind>(state, [&](matrix_view<const T> x) {
    observer.reset(t, grid_of(t, rows, cols));
    observer.observe(backend, x);
    benchmark::DoNotOptimize(observer.ranges().data());
  });
}

template <class T, class B>
void add_kernels(const std::string& tail, B backend) {
  add("minmax" + tail, [=](auto& state) { observe<T, kind::gaussian>(state, minmax_observer{}, tile::per_tensor(), backend); });
  add("column_absmax" + tail, [=](auto& state) {
    std::vector<float> out(cols);
    measure<T>(state, [&](matrix_view<const T> x) { backend.column_absmax(x, std::span{out}); });
  });
  add("column_ranges" + tail, [=](auto& state) { observe<T, kind::gaussian>(state, minmax_observer{}, tile{0, 1}, backend); });
  add("head_ranges_128" + tail, [=](auto& state) { observe<T, kind::gaussian>(state, minmax_observer{}, tile{0, 128}, backend); });
  const auto histogram = [=]<kind Kind>(auto& state, std::integral_constant<kind, Kind>) {
    std::vector<range> all(1);
    backend.ranges(inputs<T, Kind>(), tile::per_tensor(), std::span{all});
    std::vector<std::uint32_t> counts(2048);
    measure<T, Kind>(state, [&](matrix_view<const T> x) { backend.histogram(x, all[0], std::span{counts}); });
  };
  add("histogram_2048" + tail, [=](auto& state) { histogram(state, std::integral_constant<kind, kind::gaussian>{}); });
  add("histogram_2048_ties" + tail, [=](auto& state) { histogram(state, std::integral_constant<kind, kind::ties>{}); });
  const percentile_options once{.keep_values = false}, far{.lower = 0.01, .upper = 99.99, .keep_values = false};
  add("percentile_99.9" + tail, [=](auto& state) { observe<T, kind::gaussian>(state, percentile_observer{once}, tile::per_tensor(), backend); });
  add("percentile_99.99" + tail, [=](auto& state) { observe<T, kind::gaussian>(state, percentile_observer{far}, tile::per_tensor(), backend); });
  add("percentile_99.9_ties" + tail, [=](auto& state) { observe<T, kind::ties>(state, percentile_observer{once}, tile::per_tensor(), backend); });
}

void search(benchmark::State& state) {
  growing_histogram h;
  const matrix_view<const float> x = inputs<float, kind::gaussian>();
  std::vector<range> all(1);
  std::vector<std::uint32_t> counts(2048);
  const native_backend backend;
  backend.ranges(x, tile::per_tensor(), std::span{all});
  h.grow(all[0], 2048, 16);
  backend.histogram(x, h.limits(), std::span{counts});
  h.add(counts);
  for (auto _ : state) benchmark::DoNotOptimize(least_error_range(h.counts(), h.limits(), 256));
}

}  // namespace

int main(int argc, char** argv) {
  for (std::string_view isa : compiled_targets()) {
    const native_backend backend{**kernels_for(isa)};
    add_kernels<float>("/f32/2048x4096/" + std::string{isa}, backend);
    add_kernels<bf16>("/bf16/2048x4096/" + std::string{isa}, backend);
  }
  const native_backend best;
  add("histogram_observer/f32", [=](auto& state) { observe<float, kind::gaussian>(state, histogram_observer{}, tile::per_tensor(), best); });
  add("percentile_kept/f32", [=](auto& state) { observe<float, kind::gaussian>(state, percentile_observer{}, tile::per_tensor(), best); });
  add("auto_mixed/f32", [=](auto& state) { observe<float, kind::gaussian>(state, auto_mixed_observer{}, tile::per_tensor(), best); });
  add("mse_int8_channels/f32", [=](auto& state) { observe<float, kind::gaussian>(state, mse_observer{}, tile::per_channel(), best); });
  add("recall_window/f32", [=](auto& state) { observe<float, kind::gaussian>(state, recall_window_observer{{.ratio = 0.999}}, tile{0, 128}, best); });
  benchmark::RegisterBenchmark("histogram_search/2048", search)->Unit(benchmark::kMillisecond);

  benchmark::AddCustomContext("instruction set", std::string{chosen_target()});
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
