#include "random_values.hpp"

#include <qlib/core/buffer.hpp>
#include <qlib/linalg/dispatch.hpp>
#include <qlib/linalg/int8_gemm.hpp>
#include <qlib/linalg/onednn.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

using namespace qlib;

namespace {

/// Codes inside of a larger matrix.
struct codes {
  std::size_t rows, cols, stride;
  std::vector<std::int8_t> elements;
  codes(std::size_t r, std::size_t c, std::size_t padding) : rows{r}, cols{c}, stride{c + padding}, elements(r * stride + 1, std::int8_t{55}) {}
  static codes random(std::size_t r, std::size_t c, std::size_t padding, unsigned seed) {
    codes m{r, c, padding};
    std::mt19937 random{seed};
    for (std::int8_t& v : m.elements) v = static_cast<std::int8_t>(random());
    return m;
  }
  static codes all(std::size_t r, std::size_t c, int value) {
    codes m{r, c, 0};
    for (std::int8_t& v : m.elements) v = static_cast<std::int8_t>(value);
    return m;
  }
  matrix_view<const std::int8_t> view() const { return {elements.data(), rows, cols, stride}; }
};

std::vector<std::int32_t> plain_product(const codes& x, const codes& w, std::size_t stride) {
  std::vector<std::int32_t> y(x.rows * stride, 123);
  for (std::size_t m = 0; m < x.rows; ++m)
    for (std::size_t n = 0; n < w.rows; ++n) {
      std::int64_t sum = 0;
      for (std::size_t k = 0; k < x.cols; ++k) sum += x.view()(m, k) * w.view()(n, k);
      y[m * stride + n] = static_cast<std::int32_t>(sum);
    }
  return y;
}

struct shape {
  std::size_t m, n, k, padding;
};
constexpr shape shapes[] = {{1, 1, 1, 0},      {1, 1, 1021, 3},   {1, 512, 300, 0}, {512, 1, 300, 1}, {13, 33, 1, 5},  {12, 32, 1020, 0},
                            {7, 47, 1019, 1},  {25, 65, 2043, 7}, {6, 16, 4, 0},    {11, 31, 7, 2},   {5, 3, 4096, 0}, {100, 70, 40, 9},
                            {23, 130, 777, 1}, {3, 4, 9, 1},      {4, 17, 510, 0},  {30, 20, 511, 1}};

}  // namespace

TEST_CASE("every instruction set's int8 product is exact, odd shapes and strides included") {
  buffer workspace{gemm_workspace * sizeof(float)};
  for (const shape& s : shapes) {
    const codes x = codes::random(s.m, s.k, s.padding, 1), w = codes::random(s.n, s.k, 2 * s.padding, 2);
    const std::vector<std::int32_t> expected = plain_product(x, w, s.n + s.padding);
    for (const gemm_kernels* kernels : compiled_gemm_kernels()) {
      CAPTURE(kernels->isa);
      CAPTURE(s.m);
      CAPTURE(s.n);
      CAPTURE(s.k);
      std::vector<std::int32_t> y(s.m * (s.n + s.padding), 123);
      kernels->s8(x.view(), w.view(), {y.data(), s.m, s.n, s.n + s.padding}, reinterpret_cast<float*>(workspace.data()));
      CHECK(y == expected);
    }
  }
}

TEST_CASE("int8 products of extreme codes do not saturate, on every instruction set and in oneDNN") {
  buffer workspace{gemm_workspace * sizeof(float)};
  for (const std::size_t k : {64, 5000, 131071})
    for (const int a : {-128, 127})
      for (const int b : {-128, 127}) {
        const codes x = codes::all(5, k, a), w = codes::all(33, k, b);
        const std::vector<std::int32_t> expected(5 * 33, a * b * static_cast<int>(k));
        for (const gemm_kernels* kernels : compiled_gemm_kernels()) {
          CAPTURE(kernels->isa);
          CAPTURE(k);
          std::vector<std::int32_t> y(5 * 33, 1);
          kernels->s8(x.view(), w.view(), {y.data(), 5, 33}, reinterpret_cast<float*>(workspace.data()));
          CHECK(y == expected);
        }
        std::vector<std::int32_t> y(5 * 33, 1);
        if (onednn_multiply(x.view(), w.view(), matrix_view<std::int32_t>{y.data(), 5, 33})) CHECK(y == expected);
        CHECK(onednn().s8 == (y[0] != 1));
        std::vector<float> rounded(5 * 33);
        if (onednn_multiply(x.view(), w.view(), matrix_view<float>{rounded.data(), 5, 33}))
          CHECK(rounded == std::vector<float>(5 * 33, static_cast<float>(a * b * static_cast<int>(k))));
      }
}

