#include <qlib/core/buffer.hpp>
#include <qlib/linalg/dispatch.hpp>
#include <qlib/linalg/gemm.hpp>
#include <qlib/linalg/onednn.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

using namespace qlib;

namespace {

/// A matrix inside a larger one, whose other elements are NaN for inputs: reading them shows.
template <class T>
class matrix {
 public:
  matrix(std::size_t rows, std::size_t cols, std::size_t padding, unsigned seed) : rows_{rows}, cols_{cols}, stride_{cols + padding} {
    std::mt19937 random{seed};
    std::normal_distribution<float> normal;
    elements_.assign(rows * stride_ + 1, cast(std::numeric_limits<float>::quiet_NaN()));
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < cols; ++c) elements_[r * stride_ + c] = cast(normal(random));
  }
  matrix_view<T> view() { return {elements_.data(), rows_, cols_, stride_}; }
  matrix_view<const T> view() const { return {elements_.data(), rows_, cols_, stride_}; }
  const std::vector<T>& elements() const { return elements_; }

 private:
  static T cast(float x) {
    if constexpr (std::is_same_v<T, float>) return x;
    else return to_bf16(x);
  }
  std::size_t rows_, cols_, stride_;
  std::vector<T> elements_;
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) { return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0; }

/// The contract of gemm_kernels.hpp, word for word.
template <class W>
float element_by_contract(matrix_view<const float> x, matrix_view<const W> w, std::size_t m, std::size_t n) {
  float total = 0;
  for (std::size_t k0 = 0; k0 < x.cols(); k0 += 256) {
    float block = 0;
    for (std::size_t k = k0; k < std::min(k0 + 256, x.cols()); ++k) block = std::fma(x(m, k), to_float(w(n, k)), block);
    total = k0 == 0 ? block : total + block;
  }
  return total;
}

template <class W>
auto kernel_of(const gemm_kernels& kernels) {
  if constexpr (std::is_same_v<W, float>) return kernels.f32;
  else return kernels.b16;
}

struct shape {
  std::size_t m, n, k, padding;
};
constexpr shape shapes[] = {{1, 1, 1, 0},     {1, 1, 257, 3},   {1, 512, 300, 0},  {512, 1, 300, 1}, {13, 33, 1, 5},
                            {12, 32, 256, 0}, {7, 47, 255, 1},  {25, 65, 513, 7},  {6, 16, 4, 0},    {11, 31, 7, 2},
                            {5, 3, 1024, 0},  {100, 70, 40, 9}, {23, 130, 777, 1}, {3, 4, 9, 1}};

}  // namespace

TEST_CASE_TEMPLATE("every instruction set's product has the bytes of the contract, odd shapes and strides included", W, float, bf16) {
  const std::vector<const gemm_kernels*> all = compiled_gemm_kernels();
  REQUIRE(all.back()->isa == "scalar");
  buffer workspace{gemm_workspace * sizeof(float)};
  for (const shape& s : shapes) {
    const matrix<float> x{s.m, s.k, s.padding, 1};
    const matrix<W> w{s.n, s.k, s.padding * 2, 2};
    for (const gemm_kernels* kernels : all) {
      CAPTURE(kernels->isa);
      CAPTURE(s.m);
      CAPTURE(s.n);
      CAPTURE(s.k);
      matrix<float> y{s.m, s.n, s.padding, 3};
      matrix<float> expected = y;
      for (std::size_t m = 0; m < s.m; ++m)
        for (std::size_t n = 0; n < s.n; ++n) expected.view()(m, n) = element_by_contract<W>(x.view(), w.view(), m, n);
      kernel_of<W> (*kernels)(x.view(), w.view(), y.view(), reinterpret_cast<float*>(workspace.data()));
      CHECK(same_bits(y.elements(), expected.elements()));  // the padding of y too: nothing is written beside it
    }
  }
}

