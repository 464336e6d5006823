/// Elementary functions of the float forward, in f32 with one order of operations.
///
/// The ones of <cmath> differ by an ulp between libraries and are not vectorized; these are polynomials, so that the same input gives
/// the same bits everywhere, as long as the compiler does not contract products and sums (-ffp-contract=off where FMA is enabled).
#pragma once
#include <qlib/config.hpp>

#include <bit>
#include <cmath>
#include <cstdint>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

namespace qlib::inline v0::elementary {

/// e^x within 1.1 ulp for x in [-87, 88]; 0 below (denormal results are flushed), +infinity above. NaN stays NaN.
QLIB_ALWAYS_INLINE float exp(float x) {
  constexpr float rounding = 0x1.8p23f;                               // adding it rounds to an integer, kept in the low bits
  const float clamped = x < -87.0f ? -87.0f : x > 89.0f ? 89.0f : x;  // NaN passes
  const float shifted = clamped * 0x1.715476p0f + rounding;
  const float n = shifted - rounding;
  // ln 2 in two parts: n times the first one is exact.
  const float r = (clamped - n * 0x1.62ep-1f) - n * 0x1.0bfbe8p-15f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^n in two factors: n reaches 128, one step beyond the largest exponent.
  const auto steps = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(rounding));
  const std::int32_t half = steps >> 1;
  const float low = std::bit_cast<float>(static_cast<std::uint32_t>(half + 127) << 23);
  const float high = std::bit_cast<float>(static_cast<std::uint32_t>(steps - half + 127) << 23);
  const float y = p * low * high;
  return x < -87.0f ? 0.0f : x != x ? x : y;
}

/// 1 / (1 + e^-x).
QLIB_ALWAYS_INLINE float sigmoid(float x) { return 1.0f / (1.0f + elementary::exp(-x)); }

QLIB_ALWAYS_INLINE float silu(float x) { return x / (1.0f + elementary::exp(-x)); }

QLIB_ALWAYS_INLINE float tanh(float x) {
  const float a = x < 0 ? -x : x;
  const float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float near_zero = p * z * x + x;
  const float big = 1.0f - 2.0f / (elementary::exp(2.0f * a) + 1.0f);
  return a < 0.625f ? near_zero : x < 0 ? -big : big;
}

/// The approximation that transformers calls gelu_pytorch_tanh.
QLIB_ALWAYS_INLINE float gelu_tanh(float x) {
  const float inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
  return 0.5f * x * (1.0f + elementary::tanh(inner));
}

/// The exact gelu, x Φ(x), with a complementary error function of relative error 1.2e-7 (Chebyshev fit in 1 / (1 + |z| / 2)).
QLIB_ALWAYS_INLINE float gelu(float x) {
  const float z = x * 0.7071067811865476f;
  const float a = z < 0 ? -z : z;
  const float t = 1.0f / (1.0f + 0.5f * a);
  float p = 0.17087277f;
  p = p * t - 0.82215223f;
  p = p * t + 1.48851587f;
  p = p * t - 1.13520398f;
  p = p * t + 0.27886807f;
  p = p * t - 0.18628806f;
  p = p * t + 0.09678418f;
  p = p * t + 0.37409196f;
  p = p * t + 1.00002368f;
  p = p * t - 1.26551223f;
  const float tail = t * elementary::exp(p - a * a);  // erfc(|z|)
  return 0.5f * x * (z < 0 ? tail : 2.0f - tail);
}

/// log(1 + e^x), as log(1 + y) = 2 artanh(y / (2 + y)) with y = e^-|x|.
QLIB_ALWAYS_INLINE float softplus(float x) {
  const float y = elementary::exp(x < 0 ? x : -x);
  const float s = y / (2.0f + y);
  const float z = s * s;
  float p = 1.0f / 13.0f;
  p = p * z + 1.0f / 11.0f;
  p = p * z + 1.0f / 9.0f;
  p = p * z + 1.0f / 7.0f;
  p = p * z + 1.0f / 5.0f;
  p = p * z + 1.0f / 3.0f;
  return (x > 0 ? x : 0.0f) + 2.0f * (p * z * s + s);
}

}  // namespace qlib::inline v0::elementary
