/// Matrix products for the CPU that the program runs on, chosen once at run time. Only in qlib::compiled, as backend/dispatch.hpp.
#pragma once
#include <qlib/config.hpp>

#if !defined(QLIB_COMPILED)
#error "qlib/linalg/dispatch.hpp is part of qlib::compiled: link it, or include qlib/linalg/gemm.hpp"
#endif

#include <qlib/linalg/gemm_kernels.hpp>

#include <vector>

namespace qlib::inline v0 {

/// The kernels in the library that this CPU runs, best first; the scalar ones are always the last.
std::vector<const gemm_kernels*> compiled_gemm_kernels();

/// The first of them.
const gemm_kernels& best_gemm_kernels();

}  // namespace qlib::inline v0
