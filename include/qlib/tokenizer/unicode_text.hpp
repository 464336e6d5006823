/// Characters: UTF-8 in and out, and the Unicode classes that tokenizers ask for.
#pragma once
#include <qlib/config.hpp>

#include <string>
#include <string_view>

namespace qlib::inline v0 {
namespace text {

struct character {
  char32_t code;
  unsigned length;  ///< bytes in UTF-8
};

/// The character at byte `at` of valid UTF-8; `at` is less than the size.
inline character character_at(std::string_view s, std::size_t at) {
  const auto byte = [&](std::size_t k) { return static_cast<char32_t>(static_cast<unsigned char>(s[at + k])); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xe0) return {(lead & 0x1fu) << 6 | (byte(1) & 0x3fu), 2};
  if (lead < 0xf0) return {(lead & 0x0fu) << 12 | (byte(1) & 0x3fu) << 6 | (byte(2) & 0x3fu), 3};
  return {(lead & 0x07u) << 18 | (byte(1) & 0x3fu) << 12 | (byte(2) & 0x3fu) << 6 | (byte(3) & 0x3fu), 4};
}

/// Where the last character before `at` begins; `at` is in (0, size].
inline std::size_t character_before(std::string_view s, std::size_t at) {
  --at;
  while (at > 0 && (static_cast<unsigned char>(s[at]) & 0xc0u) == 0x80u) --at;
  return at;
}

inline void append_utf8(std::string& out, char32_t c) {
  const auto push = [&](char32_t b) { out += static_cast<char>(static_cast<unsigned char>(b)); };
  if (c < 0x80) return push(c);
  if (c < 0x800) push(0xc0u | c >> 6);
  else if (c < 0x10000) push(0xe0u | c >> 12), push(0x80u | (c >> 6 & 0x3fu));
  else push(0xf0u | c >> 18), push(0x80u | (c >> 12 & 0x3fu)), push(0x80u | (c >> 6 & 0x3fu));
  push(0x80u | (c & 0x3fu));
}

/// Unicode White_Space: 25 code points, unchanged since Unicode 6.3.
constexpr bool is_white_space(char32_t c) {
  return (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
         c == 0x202f || c == 0x205f || c == 0x3000;
}

bool is_word(char32_t c);         ///< `\w` of regular expressions: letters, marks, digits, connectors
bool is_numeric(char32_t c);      ///< general category N
bool is_punctuation(char32_t c);  ///< general category P as of the reference's older table, and ASCII punctuation of category S
bool is_mark(char32_t c);         ///< general category M, as the older table of `StripAccents` has it
bool is_accent(char32_t c);       ///< general category Mn, as the older table of `BertNormalizer` has it
bool is_control(char32_t c);      ///< general categories Cc, Cf and Co; not tab, line feed, carriage return
void append_lower_case(std::string& out, char32_t c);

enum class normal_form { nfc, nfd, nfkc, nfkd };

/// `s`, which is valid UTF-8, in a Unicode normal form. Text that is obviously in NFC already is returned without a look-up.
std::string normal_form_of(std::string_view s, normal_form form);

/// The bytes of the first extended grapheme cluster of `s`, which is valid UTF-8 and not empty.
std::size_t grapheme_length(std::string_view s);

/// `s` with each maximal ill-formed part replaced by U+FFFD, as Rust's `from_utf8_lossy` does.
std::string valid_utf8(std::string_view s);

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/unicode_text.ipp>
#endif
