// The kernels of one SIMD target, in namespace qlib::v0::HWY_NAMESPACE (N_AVX2, N_AVX3, ...): the overrides of scalar_backend, bit-equal
// with it. Written to Highway 1.0.3. QLIB_HIGHWAY_KERNELS is 0 for targets that have none (scalar_backend serves them).
//
// The namespace keeps targets apart in one program. Two units with one target but different -march flags still share their inline
// code: use one -march in a program, or link qlib::compiled.
#if defined(QLIB_BACKEND_HIGHWAY_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QLIB_BACKEND_HIGHWAY_INL
#undef QLIB_BACKEND_HIGHWAY_INL
#else
#define QLIB_BACKEND_HIGHWAY_INL
#endif

#include <qlib/backend/highway_column-inl.hpp>
#include <qlib/backend/highway_hadamard-inl.hpp>
#include <qlib/backend/highway_histogram-inl.hpp>
#include <qlib/backend/highway_lanes-inl.hpp>
#include <qlib/backend/highway_nibbles-inl.hpp>
#include <qlib/backend/highway_outside-inl.hpp>
#include <qlib/backend/highway_pack-inl.hpp>
#include <qlib/backend/highway_qparams-inl.hpp>
#include <qlib/backend/highway_quantize-inl.hpp>
#include <qlib/backend/highway_range-inl.hpp>
#include <qlib/backend/highway_scaled-inl.hpp>

#endif  // toggle
