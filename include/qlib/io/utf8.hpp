#pragma once
#include <cstddef>
#include <optional>
#include <string_view>

namespace qlib::inline v0 {

/// The offset of the first character that is not UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
constexpr std::optional<std::size_t> first_invalid_utf8(std::string_view text) {
  // 0 past the end: it is no continuation byte, so a character cut short is invalid.
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  for (std::size_t i = 0; i < text.size();) {
    const unsigned lead = byte(i);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    if (lead < 0xc2 || lead > 0xf4) return i;
    // The second byte excludes overlong forms (E0, F0), surrogates (ED) and values above U+10FFFF (F4).
    const unsigned low = lead == 0xe0 ? 0xa0u : lead == 0xf0 ? 0x90u : 0x80u;
    const unsigned high = lead == 0xed ? 0x9fu : lead == 0xf4 ? 0x8fu : 0xbfu;
    if (byte(i + 1) < low || byte(i + 1) > high) return i;
    const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    for (std::size_t k = 2; k < length; ++k)
      if ((byte(i + k) & 0xc0u) != 0x80u) return i;
    i += length;
  }
  return std::nullopt;
}

}  // namespace qlib::inline v0