TEST_CASE("a product over no channels is zero, and one without rows or columns writes nothing") {
  buffer workspace{gemm_workspace * sizeof(float)};
  for (const gemm_kernels* kernels : compiled_gemm_kernels()) {
    CAPTURE(kernels->isa);
    float none = 7, y[4] = {1, 2, 3, 4};
    kernels->f32({&none, 2, 0}, {&none, 2, 0}, {y, 2, 2}, reinterpret_cast<float*>(workspace.data()));
    for (const float v : y) CHECK(v == 0);
    y[0] = 5;
    kernels->f32({&none, 0, 1}, {&none, 2, 1}, {y, 0, 2}, reinterpret_cast<float*>(workspace.data()));
    kernels->f32({&none, 1, 1}, {&none, 0, 1}, {y, 1, 0}, reinterpret_cast<float*>(workspace.data()));
    CHECK(y[0] == 5);
  }
  const gemm product;
  float none = 7, y[2] = {1, 2};
  product(matrix_view<const float>{&none, 1, 0}, matrix_view<const float>{&none, 2, 0}, {y, 1, 2});
  CHECK((y[0] == 0 && y[1] == 0));
}

TEST_CASE("infinities, overflow and subnormals come out the same on every instruction set, and NaN stays in its row") {
  const float inf = std::numeric_limits<float>::infinity(), big = std::numeric_limits<float>::max(), tiny = 0x1p-149f;
  const std::vector<float> x{inf, 1, 0, 0, -inf, 1, 0, 0, big, big, 0, 0, tiny, 0x1p-75f, 0x1p-74f, 0, NAN, 1, 1, 1};
  const std::vector<float> w{1, 1, 1, 1, 2, -1, 0x1p-75f, 0, 0.5f, 0x1p-74f, 0x1p-76f, 3};
  buffer workspace{gemm_workspace * sizeof(float)};
  for (const gemm_kernels* kernels : compiled_gemm_kernels()) {
    CAPTURE(kernels->isa);
    std::vector<float> y(15), expected(15);
    for (std::size_t m = 0; m < 5; ++m)
      for (std::size_t n = 0; n < 3; ++n)
        expected[m * 3 + n] = element_by_contract<float>(matrix_view<const float>{x.data(), 5, 4}, matrix_view<const float>{w.data(), 3, 4}, m, n);
    kernels->f32({x.data(), 5, 4}, {w.data(), 3, 4}, {y.data(), 5, 3}, reinterpret_cast<float*>(workspace.data()));
    for (std::size_t i = 0; i < 12; ++i) CHECK(std::memcmp(&y[i], &expected[i], sizeof(float)) == 0);
    for (std::size_t i = 12; i < 15; ++i) CHECK(std::isnan(y[i]));
  }
}

TEST_CASE("the emulated fused multiply-add rounds once, as std::fma") {
  std::mt19937 random{1};
  const auto any = [&] { return std::bit_cast<float>(static_cast<std::uint32_t>(random())); };
  std::size_t different = 0;
  const auto check = [&](float a, float b, float c) {
    const float got = fused_multiply_add(a, b, c), expected = std::fma(a, b, c);
    if (std::isnan(got) && std::isnan(expected)) return;
    different += std::bit_cast<std::uint32_t>(got) != std::bit_cast<std::uint32_t>(expected);
  };
  for (int i = 0; i < 2'000'000; ++i) {
    const float a = any(), b = any();
    check(a, b, any());
    // Sums near ties and near cancellation, where a second rounding would show.
    const float product = a * b;
    check(a, b, -product);
    check(a, b, std::ldexp(product, static_cast<int>(random() % 60) - 30));
    check(a, b, std::nextafter(product, 0.0f));
  }
  check(1 + 0x1p-12f, 1 + 0x1p-12f, 0x1p-60f);  // a tie but for a bit that f64 loses
  check(1 + 0x1p-12f, 1 + 0x1p-12f, -0x1p-60f);
  CHECK(different == 0);
}

