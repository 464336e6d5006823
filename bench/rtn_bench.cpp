// Round-to-nearest weight quantization, 4096x4096, one thread, through the library's pipeline into warm memory.
// Each row reports GB/s of source, its share of the bound (bench/bound.hpp; median of rounds, and fastest bound by fastest case, which
// a busy machine disturbs least), and the bound's own time.
#include "in_turn.hpp"

#include <qlib/backend/dispatch.hpp>
#include <qlib/quantize.hpp>

#include <benchmark/benchmark.h>
#include <Eigen/Core>

#include <cmath>
#include <memory>
#include <random>
#include <string>

namespace {

using namespace qlib;

constexpr std::size_t rows = 4096, cols = 4096;

/// Gaussian weights with eight outlier columns, in touched huge pages, once a type.
template <class T>
matrix_view<const T> weights() {
  static const buffer memory = [] {
    buffer b{rows * cols * sizeof(T)};
    std::mt19937 random{1};
    std::normal_distribution<float> gaussian{0, 0.02f};
    std::vector<float> some(1 << 20);
    for (float& v : some) v = gaussian(random);
    auto* x = reinterpret_cast<T*>(b.data());
    for (std::size_t i = 0; i < rows * cols; ++i) {
      const float v = some[(i * 7 + i / cols * 331) & (some.size() - 1)] * (i % cols % 512 == 77 ? 20.0f : 1.0f);
      if constexpr (std::is_same_v<T, float>) x[i] = v;
      else if constexpr (std::is_same_v<T, bf16>) x[i] = to_bf16(v);
      else x[i] = to_f16(v);
    }
    return b;
  }();
  return {reinterpret_cast<const T*>(memory.data()), rows, cols};
}

/// Output and parameters, allocated and touched once for all rows.
struct destination {
  buffer codes{rows * cols}, scratch{std::size_t{1} << 20};
  std::vector<float> scales = std::vector<float>(rows * cols / 32);
  std::vector<std::int32_t> zeros = std::vector<std::int32_t>(rows * cols / 32);
  destination() {
    std::memset(codes.data(), 1, codes.size());
    std::memset(scratch.data(), 1, scratch.size());
  }
};
destination& target() {
  static destination d;
  return d;
}

/// Runs bound and case in turn.
template <class T, int Reads, class Work>
void measure(benchmark::State& state, Work work) {
  const matrix_view<const T> w = weights<T>();
  const auto move = [&] {
    bench::move_bytes<Reads>(reinterpret_cast<const char*>(w.data()), w.size() * sizeof(T), reinterpret_cast<char*>(target().codes.data()));
  };
  bench::in_turn(
      state, [&] { return bench::time_of(move); }, [&] { return bench::time_of([&] { work(w); }); });
  state.counters["source_bytes_per_second"] =
      benchmark::Counter(static_cast<double>(w.size() * sizeof(T)), benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

template <class T, class Packer, class B>
void rtn(benchmark::State& state, const quant_spec& spec, B backend) {
  pipeline<minmax_observer, no_suppressor, rtn_rounder, Packer, B> stages{.backend = backend};
  destination& d = target();
  const grid g = grid_of(spec.granularity, rows, cols);
  const qparams_view q{g, {d.scales.data(), g.tiles()}, {d.zeros.data(), spec.symmetric ? 0 : g.tiles()}};
  measure<T, static_cast<int>(8 * sizeof(T)) / (Packer::stores_codes ? 8 : 4)>(state, [&](matrix_view<const T> w) {
    if (!stages.run(w, spec, {}, q, d.scratch.data(), d.codes.data())) state.SkipWithError("the weights are not finite");
  });
}

void naive_int8(matrix_view<const float> w) {
  auto* out = reinterpret_cast<std::int8_t*>(target().codes.data());
  for (std::size_t r = 0; r < w.rows(); ++r) {
    float absmax = 0;
    for (std::size_t c = 0; c < w.cols(); ++c) absmax = std::max(absmax, std::fabs(w(r, c)));
    const float scale = target().scales[r] = absmax / 127;
    for (std::size_t c = 0; c < w.cols(); ++c)
      out[r * w.cols() + c] = static_cast<std::int8_t>(std::clamp(std::nearbyint(w(r, c) / scale), -128.0f, 127.0f));
  }
}

/// What an embedder without a library would write with Eigen: it multiplies by the reciprocal, so ties may differ.
void eigen_int8(matrix_view<const float> w) {
  auto* out = reinterpret_cast<std::int8_t*>(target().codes.data());
  const auto n = static_cast<Eigen::Index>(w.cols());
  for (std::size_t r = 0; r < w.rows(); ++r) {
    const Eigen::Map<const Eigen::ArrayXf> row{w.row(r), n};
    const float scale = target().scales[r] = row.abs().maxCoeff() / 127;
    Eigen::Map<Eigen::Array<std::int8_t, Eigen::Dynamic, 1>>{out + r * w.cols(), n} = (row * (1 / scale)).rint().cast<std::int8_t>();
  }
}

template <class Run>
void add(const std::string& name, Run run) {
  benchmark::RegisterBenchmark(name.c_str(), run)->UseManualTime()->Unit(benchmark::kMillisecond);
}

/// int8 and int4 rows of one element type and backend.
template <class T, class B>
void add_rows(const std::string& type, const std::string& backend_name, B backend) {
  const auto int4 = [](std::size_t group_size, bool symmetric) -> quant_spec {
    return int4_per_group{.group_size = group_size, .symmetric = symmetric};
  };
  const std::string tail = "/" + type + "/4096x4096/" + backend_name;
  add("rtn_int8" + tail, [=](auto& state) { rtn<T, int8_packer>(state, int8_per_channel{}, backend); });
  add("rtn_int4_g128_sym" + tail, [=](auto& state) { rtn<T, pack_quantized_packer>(state, int4(128, true), backend); });
  add("rtn_int4_g32_sym" + tail, [=](auto& state) { rtn<T, pack_quantized_packer>(state, int4(32, true), backend); });
  add("rtn_int4_g128_asym" + tail, [=](auto& state) { rtn<T, pack_quantized_packer>(state, int4(128, false), backend); });
  add("rtn_int4_g32_asym" + tail, [=](auto& state) { rtn<T, pack_quantized_packer>(state, int4(32, false), backend); });
  add("rtn_fp8" + tail, [=](auto& state) { rtn<T, fp8_packer>(state, fp8_per_channel{}, backend); });
}

}  // namespace

int main(int argc, char** argv) {
  for (std::string_view isa : compiled_targets()) {
    if (isa == "scalar") continue;
    const native_backend backend{**kernels_for(isa)};
    const std::string name = isa == chosen_target() ? "highway" : "highway:" + std::string{isa};
    add_rows<float>("f32", name, backend);
    add_rows<bf16>("bf16", name, backend);
    add_rows<f16>("f16", name, backend);
  }
  add_rows<float>("f32", "scalar", scalar_backend{});
  add_rows<bf16>("bf16", "scalar", scalar_backend{});
  add("rtn_int8/f32/4096x4096/naive", [](auto& state) { measure<float, 4>(state, naive_int8); });
  add("rtn_int8/f32/4096x4096/eigen", [](auto& state) { measure<float, 4>(state, eigen_int8); });

  benchmark::AddCustomContext("instruction set", std::string{chosen_target()});
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
