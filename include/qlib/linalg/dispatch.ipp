// The matrix products for every instruction set, and the choice among them. A unit of its own in qlib::compiled: Highway includes this
// file again for each target, and must be the first to see <hwy/highway.h>.
#if defined(HWY_HIGHWAY_INCLUDED) && !defined(QLIB_LINALG_DISPATCH_IPP)
#error "qlib: linalg/dispatch.ipp must come before any include of <hwy/highway.h>, and belongs to a unit of qlib::compiled alone."
#endif
#define QLIB_LINALG_DISPATCH_IPP

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qlib/linalg/dispatch.ipp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <qlib/linalg/dispatch.hpp>
#include <qlib/linalg/gemm_kernels-inl.hpp>

#if HWY_ONCE
namespace qlib::inline v0 {
namespace detail {

struct compiled_gemm {
  std::int64_t target;  ///< its bit in hwy::SupportedTargets(); 0 needs none
  const gemm_kernels* kernels;
};

/// Best first. Targets without a fused multiply-add have no kernels of their own.
inline constexpr compiled_gemm compiled_gemms[] = {
#if HWY_TARGETS & HWY_AVX3_DL
    {HWY_AVX3_DL, &N_AVX3_DL::gemm_tile::kernels},
#endif
#if HWY_TARGETS & HWY_AVX3
    {HWY_AVX3, &N_AVX3::gemm_tile::kernels},
#endif
#if (HWY_TARGETS & HWY_AVX2) && !defined(HWY_DISABLE_BMI2_FMA)
    {HWY_AVX2, &N_AVX2::gemm_tile::kernels},
#endif
#if (HWY_TARGETS & HWY_NEON) && HWY_ARCH_ARM_A64
    {HWY_NEON, &N_NEON::gemm_tile::kernels},
#endif
    {0, &scalar_gemm_kernels},
};

}  // namespace detail

std::vector<const gemm_kernels*> compiled_gemm_kernels() {
  const std::int64_t supported = hwy::SupportedTargets();
  std::vector<const gemm_kernels*> usable;
  for (const auto& [target, kernels] : detail::compiled_gemms)
    if (target == 0 || (supported & target) != 0) usable.push_back(kernels);
  return usable;
}

const gemm_kernels& best_gemm_kernels() {
  static const gemm_kernels* const best = compiled_gemm_kernels().front();
  return *best;
}

}  // namespace qlib::inline v0
#endif  // HWY_ONCE