TEST_CASE("every instruction set rounds to bf16 as to_bf16 does, NaN included") {
  std::mt19937 random{1};
  std::vector<float> x(4099);
  for (float& v : x) v = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
  const std::uint32_t special[] = {0x7f800000u, 0xff800000u, 0x7f800001u, 0xffc12345u, 0x7fffffffu, 0x7f7fffffu,
                                   0x3f808000u, 0x3f818000u, 0x80000000u, 1u,          0xffffffffu};
  for (std::size_t i = 0; i < std::size(special); ++i) x[i * 3] = std::bit_cast<float>(special[i]);
  for (const gemm_kernels* kernels : compiled_gemm_kernels()) {
    CAPTURE(kernels->isa);
    std::vector<bf16> out(x.size());
    kernels->round_to_bf16({x.data(), 1, x.size()}, {out.data(), 1, x.size()});
    std::size_t different = 0;
    for (std::size_t i = 0; i < x.size(); ++i) different += !(out[i] == to_bf16(x[i]));
    CHECK(different == 0);
  }
}

TEST_CASE_TEMPLATE("the reproducible product has the contract's bytes in every element of many tiles, on any number of threads", W, float, bf16) {
  const matrix<float> x{700, 300, 4, 1};
  const matrix<W> w{1100, 300, 0, 2};
  matrix<float> y{700, 1100, 2, 3};
  for (const std::size_t threads : {1, 2, 3, 7}) {
    CAPTURE(threads);
    matrix<float> again{700, 1100, 2, 3};
    gemm{{.kind = gemm_kind::reproducible, .threads = threads}}(x.view(), w.view(), again.view());
    if (threads == 1) y = again;
    CHECK(same_bits(y.elements(), again.elements()));
  }
  std::size_t different = 0;
  for (std::size_t m = 0; m < 700; m += 37)
    for (std::size_t n = 0; n < 1100; ++n) different += y.view()(m, n) != element_by_contract<W>(x.view(), w.view(), m, n);
  CHECK(different == 0);
}

namespace {

/// The largest |y - exact| / (sum of |x w|), in units of 2^-24.
template <class W, class Round>
double worst_error(matrix_view<const float> x, matrix_view<const W> w, matrix_view<const float> y, Round round) {
  double worst = 0;
  for (std::size_t m = 0; m < y.rows(); m += 31)
    for (std::size_t n = 0; n < y.cols(); n += 3) {
      double exact = 0, magnitude = 0;
      for (std::size_t k = 0; k < x.cols(); ++k) {
        const double product = static_cast<double>(round(x(m, k))) * static_cast<double>(to_float(w(n, k)));
        exact += product;
        magnitude += std::fabs(product);
      }
      worst = std::max(worst, std::fabs(y(m, n) - exact) / magnitude);
    }
  return worst * 0x1p24;
}

// A sum of k products in f32, in any order, errs by at most k units of 2^-24 of the sum of magnitudes.
constexpr shape large{600, 700, 520, 1};

}  // namespace

TEST_CASE("the fastest f32 product is a product, and its bytes do not depend on the number of threads") {
  // more than 2^27 multiply-adds, so that oneDNN runs where it is installed
  const matrix<float> x{large.m, large.k, large.padding, 1}, w{large.n, large.k, 3, 2};
  matrix<float> one{large.m, large.n, 5, 3}, three = one;
  gemm{{.threads = 1}}(x.view(), w.view(), one.view());
  gemm{{.threads = 3}}(x.view(), w.view(), three.view());
  CHECK(same_bits(one.elements(), three.elements()));
  CHECK(worst_error<float>(x.view(), w.view(), one.view(), [](float v) { return v; }) < large.k);
  for (std::size_t m = 0; m + 1 < large.m; ++m)
    for (std::size_t c = large.n; c < large.n + 5; ++c) REQUIRE(std::isnan(one.elements()[m * (large.n + 5) + c]));
}

