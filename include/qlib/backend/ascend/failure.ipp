#pragma once
#include <qlib/backend/ascend/failure.hpp>

namespace qlib::inline v0::ascend {

QLIB_INLINE std::string_view name_of(failure_class kind) {
  constexpr std::string_view names[] = {"none",          "not available", "programming error", "unsupported",
                                        "out of memory", "timeout",       "device lost",       "internal error"};
  return names[static_cast<std::size_t>(kind)];
}

QLIB_INLINE failure_class class_of(std::int32_t code) {
  struct row {
    std::int32_t first, last;
    failure_class kind;
  };
  using enum failure_class;
  constexpr row rows[] = {
      {0, 0, none},
      {100039, 100039, not_available},
      {207004, 207004, not_available},
      {507008, 507008, not_available},
      {507033, 507033, not_available},
      {200000, 200000, out_of_memory},
      {207001, 207001, out_of_memory},
      {207005, 207005, out_of_memory},
      {207007, 207008, out_of_memory},
      {207018, 207018, out_of_memory},
      {300000, 300000, out_of_memory},
      {107019, 107020, timeout},
      {507014, 507014, timeout},
      {507017, 507017, timeout},
      {507034, 507034, timeout},
      {507046, 507047, timeout},
      {507010, 507010, device_lost},
      {507015, 507015, device_lost},
      {507035, 507035, device_lost},
      {507042, 507045, device_lost},
      {507053, 507057, device_lost},
      {200001, 200001, unsupported},
      {200006, 200006, unsupported},
      {207000, 207000, unsupported},
      {361001, 361001, unsupported},
      {561002, 561003, unsupported},
      {561107, 561107, unsupported},
      {561112, 561112, unsupported},
      {200003, 200003, programming},
      {100000, 107999, programming},
      {161001, 161002, programming},
  };
  for (const row& r : rows)
    if (code >= r.first && code <= r.last) return r.kind;
  return internal;
}

QLIB_INLINE std::string failure::line() const {
  const std::size_t colon = text.find(": ");
  std::string out = text.substr(0, colon) + ": " + std::string{name_of(kind)};
  if (code != 0) out += " (" + std::to_string(code) + ")";
  if (colon != std::string::npos) out += text.substr(colon);
  return out;
}

QLIB_INLINE error failure::as_error(std::string where, std::string remedy) const {
  return {.kind = error_kind::run_failed, .where = std::move(where), .subject = {}, .problem = line(), .remedy = std::move(remedy)};
}

}  // namespace qlib::inline v0::ascend
