/// Numbers as people read them. Does not depend on the locale.
#pragma once
#include <qlib/config.hpp>

#include <charconv>
#include <cmath>
#include <string>

namespace qlib::inline v0 {

/// At most `digits` significant digits: "0.00123", "1.2e-07", "41"; whole numbers below ten million are not shortened.
inline std::string significant(double value, int digits = 3) {
  if (std::isnan(value)) return "unknown";
  if (std::isinf(value)) return value < 0 ? "−∞" : "∞";
  char text[40];
  const double magnitude = std::abs(value);
  const bool whole = magnitude >= std::pow(10, digits) - 0.5 && magnitude < 1e7;
  const auto end = whole ? std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, 0).ptr
                         : std::to_chars(text, text + sizeof text, value, std::chars_format::general, digits).ptr;
  return {text, end};
}

/// So many digits after the point.
inline std::string fixed(double value, int digits) {
  if (!std::isfinite(value)) return significant(value);
  char text[400];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, digits).ptr;
  return {text, end};
}

/// "3.20 GB": powers of ten, as disks and file managers count.
inline std::string bytes_text(double bytes) {
  const char* unit = "B";
  for (const char* next : {"kB", "MB", "GB", "TB"}) {
    if (bytes < 1000) break;
    bytes /= 1000;
    unit = next;
  }
  return fixed(bytes, *unit == 'B' ? 0 : bytes < 10 ? 2 : bytes < 100 ? 1 : 0) + " " + unit;
}

/// A share of one, as percent: "12.3 %", "0.0041 %".
inline std::string percent(double share) { return significant(share * 100) + " %"; }

}  // namespace qlib::inline v0