TEST_CASE("an int8 product over no channels is zero, and one without rows or columns writes nothing") {
  for (const gemm_kind kind : {gemm_kind::fastest, gemm_kind::reproducible}) {
    const int8_gemm product{kind};
    std::int8_t none = 7;
    std::int32_t y[2] = {1, 2};
    product(matrix_view<const std::int8_t>{&none, 0, 1}, {&none, 1, 1}, matrix_view<std::int32_t>{y, 0, 1});
    product(matrix_view<const std::int8_t>{&none, 1, 1}, {&none, 0, 1}, matrix_view<std::int32_t>{y, 1, 0});
    CHECK((y[0] == 1 && y[1] == 2));
    product(matrix_view<const std::int8_t>{&none, 1, 0}, {&none, 2, 0}, matrix_view<std::int32_t>{y, 1, 2});
    CHECK((y[0] == 0 && y[1] == 0));
  }
}

TEST_CASE("oneDNN, our kernels and any number of threads give one int8 product") {
  const codes x = codes::random(600, 1030, 0, 3), w = codes::random(700, 1030, 0, 4);
  const std::vector<std::int32_t> expected = plain_product(x, w, 700);
  for (const gemm_kind kind : {gemm_kind::fastest, gemm_kind::reproducible})
    for (const std::size_t threads : {1, 3}) {
      const int8_gemm product{kind, threads};
      CAPTURE(product.name());
      std::vector<std::int32_t> y(600 * 700);
      product(x.view(), w.view(), matrix_view<std::int32_t>{y.data(), 600, 700});
      CHECK(y == expected);
    }
}

TEST_CASE("rows are quantized to their largest magnitude over 127, behind factors too") {
  const std::size_t rows = 70, cols = 300;
  std::vector<float> x = random_values(rows * cols, 5), factors(cols);
  for (std::size_t c = 0; c < cols; ++c) {
    factors[c] = 0.25f + static_cast<float>(c % 7);
    x[3 * cols + c] = 0;
  }
  int8_rows one, two;
  REQUIRE(one.quantize({x.data(), rows, cols}, factors));
  REQUIRE(two.quantize({x.data(), rows, cols}, factors, 3));
  for (std::size_t r = 0; r < rows; ++r) {
    float largest = 0;
    for (std::size_t c = 0; c < cols; ++c) largest = std::max(largest, std::fabs(x[r * cols + c] * factors[c]));
    CHECK(one.scales()[r] == std::max(largest / 127, 0x1p-23f));
    CHECK(two.scales()[r] == one.scales()[r]);
    for (std::size_t c = 0; c < cols; ++c) {
      REQUIRE(one.codes()(r, c) == static_cast<int>(std::nearbyint(x[r * cols + c] * factors[c] / one.scales()[r])));
      REQUIRE(two.codes()(r, c) == one.codes()(r, c));
      REQUIRE(one.codes()(r, c) >= -127);
    }
  }
  x[40 * cols + 7] = std::numeric_limits<float>::infinity();
  CHECK(!one.quantize({x.data(), rows, cols}, factors));
  REQUIRE(one.quantize({x.data(), 2, 5, cols}));  // fewer rows than before, and a part of each
  CHECK((one.codes().rows() == 2 && one.codes().cols() == 5 && one.scales().size() == 2));
}

TEST_CASE("the product of quantized rows is their sums times both scales") {
  const std::size_t m = 530, n = 520, k = 270;
  const std::vector<float> a = random_values(m * k, 6), b = random_values(n * k, 7);
  int8_rows x, w;
  REQUIRE(x.quantize({a.data(), m, k}));
  REQUIRE(w.quantize({b.data(), n, k}));
  std::vector<std::int32_t> sums(m * n);
  int8_gemm{gemm_kind::reproducible}(x.codes(), w.codes(), matrix_view<std::int32_t>{sums.data(), m, n});
  for (const gemm_kind kind : {gemm_kind::fastest, gemm_kind::reproducible}) {
    std::vector<float> y(m * n);
    int8_gemm{kind, 2}(x, w, {y.data(), m, n});
    double worst = 0;
    for (std::size_t i = 0; i < m; ++i)
      for (std::size_t j = 0; j < n; ++j) {
        REQUIRE(y[i * n + j] == static_cast<float>(sums[i * n + j]) * (x.scales()[i] * w.scales()[j]));
        double exact = 0;
        for (std::size_t c = 0; c < k && i < 20; ++c) exact += static_cast<double>(a[i * k + c]) * b[j * k + c];
        if (i < 20) worst = std::max(worst, std::fabs(y[i * n + j] - exact));
      }
    CHECK(worst < 1.0);  // steps of 3 / 127 in both factors, 270 products: six deviations are 0.9
    CHECK(worst > 0.01);
  }
}
