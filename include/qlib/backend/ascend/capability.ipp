#pragma once
#include <qlib/backend/ascend/capability.hpp>

namespace qlib::inline v0::ascend {

QLIB_INLINE bool has_functions(path p, const functions& api) {
  using enum path;
  switch (p) {
    case cpu:
      return true;
    case aminmax:
    case aminmax_columns:
      return api.aclnnAminmax;
    case amin_amax:
    case amin_amax_columns:
      return api.aclnnAmin && api.aclnnAmax;
    case histc:
      return api.aclnnHistc;
    case quant_v3:
    case quant_v3_transposed:
    case quant_v3_columns:
      return api.aclnnAscendQuantV3;
    case quant_transposed:
    case quant_columns:
      return api.aclnnAscendQuant;
    case quant_elementwise:
      return api.aclnnMul && api.aclnnAdd && api.aclnnRound && api.aclnnClamp && api.aclnnCast;
    case cast_mul:
      return api.aclnnCast && api.aclnnAdd && api.aclnnMul;
    case inplace_mul:
      return api.aclnnInplaceMul;
    case mul:
      return api.aclnnMul;
    case dynamic_quant:
      return api.aclnnDynamicQuant;
    case dynamic_quant_v2:
      return api.aclnnDynamicQuantV2;
    case in_two_steps:  // made of other paths, which have their own verdicts
      return true;
    case quant_matmul_v5:
    case quant_matmul_v5_half:
      return api.aclnnQuantMatmulV5;
    case quant_matmul_v4:
    case quant_matmul_v4_half:
      return api.aclnnQuantMatmulV4;
    case quant_matmul_v3:
    case quant_matmul_v3_half:
      return api.aclnnQuantMatmulV3;
    case weight_quant_v3:
      return api.aclnnWeightQuantBatchMatmulV3;
    case weight_quant_v2:
      return api.aclnnWeightQuantBatchMatmulV2;
    case anti_quant_mm:
      return api.aclnnAscendAntiQuant && api.aclnnMm;
    case hold_widened:
      return api.aclnnCast;
    case hold_floats:  // a copy
      return true;
  }
  return false;
}

QLIB_INLINE bool is_allowed(path p, soc_family family, dtype type) {
  using enum path;
  // For the chip without int32 results; elsewhere the CPU's exact sums are preferred to rounded ones.
  if (p == quant_matmul_v5_half || p == quant_matmul_v4_half || p == quant_matmul_v3_half) return family == soc_family::p310;
  if (p == cpu || family == soc_family::unknown) return true;  // unknown: the first use tells
  if (family == soc_family::b310) return false;
  if (p == hold_floats) return true;
  if (type == dtype::bf16 && !has_bf16(family)) return false;
  const bool train1 = family == soc_family::train1, p310 = family == soc_family::p310, a5 = family == soc_family::a5;
  switch (p) {
    case quant_v3:  // one scale a row: axis -2
      return !train1 && !p310;
    case quant_v3_transposed:
    case quant_v3_columns:
      return !train1;
    case quant_transposed:
    case quant_columns:
      return !train1 && !a5;
    case dynamic_quant:
    case dynamic_quant_v2:
      return type != dtype::f32;
    case quant_matmul_v5:
    case quant_matmul_v4:
    case quant_matmul_v3:
      return !train1 && !p310;  // 310P has no int32 result
    case weight_quant_v3:
      return !train1 && !p310 && type != dtype::f32;
    case weight_quant_v2:
      return !train1 && type != dtype::f32;
    case anti_quant_mm:
      return !train1 && !a5 && type != dtype::f32;
    case quant_elementwise:  // Round
      return !p310;
    default:
      return true;
  }
}

QLIB_INLINE std::optional<bool> capability::verdict(path p, dtype type) const {
  const std::lock_guard lock{reading_};
  return verdicts_[static_cast<std::size_t>(p)][place(type)];
}

QLIB_INLINE void capability::set_verdict(path p, dtype type, bool works) {
  const std::lock_guard lock{reading_};
  verdicts_[static_cast<std::size_t>(p)][place(type)] = works;
}

QLIB_INLINE bool capability::refuses(path p, dtype type, std::size_t width) const {
  const std::lock_guard lock{reading_};
  for (const refused_width& r : refused_)
    if (r.p == p && r.type == type && r.width == width) return true;
  return false;
}

QLIB_INLINE bool capability::add_refused(path p, dtype type, std::size_t width) {
  const std::lock_guard lock{reading_};
  std::size_t widths = 0;
  for (const refused_width& r : refused_)
    if (r.p == p && r.type == type) {
      if (r.width == width) return true;  // by another lane meanwhile
      ++widths;
    }
  if (widths >= most_widths) {
    verdicts_[static_cast<std::size_t>(p)][place(type)] = false;
    return false;
  }
  refused_.push_back({p, type, width});
  return true;
}

}  // namespace qlib::inline v0::ascend
