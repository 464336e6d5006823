/// What an engine makes of the input of a quantized linear layer before its product.
#pragma once
#include <qlib/core/quant_spec.hpp>
#include <qlib/core/view.hpp>

#include <cstddef>
#include <vector>

namespace qlib::inline v0 {

enum class activation_type {
  floating,  ///< not quantized
  integer,   ///< num_bits, two's complement
  e4m3,
  mxfp8,  ///< e4m3, a power of two for 32 columns (OCP MX)
  mxfp4,  ///< e2m1, likewise
};

/// Quantizes and dequantizes rows, each by itself, in f32: y = (q - zero_point) * scale with q rounded half to even.
///
/// Dynamic scales are those of the rule: `ascend` absmax / (2^(b-1) - 1) and absmax / 448, at least 1e-12 (vLLM-Ascend's npu_dynamic_quant);
/// `compressed_tensors` absmax / (2^(b-1) - 1/2) and absmax / 448, epsilon for zero (its emulation of a scheme).
struct activation_arithmetic {
  activation_type type = activation_type::floating;
  int num_bits = 8;
  bool dynamic = false, symmetric = true;
  scale_rule rule = scale_rule::ascend;
  std::size_t group_size = 0;       ///< columns that share a dynamic scale; 0: all
  float scale = 1, zero_point = 0;  ///< static
  bool reciprocal = false;          ///< static: x * (1 / scale), as npu_quantize is given it, instead of x / scale
  std::vector<float> factors = {};  ///< of the columns, applied first (smoothing that no norm could take), or empty
  std::vector<float> shift = {};    ///< of the columns, added before that (the bias of the norm that made x), or empty

  bool identity() const { return type == activation_type::floating && factors.empty() && shift.empty(); }

  /// x, y: [columns]; they may be the same.
  void apply_row(const float* x, float* y, std::size_t columns) const;

  /// x, y: the same shape.
  void apply(matrix_view<const float> x, matrix_view<float> y, std::size_t threads) const;
};

/// One value by a static scale.
float fake_quantize(float x, float scale, float zero_point, activation_type type, int num_bits);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/format/activation_arithmetic.ipp>
#endif
