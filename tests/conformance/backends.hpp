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

#include <algorithm>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>

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

/// The chips of the fake of Ascend's libraries with each of its rounding profiles.
inline constexpr const char* ascend_chips[] = {"Ascend910B3", "Ascend310P3"};

/// How the suite runs a device: a chip of the fake, its libraries and arithmetic (tests/fake_acl/README.md), and how it is used.
struct device_row {
  const char *name, *chip, *variant, *bins, *static_codes;
  std::size_t chunk_bytes;  ///< 0: as users have it, which is one chunk for all matrices of the suite
  qlib::ascend::path histogram, codes, column_codes;
};

/// Those that differ most come first: laws with many cases take `few_rows` of them.
inline constexpr std::size_t few_rows = 2;
inline constexpr device_row device_rows[] = {
    {"910B3", "Ascend910B3", "new", "torch", "f32", 0, qlib::ascend::path::histc, qlib::ascend::path::quant_v3, qlib::ascend::path::quant_v3_columns},
    {"310P3, codes in f16, small chunks", "Ascend310P3", "new", "torch", "f16", 2048, qlib::ascend::path::histc,
     qlib::ascend::path::quant_v3_transposed, qlib::ascend::path::quant_v3_columns},
    {"910B3, small chunks", "Ascend910B3", "new", "torch", "f32", 1024, qlib::ascend::path::histc, qlib::ascend::path::quant_v3,
     qlib::ascend::path::quant_v3_columns},
    {"310P3, other bins", "Ascend310P3", "new", "own", "f32", 0, qlib::ascend::path::cpu, qlib::ascend::path::quant_v3_transposed,
     qlib::ascend::path::quant_v3_columns},
    {"910B3, old libraries, other bins", "Ascend910B3", "old", "own", "f32", 0, qlib::ascend::path::cpu, qlib::ascend::path::quant_transposed,
     qlib::ascend::path::quant_columns},
};

/// What a law makes a device do; the rest is the CPU's by design (ascend_backend.hpp).
enum class device_work { ranges, column_ranges, column_absmax, histogram, codes, column_codes, values, scaling };

/// The operation, and the path that the row must take.
inline std::pair<qlib::ascend::operation, qlib::ascend::path> expected_path(const device_row& row, device_work work) {
  namespace a = qlib::ascend;
  switch (work) {
    case device_work::ranges:
      return {a::operation::ranges, a::path::aminmax};
    case device_work::column_ranges:
      return {a::operation::ranges, a::path::aminmax_columns};
    case device_work::column_absmax:
      return {a::operation::column_absmax, a::path::aminmax_columns};
    case device_work::histogram:
      return {a::operation::histogram, row.histogram};
    case device_work::codes:
      return {a::operation::quantize, row.codes};
    case device_work::column_codes:
      return {a::operation::quantize, row.column_codes};
    case device_work::values:
      return {a::operation::dequantize, a::path::cast_mul};
    default:
      return {a::operation::scale, a::path::inplace_mul};
  }
}

using device_works = std::initializer_list<device_work>;

/// The device did this work by these paths, and nothing else, whatever the CPU did beside it.
inline void check_paths(const device_row& row, const qlib::ascend::path_record& taken, device_works works) {
  namespace a = qlib::ascend;
  for (std::size_t o = 0; o < a::operation_count; ++o)
    for (std::size_t p = 0; p < a::path_count; ++p) {
      const auto operation = static_cast<a::operation>(o);
      const auto path = static_cast<a::path>(p);
      if (path == a::path::cpu) continue;
      const bool expected = std::any_of(works.begin(), works.end(), [&](device_work w) {
        return expected_path(row, w) == std::pair{operation, path};
      });
      INFO(a::name_of(operation), " by ", a::name_of(path));
      CHECK(taken.took(operation, path) == expected);
    }
}

/// Calls check(backend, its name) for a lane of each row. The device must last, do the work that is its, take no path back, and have been used
/// without a violation or a leak.
template <class Check>
void for_each_device_backend(device_works works, std::size_t rows, Check check) {
  for (const device_row& row : std::span{device_rows}.first(rows)) {
    const std::string name = std::string{"ascend, "} + row.name;
    CAPTURE(name);
    const ascend_test::fake device{{{"SOC", row.chip}, {"HISTC", row.bins}, {"STATIC", row.static_codes}}, row.variant};
    qlib::ascend::lane_options options;
    if (row.chunk_bytes > 0) options.chunk_bytes = options.smallest_chunk_bytes = row.chunk_bytes;
    const ascend_test::session lane{device, {0}, 1, options};
    check(*lane, name);
    CHECK(lane->finish());
    check_paths(row, lane->shared_lane()->record(), works);
    const bool counts = std::find(works.begin(), works.end(), device_work::histogram) != works.end();
    CHECK(lane.lines.size() == (counts && row.histogram == qlib::ascend::path::cpu ? 1 : 0));  // says why Histc is not used
  }
}

/// `works`: what a device must do itself. `rows`: how many ways to use one.
template <class Check>
void for_each_backend(device_works works, std::size_t rows, Check check) {
  for_each_host_backend(check);
  for_each_device_backend(works, rows, check);
}
template <class Check>
void for_each_backend(device_works works, Check check) {
  for_each_backend(works, works.size() == 0 ? 1 : std::size(device_rows), check);
}

}  // namespace law
