// Matrix products of a calibration forward, 2048 tokens a chunk, on the shapes of two Llamas of a billion parameters, and two of attention.
// A row gives GFLOP/s; its bound is what oneDNN alone reaches: the whole matrix in one call of it, on its own OpenMP threads, with x
// already in the type of the product. Both run in turn in this process; share_of_bound = median of rounds, share_at_best = fastest by fastest.
#include "in_turn.hpp"

#include <qlib/core/buffer.hpp>
#include <qlib/linalg/dispatch.hpp>
#include <qlib/linalg/gemm.hpp>
#include <qlib/linalg/onednn.hpp>

#include <benchmark/benchmark.h>
#include <dnnl.hpp>

#include <omp.h>

#include <algorithm>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

void eigen_multiply(const float* x, const float* w, float* y, std::size_t m, std::size_t n, std::size_t k, std::size_t threads);

namespace {

using namespace qlib;

struct shape {
  const char* what;
  std::size_t m, n, k;
  std::string text() const { return std::string{what} + '/' + std::to_string(m) + 'x' + std::to_string(n) + 'x' + std::to_string(k); }
};
constexpr shape shapes[] = {
    {"q_o", 2048, 2048, 2048},     {"k_v", 2048, 512, 2048},   {"gate_up", 2048, 8192, 2048},       {"down", 2048, 2048, 8192},
    {"gate_up", 2048, 5632, 2048}, {"down", 2048, 2048, 5632}, {"q_o_512_tokens", 512, 2048, 2048}, {"square", 2048, 4096, 4096},
    {"scores", 256, 2048, 64},     {"mix", 256, 64, 2048},
};

/// Gaussian x and w in both types, and two outputs; made once for all rows, as large as the largest of them.
struct operands {
  buffer x{most() * 4}, w{most() * 4}, x16{most() * 2}, w16{most() * 2}, y{most() * 4}, other{most() * 4};
  operands() {
    std::mt19937 random{1};
    std::normal_distribution<float> gaussian;
    std::vector<float> some(1 << 20);
    for (float& v : some) v = gaussian(random);
    for (std::size_t i = 0; i < most(); ++i) {
      at<float>(x)[i] = some[(i * 7 + i / 4096) & (some.size() - 1)];
      at<float>(w)[i] = some[(i * 11 + i / 2048) & (some.size() - 1)];
      at<bf16>(x16)[i] = to_bf16(at<float>(x)[i]);
      at<bf16>(w16)[i] = to_bf16(at<float>(w)[i]);
      at<float>(y)[i] = at<float>(other)[i] = 0;
    }
  }
  static constexpr std::size_t most() { return std::size_t{8192} * 2048; }
  template <class T>
  static T* at(const buffer& b) {
    return reinterpret_cast<T*>(b.data());
  }
};
const operands& data() {
  static const operands d;
  return d;
}

/// oneDNN alone. Its threads are those of OpenMP, which it asks for when the product is made and when it runs.
class onednn_alone {
 public:
  onednn_alone(const shape& s, bool b16, std::size_t threads) : threads_{static_cast<int>(threads)} {
    using memory = dnnl::memory;
    omp_set_num_threads(threads_);
    const auto type = b16 ? memory::data_type::bf16 : memory::data_type::f32;
    const auto dim = [](std::size_t n) { return static_cast<memory::dim>(n); };
    const memory::desc x{{dim(s.m), dim(s.k)}, type, memory::format_tag::ab}, w{{dim(s.k), dim(s.n)}, type, memory::format_tag::ba},
        y{{dim(s.m), dim(s.n)}, memory::data_type::f32, memory::format_tag::ab};
    product_ = dnnl::matmul{{dnnl::matmul::desc{x, w, y}, engine_}};
    arguments_ = {{DNNL_ARG_SRC, {x, engine_, (b16 ? data().x16 : data().x).data()}},
                  {DNNL_ARG_WEIGHTS, {w, engine_, (b16 ? data().w16 : data().w).data()}},
                  {DNNL_ARG_DST, {y, engine_, data().other.data()}}};
  }
  void operator()() {
    omp_set_num_threads(threads_);
    product_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  int threads_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  dnnl::matmul product_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

template <class Work>
void measure(benchmark::State& state, const shape& s, bool b16, std::size_t threads, Work work) {
  onednn_alone alone{s, b16, threads};
  const double flops = 2.0 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
  const int repeats = flops < 1e9 ? 50 : 1;
  const auto time = [&](auto& f) {
    return bench::time_of([&] {
             for (int i = 0; i < repeats; ++i) f();
           }) /
           repeats;
  };
  alone(), work();
  const bench::turns found = bench::in_turn(
      state, [&] { return time(alone); }, [&] { return time(work); });
  state.counters["GFLOPs"] = flops / found.work / 1e9;
  state.counters["GFLOPs_at_best"] = flops / found.fastest / 1e9;
  state.counters["onednn_GFLOPs"] = flops / found.bound / 1e9;
}

void add(const std::string& name, const shape& s, bool b16, std::size_t threads, auto work) {
  benchmark::RegisterBenchmark((name + '/' + s.text() + "/threads:" + std::to_string(threads)).c_str(),
                               [=](benchmark::State& state) { measure(state, s, b16, threads, work); })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  for (const std::size_t threads : {1, 2})
    for (const shape& s : shapes) {
      const matrix_view<const float> x{operands::at<float>(data().x), s.m, s.k}, w{operands::at<float>(data().w), s.n, s.k};
      const matrix_view<const bf16> w16{operands::at<bf16>(data().w16), s.n, s.k};
      const matrix_view<float> y{operands::at<float>(data().y), s.m, s.n};
      const gemm with_bf16{{.bf16_inputs = true, .threads = threads}}, fastest{{.threads = threads}},
          same_bytes{{.kind = gemm_kind::reproducible, .threads = threads}};
      if (onednn().bf16) add("fastest_bf16", s, true, threads, [=] { with_bf16(x, w16, y); });
      add("fastest_f32", s, false, threads, [=] { fastest(x, w, y); });
      add("reproducible_f32", s, false, threads, [=] { same_bytes(x, w, y); });
      add("reproducible_bf16_weights", s, false, threads, [=] { same_bytes(x, w16, y); });
      add("eigen_f32", s, false, threads, [=] { eigen_multiply(x.data(), w.data(), y.data(), s.m, s.n, s.k, threads); });
    }
  benchmark::AddCustomContext("products", std::string{gemm{{.bf16_inputs = true}}.name()});
  benchmark::AddCustomContext("instruction set", std::string{best_gemm_kernels().isa});
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
