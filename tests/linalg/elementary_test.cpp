#include <qlib/linalg/elementary.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace {

/// Distance from the true value, in units of the f32 that lies there.
double ulps(float got, double want) {
  const float nearest = static_cast<float>(want);
  const double unit =
      std::max(static_cast<double>(std::nextafter(std::fabs(nearest), HUGE_VALF)) - std::fabs(static_cast<double>(nearest)), 0x1p-149);
  return std::fabs(static_cast<double>(got) - want) / unit;
}

}  // namespace

TEST_CASE("exp is within 1.1 units in the last place where its result is a normal number") {
  double worst = 0;
  for (float x = -87.0f; x <= 88.0f; x += 0.00093f) worst = std::max(worst, ulps(qlib::elementary::exp(x), std::exp(static_cast<double>(x))));
  CHECK(worst <= 1.1);
  CHECK(qlib::elementary::exp(0.0f) == 1.0f);
  CHECK(qlib::elementary::exp(-200.0f) == 0.0f);
  CHECK(qlib::elementary::exp(-HUGE_VALF) == 0.0f);
  CHECK(qlib::elementary::exp(100.0f) > 3e38f);
  CHECK(std::isnan(qlib::elementary::exp(std::nanf(""))));
}

TEST_CASE("sigmoid, silu, tanh, gelu and softplus follow their definitions to f32 accuracy") {
  double sigmoid = 0, silu = 0, tanh = 0, tanh_gelu = 0, gelu = 0, softplus = 0;
  for (float x = -30.0f; x <= 30.0f; x += 0.00071f) {
    const double d = x, e = std::exp(-d);
    sigmoid = std::max(sigmoid, std::fabs(static_cast<double>(qlib::elementary::sigmoid(x)) * (1 + e) - 1));
    silu = std::max(silu, std::fabs(static_cast<double>(qlib::elementary::silu(x)) - d / (1 + e)) / std::max(1e-3, std::fabs(d / (1 + e))));
    tanh = std::max(tanh, ulps(qlib::elementary::tanh(x), std::tanh(d)));
    tanh_gelu = std::max(tanh_gelu, std::fabs(static_cast<double>(qlib::elementary::gelu_tanh(x)) -
                                              0.5 * d * (1 + std::tanh(0.7978845608028654 * (d + 0.044715 * d * d * d)))) /
                                        std::max(1.0, std::fabs(d)));
    gelu = std::max(
        gelu, std::fabs(static_cast<double>(qlib::elementary::gelu(x)) - 0.5 * d * std::erfc(-d / std::sqrt(2.0))) / std::max(1.0, std::fabs(d)));
    softplus = std::max(softplus, std::fabs(static_cast<double>(qlib::elementary::softplus(x)) / std::log1p(std::exp(d)) - 1));
  }
  CHECK(sigmoid <= 4e-7);
  CHECK(silu <= 4e-7);
  CHECK(tanh <= 4);
  CHECK(tanh_gelu <= 3e-7);
  CHECK(gelu <= 3e-7);
  CHECK(softplus <= 5e-7);
}

TEST_CASE("elementary functions end where their arguments do") {
  CHECK(qlib::elementary::sigmoid(-HUGE_VALF) == 0.0f);
  CHECK(qlib::elementary::sigmoid(HUGE_VALF) == 1.0f);
  CHECK(qlib::elementary::tanh(HUGE_VALF) == 1.0f);
  CHECK(qlib::elementary::tanh(-HUGE_VALF) == -1.0f);
  CHECK(qlib::elementary::softplus(-HUGE_VALF) == 0.0f);
  CHECK(qlib::elementary::softplus(1000.0f) == 1000.0f);
  CHECK(qlib::elementary::silu(-1000.0f) == 0.0f);
}