TEST_CASE("a product with bf16 weights takes x as it is, unless bf16 inputs are asked for and the machine has them") {
  const matrix<float> x{large.m, large.k, large.padding, 1};
  const matrix<bf16> w{large.n, large.k, 2, 2};
  matrix<float> y{large.m, large.n, 0, 3};
  gemm{{.threads = 2}}(x.view(), w.view(), y.view());
  CHECK(worst_error<bf16>(x.view(), w.view(), y.view(), [](float v) { return v; }) < large.k);

  const gemm rounded{{.bf16_inputs = true, .threads = 1}};
  rounded(x.view(), w.view(), y.view());
  const bool rounds = onednn().bf16;
  CHECK((rounded.name().find("bf16,") != std::string_view::npos) == rounds);
  CHECK(worst_error<bf16>(x.view(), w.view(), y.view(), [&](float v) { return rounds ? to_float(to_bf16(v)) : v; }) < large.k);
  matrix<float> three{large.m, large.n, 0, 4};
  gemm{{.bf16_inputs = true, .threads = 3}}(x.view(), w.view(), three.view());
  CHECK(same_bits(std::vector<float>(y.elements().begin(), y.elements().end() - 1),
                  std::vector<float>(three.elements().begin(), three.elements().end() - 1)));
}

TEST_CASE("bf16 inputs are rounded once, whichever way the product is cut") {
  for (const std::size_t padding : {0, 3}) {  // rows of y that touch are computed in strips, others in tiles
    for (const std::size_t k : {97, 4100}) {
      CAPTURE(padding);
      CAPTURE(k);
      const matrix<float> x{1030, k, 1, 1};
      const matrix<bf16> w{515, k, 1, 2};
      matrix<float> one{1030, 515, padding, 3}, three = one;
      gemm{{.bf16_inputs = true, .threads = 1}}(x.view(), w.view(), one.view());
      gemm{{.bf16_inputs = true, .threads = 3}}(x.view(), w.view(), three.view());
      CHECK(same_bits(one.elements(), three.elements()));
      const bool rounds = onednn().bf16;
      CHECK(worst_error<bf16>(x.view(), w.view(), one.view(), [&](float v) { return rounds ? to_float(to_bf16(v)) : v; }) < static_cast<double>(k));
    }
  }
}

TEST_CASE("the reproducible product never rounds its inputs and never runs in oneDNN") {
  const gemm product{{.kind = gemm_kind::reproducible, .bf16_inputs = true}};
  CHECK(product.name().find("onednn") == std::string_view::npos);
  CHECK(product.name().find(best_gemm_kernels().isa) != std::string_view::npos);
  const matrix<float> x{40, 600, 0, 1};
  const matrix<bf16> w{300, 600, 0, 2};
  matrix<float> y{40, 300, 0, 3};
  product(x.view(), w.view(), y.view());
  for (std::size_t n = 0; n < 300; n += 7) CHECK(y.view()(39, n) == element_by_contract<bf16>(x.view(), w.view(), 39, n));
}

TEST_CASE("one gemm serves many threads at a time") {
  const matrix<float> x{large.m, large.k, 0, 1};
  const matrix<bf16> w{large.n, large.k, 0, 2};
  const gemm product{{.bf16_inputs = true, .threads = 2}};
  matrix<float> expected{large.m, large.n, 0, 3};
  product(x.view(), w.view(), expected.view());
  std::vector<matrix<float>> results(4, matrix<float>{large.m, large.n, 0, 3});
  std::vector<std::thread> threads;
  for (matrix<float>& y : results) threads.emplace_back([&] { product(x.view(), w.view(), y.view()); });
  for (std::thread& t : threads) t.join();
  for (const matrix<float>& y : results) CHECK(same_bits(y.elements(), expected.elements()));
}
