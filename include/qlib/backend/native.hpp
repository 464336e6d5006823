/// The backend that is used where none is named.
///
/// With qlib::compiled it picks the CPU's best kernels at run time. Header-only it is the scalar one: the SIMD kernels would double
/// the compile time of every unit (0.9 s to 1.7 s, g++ -O2), and without -march they could not use more than the baseline anyway. Units that
/// want them include backend/highway.hpp and name highway_backend.
#pragma once
#if defined(QLIB_COMPILED)
#include <qlib/backend/dispatch.hpp>
#else
#include <qlib/backend/scalar.hpp>

namespace qlib::inline v0 {
using native_backend = scalar_backend;
}  // namespace qlib::inline v0
#endif
