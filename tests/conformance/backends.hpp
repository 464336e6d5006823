// The backends that are compared with scalar_backend.
#pragma once
#include <qlib/backend/highway.hpp>
#if defined(QLIB_COMPILED)
#include <qlib/backend/dispatch.hpp>
#endif

#include <doctest/doctest.h>

#include <string>
#include <string_view>

namespace law {

/// Calls check(backend, its name) for the static Highway target of this unit and, with qlib::compiled, for every instruction set that the
/// library has and this CPU runs.
template <class Check>
void for_each_backend(Check check) {
  check(qlib::highway_backend{}, "highway, static");
#if QLIB_HIGHWAY_KERNELS
  check(qlib::highway_backend{}.streaming(), "highway, static, streaming");
#endif
#if defined(QLIB_COMPILED)
  for (std::string_view isa : qlib::compiled_targets()) {
    const auto kernels = qlib::kernels_for(isa);
    REQUIRE(kernels);
    check(qlib::native_backend{**kernels}, std::string{isa});
    check(qlib::native_backend{**kernels}.streaming(), std::string{isa} + ", streaming");
  }
#endif
}

}  // namespace law
