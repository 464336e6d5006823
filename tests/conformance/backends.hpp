// The backends that are compared with scalar_backend, and how far each may be from it.
#pragma once
#include "../backend/ascend_fake.hpp"
#include "loose_matrix.hpp"

#include <qlib/backend/ascend/numeric_bounds.hpp>
#include <qlib/backend/highway.hpp>
#if defined(QLIB_COMPILED)
#include <qlib/backend/dispatch.hpp>
#endif

#include <doctest/doctest.h>

#include <string>
#include <string_view>

namespace law {

/// How far a backend's integer codes may be from the scalar ones, scales given. All other results are equal to the bit for every backend.
struct code_tolerance {
  int difference = 0;      ///< of one code; any may differ that was put near the middle of two
  double rate = 0;         ///< of codes that may differ elsewhere
  std::size_t chance = 0;  ///< more of them, for samples too small for a rate
};

/// The one place: 0 for the backends of CPUs.
template <class B>
code_tolerance tolerance_of(const B&, qlib::dtype) {
  return {};
}

/// ... and numeric_bounds.hpp for a device's.
inline code_tolerance tolerance_of(const qlib::ascend_backend& b, qlib::dtype type) {
  const qlib::ascend::numeric_bounds bounds = qlib::ascend::bounds_of(b.shared_lane()->known().family(), type);
  return {bounds.code_difference, bounds.static_rate, bounds.mismatches(bounds.static_rate, 0)};
}

/// Compares codes, the guards between rows too, as a tolerance allows.
class code_comparison {
 public:
  explicit code_comparison(code_tolerance allowed) : allowed_{allowed} {}

  /// No code is further away than is allowed; those that differ are counted.
  bool near(const std::int8_t* fast, const std::int8_t* slow, std::size_t n) {
    all_ += n;
    bool within = true;
    for (std::size_t i = 0; i < n; ++i) {
      const int d = std::abs(fast[i] - slow[i]);
      within = within && d <= allowed_.difference;
      different_ += d != 0;
    }
    return within;
  }
  bool near(const loose_matrix<std::int8_t>& fast, const loose_matrix<std::int8_t>& slow) {
    if (fast.memory.size() != slow.memory.size()) return false;
    const std::size_t before = all_;
    const bool within = near(fast.memory.data(), slow.memory.data(), fast.memory.size());
    all_ = before + fast.rows * fast.cols;  // guards are no codes
    return within;
  }

  /// Not more of them differ than are allowed. Not for values that were put at ties.
  bool rare() const { return different_ <= allowed_.chance + static_cast<std::size_t>(allowed_.rate * static_cast<double>(all_)); }
  std::size_t different() const { return different_; }
  std::size_t all() const { return all_; }

 private:
  code_tolerance allowed_;
  std::size_t all_ = 0, different_ = 0;
};

/// Calls check(backend, its name) for the static Highway target of this unit and, with qlib::compiled, for every instruction set that the
/// library has and this CPU runs.
template <class Check>
void for_each_host_backend(Check check) {
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

/// The chips whose arithmetic the fake of Ascend's libraries has: one of each rounding profile.
inline constexpr const char* ascend_chips[] = {"Ascend910B3", "Ascend310P3"};

/// The same for a lane on each chip of the fake. The device must last, and have been used without a violation or a leak.
template <class Check>
void for_each_device_backend(Check check) {
  for (const char* chip : ascend_chips) {
    const ascend_test::fake device{{{"SOC", chip}}};
    const ascend_test::session lane{device};
    check(*lane, std::string{"ascend, "} + chip);
    CHECK(lane->finish());
  }
}

template <class Check>
void for_each_backend(Check check) {
  for_each_host_backend(check);
  for_each_device_backend(check);
}

}  // namespace law
