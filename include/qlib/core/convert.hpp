/// Storage-only float types and their exact conversions. All to-float conversions are exact; all from-float conversions round to
/// nearest, ties to even.
#pragma once
#include <qlib/config.hpp>
#include <qlib/core/dtype.hpp>

#include <bit>
#include <cmath>
#include <cstdint>

namespace qlib::inline v0 {

/// bfloat16: the upper half of a float32.
struct bf16 {
  std::uint16_t bits;
  friend constexpr bool operator==(bf16, bf16) = default;
};

/// IEEE binary16.
struct f16 {
  std::uint16_t bits;
  friend constexpr bool operator==(f16, f16) = default;
};

constexpr float to_float(float x) { return x; }

constexpr float to_float(bf16 x) { return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16); }

constexpr float to_float(f16 x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (x.bits >> 10) & 31u;
  const std::uint32_t mantissa = x.bits & 1023u;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // subnormal: exact
  return sign ? -magnitude : magnitude;
}

/// NaN keeps its sign and becomes quiet.
constexpr bf16 to_bf16(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

/// Overflow gives infinity, as IEEE says.
constexpr f16 to_f16(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint16_t sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};  // 65520 and above
  if (magnitude < 0x38800000u) {                                                      // below 2^-14: subnormal or zero
    // 0.5 as float has an ulp of 2^-24, the step of f16 subnormals: the addition rounds, the subtraction reads the code off.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u))};
  }
  const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return {static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

/// Largest finite value of float8 e4m3fn.
inline constexpr float e4m3_max = 448.0f;

/// float8 e4m3fn of a value that the caller clamped to +-448; NaN gives 0x7f.
constexpr std::uint8_t to_e4m3(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint8_t sign = static_cast<std::uint8_t>((bits >> 24) & 0x80u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint8_t>(sign | 0x7fu);
  if (magnitude < 0x3c800000u) {  // below 2^-6: subnormal, steps of 2^-9; 2^14 as float has an ulp of 2^-9
    const float shifted = std::bit_cast<float>(magnitude) + 16384.0f;
    return static_cast<std::uint8_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x46800000u));
  }
  const std::uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1u);
  const std::uint32_t code = (rounded - 0x3c000000u) >> 20;  // exponent bias 127 - 7 = 120
  return static_cast<std::uint8_t>(sign | (code > 0x7eu ? 0x7fu : code));
}

/// 0x7f and 0xff are NaN; there is no infinity.
constexpr float e4m3_to_float(std::uint8_t code) {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x80u) << 24;
  const std::uint32_t magnitude = code & 0x7fu;
  if (magnitude == 0x7fu) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (magnitude >= 8) return std::bit_cast<float>(sign | ((magnitude << 20) + 0x3c000000u));
  const float subnormal = static_cast<float>(magnitude) * 0x1p-9f;
  return sign ? -subnormal : subnormal;
}

/// float4 e2m1 in the low half of a byte: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.
constexpr float e2m1_to_float(std::uint8_t code) {
  const int exponent = (code >> 1) & 3, fraction = code & 1;
  const float magnitude = exponent == 0 ? 0.5f * static_cast<float>(fraction) : static_cast<float>((2 + fraction) << exponent) * 0.25f;
  return code & 8 ? -magnitude : magnitude;
}

/// float8 e8m0: 2^(code - 127); 255 is NaN.
constexpr float e8m0_to_float(std::uint8_t code) {
  if (code == 255) return std::bit_cast<float>(0x7fc00000u);
  return std::bit_cast<float>(code == 0 ? 0x00400000u : static_cast<std::uint32_t>(code) << 23);
}

/// x rounded to `t` and widened again: how "computed in bf16" is said in this library. f32 is the identity.
constexpr float round_to(dtype t, float x) {
  switch (t) {
    case dtype::bf16:
      return to_float(to_bf16(x));
    case dtype::f16:
      return to_float(to_f16(x));
    default:
      return x;
  }
}

/// Machine epsilon of a float storage type, as PyTorch's `finfo(dtype).eps`.
constexpr float epsilon_of(dtype t) {
  switch (t) {
    case dtype::bf16:
      return 0x1p-7f;
    case dtype::f16:
      return 0x1p-10f;
    case dtype::f8_e4m3:
      return 0.125f;
    default:
      return 0x1p-23f;
  }
}

/// The dtype of a C++ element type.
template <class T>
inline constexpr dtype dtype_of = dtype::u8;
template <>
inline constexpr dtype dtype_of<float> = dtype::f32;
template <>
inline constexpr dtype dtype_of<bf16> = dtype::bf16;
template <>
inline constexpr dtype dtype_of<f16> = dtype::f16;
template <>
inline constexpr dtype dtype_of<std::int8_t> = dtype::i8;
template <>
inline constexpr dtype dtype_of<std::int32_t> = dtype::i32;

}  // namespace qlib::inline v0
