#pragma once
#include <qlib/backend/ascend/soc.hpp>
#include <qlib/core/dtype.hpp>

#include <cstddef>
#include <cstdint>

namespace qlib::inline v0::ascend {

/// How far the device's results may be from the scalar backend's. Reductions and scalings have no bound: they are exact, because they round
/// once, as the scalar backend does, or not at all.
struct numeric_bounds {
  int code_difference = 1;     ///< of quantized codes
  double static_rate = 1e-4;   ///< of codes that differ, scales given
  double dynamic_rate = 1e-4;  ///< of codes that differ, scales found by the device
  double scale_relative = 2e-7;

  /// Codes that may differ among n: the rate, and one for samples too small for a rate.
  constexpr std::size_t mismatches(double rate, std::size_t n) const { return 1 + static_cast<std::size_t>(rate * static_cast<double>(n)); }
};

/// Of quantized values that were stored as `type`.
///
/// Static codes are round(x * (1/s)) where scalar has round(x / s): two roundings more, 2^-23 of at most 128 codes, so that 3e-5 of all values
/// lie near enough to a tie. Values of few bits lie at ties themselves (half of a tile's largest is code 63.5): one mantissa of the 2^7 that
/// bf16 has, or the 2^10 of f16. Dynamic codes are as near on A2 (for f16, 6.8e-5 of them measured on the vendor's arithmetic, and one
/// unit in the last place of the scale); 310P multiplies in f16 and rounds ties away: 1.07e-2, and f16's 2^-10. How it computes static codes is
/// not known: in f16 x, 1/s and the product are three roundings of 2^-11, 0.19 of a code at most; 1.2e-2 of a trained model's codes differ so.
constexpr numeric_bounds bounds_of(soc_family family, dtype type) {
  if (family == soc_family::p310 || family == soc_family::train1) return {.static_rate = 2e-2, .dynamic_rate = 2e-2, .scale_relative = 0x1p-10};
  const double rate = type == dtype::bf16 ? 0x1p-7 : type == dtype::f16 ? 0x1p-10 : 1e-4;
  return {.static_rate = rate, .dynamic_rate = rate};
}

/// Where static codes may be made in f16, for all that is known: scales and zero points that f16 holds in too few bits, or not at all, are the
/// CPU's. Scales up to 2^8, so that values beyond f16 are beyond the codes too.
constexpr bool may_quantize_in_f16(soc_family family) { return family == soc_family::p310; }
constexpr bool f16_quantizes_by(float scale) { return scale > 0x1p-15f && scale <= 0x1p8f; }
constexpr bool f16_quantizes_from(std::int32_t zero_point) { return zero_point >= -128 && zero_point <= 127; }

/// Where 127 / absmax is an f16, and not an f32.
constexpr bool quantizes_in_f16(soc_family family) { return family == soc_family::p310 || family == soc_family::train1; }

/// Products of int8 codes, relative to each result: exact int32 sums, but on 310P, which rounds them to f16 (one unit in the last place).
constexpr float int8_product_relative(soc_family family) { return family == soc_family::p310 ? 0x1p-10f : 0.0f; }

/// Weight-only products: each of x, scale, weight and output is rounded to 16 bits, and sums are f32. Relative to sum |x| |w| over k.
constexpr float weight_only_relative(dtype type) { return type == dtype::bf16 ? 4 * 0x1p-9f : 4 * 0x1p-11f; }

}  // namespace qlib::inline v0::ascend
