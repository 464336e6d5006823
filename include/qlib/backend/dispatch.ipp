// The kernels for every instruction set, and the choice among them. Compiled by exactly one unit of qlib::compiled, as the first
// thing in it: Highway includes this file again for each target.
#if defined(HWY_HIGHWAY_INCLUDED) && !defined(QLIB_BACKEND_DISPATCH_IPP)
#error "qlib: backend/dispatch.ipp must come before any include of <hwy/highway.h>, and belongs to the unit of qlib::compiled alone."
#endif
#define QLIB_BACKEND_DISPATCH_IPP

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qlib/backend/dispatch.ipp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <qlib/backend/dispatch.hpp>
#include <qlib/backend/highway-inl.hpp>

#if QLIB_HIGHWAY_KERNELS
HWY_BEFORE_NAMESPACE();
namespace qlib::inline v0 {
namespace HWY_NAMESPACE {

inline constexpr kernel_table kernels {
#if HWY_TARGET == HWY_AVX3_DL
  "avx3_dl",
#elif HWY_TARGET == HWY_AVX3
  "avx3",
#elif HWY_TARGET == HWY_AVX2
  "avx2",
#elif HWY_TARGET == HWY_SSE4
  "sse4",
#elif HWY_TARGET == HWY_SSSE3
  "ssse3",
#elif HWY_TARGET == HWY_NEON
  "neon",
#else
  "emulated",
#endif
      {to_float<float>,      ranges<float>,    solve_tiles<float>, quantize<float>,        quantize_nibbles<float>,
       column_absmax<float>, histogram<float>, outside<float>,     scaled_quantize<float>, scaled_fake_quantize<float>},
      {to_float<bf16>,      ranges<bf16>,    solve_tiles<bf16>, quantize<bf16>,        quantize_nibbles<bf16>,
       column_absmax<bf16>, histogram<bf16>, outside<bf16>,     scaled_quantize<bf16>, scaled_fake_quantize<bf16>},
      {to_float<f16>,      ranges<f16>,    solve_tiles<f16>, quantize<f16>,        quantize_nibbles<f16>,
       column_absmax<f16>, histogram<f16>, outside<f16>,     scaled_quantize<f16>, scaled_fake_quantize<f16>},
      solve_qparams, dequantize, pack_nibbles, pack_nibble_rows, finish_streaming, scale_columns, scale_rows, hadamard_rows, hadamard_columns,
      combine_rows,
};

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS

#if HWY_ONCE
#include <string>

namespace qlib::inline v0 {
namespace detail {

template <Element T>
constexpr element_kernels<T> scalar_kernels() {
  return {[](matrix_view<const T> x, matrix_view<float> out) { scalar_backend{}.to_float(x, out); },
          [](matrix_view<const T> x, tile t, std::span<range> out) { scalar_backend{}.ranges(x, t, out); },
          [](matrix_view<const T> x, const quant_spec& spec, qparams_view q) { return scalar_backend{}.solve_tiles(x, spec, q); },
          [](matrix_view<const T> x, const quant_spec& spec, const_qparams_view q, matrix_view<std::int8_t> codes, bool) {
            scalar_backend{}.quantize(x, spec, q, codes);
          },
          [](matrix_view<const T> x, const quant_spec& spec, const_qparams_view q, std::uint8_t flip, matrix_view<std::int8_t> codes,
             matrix_view<std::uint8_t> bytes, bool) { scalar_backend{}.quantize_nibbles(x, spec, q, flip, codes, bytes); },
          [](matrix_view<const T> x, std::span<float> out) { scalar_backend{}.column_absmax(x, out); },
          [](matrix_view<const T> x, range limits, std::span<std::uint32_t> counts) { scalar_backend{}.histogram(x, limits, counts); },
          [](matrix_view<const T> x, range inner, std::span<float> out) { return scalar_backend{}.outside(x, inner, out); },
          [](matrix_view<const T> x, std::span<const float> factors, const quant_spec& spec, qparams_view q, matrix_view<std::int8_t> codes, bool) {
            return scalar_backend{}.scaled_quantize(x, factors, spec, q, codes);
          },
          [](matrix_view<const T> x, std::span<const float> factors, const quant_spec& spec, matrix_view<float> out, bool) {
            return scalar_backend{}.scaled_fake_quantize(x, factors, spec, out);
          }};
}

inline constexpr kernel_table scalar_table{
    "scalar",
    scalar_kernels<float>(),
    scalar_kernels<bf16>(),
    scalar_kernels<f16>(),
    [](std::span<const range> seen, const quant_spec& spec, qparams_view out) { scalar_backend{}.solve_qparams(seen, spec, out); },
    [](matrix_view<const std::int8_t> codes, const quant_spec& spec, const_qparams_view q, matrix_view<float> out) {
      scalar_backend{}.dequantize(codes, spec, q, out);
    },
    [](matrix_view<const std::int8_t> codes, std::uint8_t flip, matrix_view<std::uint8_t> bytes, bool) {
      scalar_backend{}.pack_nibbles(codes, flip, bytes);
    },
    [](matrix_view<const std::int8_t> codes, matrix_view<std::uint8_t> bytes, bool) { scalar_backend{}.pack_nibble_rows(codes, bytes); },
    [] {},
    [](matrix_view<float> x, std::span<const float> factors) { scalar_backend{}.scale_columns(x, factors); },
    [](matrix_view<float> x, std::span<const float> factors) { scalar_backend{}.scale_rows(x, factors); },
    [](matrix_view<float> x, std::size_t block) { scalar_backend{}.hadamard_rows(x, block); },
    [](matrix_view<float> x, std::size_t block) { scalar_backend{}.hadamard_columns(x, block); },
    [](matrix_view<const float> signs, matrix_view<const float> x, matrix_view<float> out) { scalar_backend{}.combine_rows(signs, x, out); },
};

struct compiled_table {
  std::int64_t target;  ///< its bit in hwy::SupportedTargets(); 0 needs none
  const kernel_table* kernels;
};

/// Best first.
inline constexpr compiled_table compiled_tables[] = {
#if HWY_TARGETS & HWY_AVX3_DL
    {HWY_AVX3_DL, &N_AVX3_DL::kernels},
#endif
#if HWY_TARGETS & HWY_AVX3
    {HWY_AVX3, &N_AVX3::kernels},
#endif
#if HWY_TARGETS & HWY_AVX2
    {HWY_AVX2, &N_AVX2::kernels},
#endif
#if HWY_TARGETS & HWY_SSE4
    {HWY_SSE4, &N_SSE4::kernels},
#endif
#if HWY_TARGETS & HWY_SSSE3
    {HWY_SSSE3, &N_SSSE3::kernels},
#endif
#if HWY_TARGETS & HWY_NEON
    {HWY_NEON, &N_NEON::kernels},
#endif
    {0, &scalar_table},
};

}  // namespace detail

std::vector<std::string_view> compiled_targets() {
  const std::int64_t supported = hwy::SupportedTargets();
  std::vector<std::string_view> names;
  for (const auto& [target, kernels] : detail::compiled_tables)
    if (target == 0 || (supported & target) != 0) names.push_back(kernels->isa);
  return names;
}

const kernel_table& best_kernels() {
  static const kernel_table* const best = [] {
    const std::int64_t supported = hwy::SupportedTargets();
    for (const auto& [target, kernels] : detail::compiled_tables)
      if ((supported & target) != 0) return kernels;
    return &detail::scalar_table;
  }();
  return *best;
}

std::string_view chosen_target() { return best_kernels().isa; }

result<const kernel_table*> kernels_for(std::string_view isa) {
  const std::int64_t supported = hwy::SupportedTargets();
  for (const auto& [target, kernels] : detail::compiled_tables)
    if (kernels->isa == isa && (target == 0 || (supported & target) != 0)) return kernels;
  std::string choices;
  for (std::string_view name : compiled_targets()) choices += (choices.empty() ? "" : ", ") + std::string{name};
  return error{
      .subject = "instruction set '" + std::string{isa} + "'", .problem = "unknown, or this CPU lacks it", .remedy = "choose one of " + choices};
}

}  // namespace qlib::inline v0
#endif  // HWY_ONCE
