/// GPT-2's alphabet: one printable character for each byte, in which byte-level vocabularies are written.
#pragma once
#include <qlib/tokenizer/unicode_text.hpp>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace qlib::inline v0 {
namespace text {

namespace detail {
/// code[b] is the character of byte b; byte[c] the byte of character c, or -1. Characters end at U+0143.
struct byte_alphabet_table {
  std::array<char32_t, 256> code{};
  std::array<std::int16_t, 0x144> byte{};
  constexpr byte_alphabet_table() {
    for (std::int16_t& b : byte) b = -1;
    char32_t next = 256;
    for (char32_t b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      code[b] = printable ? b : next++;
      byte[code[b]] = static_cast<std::int16_t>(b);
    }
  }
};
inline constexpr byte_alphabet_table byte_alphabet{};
}  // namespace detail

/// Appends the alphabet's characters for `bytes`.
inline void append_in_byte_alphabet(std::string& out, std::string_view bytes) {
  for (const char b : bytes) append_utf8(out, detail::byte_alphabet.code[static_cast<unsigned char>(b)]);
}

/// Replaces `out` with the bytes that `written`, valid UTF-8, stands for. False when a character is not of the alphabet.
inline bool from_byte_alphabet(std::string_view written, std::string& out) {
  out.clear();
  for (std::size_t at = 0; at < written.size();) {
    const character c = character_at(written, at);
    if (c.code >= detail::byte_alphabet.byte.size() || detail::byte_alphabet.byte[c.code] < 0) return false;
    out += static_cast<char>(static_cast<unsigned char>(detail::byte_alphabet.byte[c.code]));
    at += c.length;
  }
  return true;
}

}  // namespace text
}  // namespace qlib::inline v0
