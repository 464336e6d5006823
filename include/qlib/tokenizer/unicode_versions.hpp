/// Where the Unicode versions in the parts of the `tokenizers` wheel (0.23: 8 to 17) and those of PCRE2 and utf8proc part.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace qlib::inline v0 {
namespace text {

/// A character of Unicode 14 with the general category, the length in UTF-8 and, where there is one, the script of `c`, when `c` came with
/// Unicode 15 to 16; else `c`. Regular expressions and classes of characters see it in place of `c`, so that they need no newer tables.
char32_t stand_in(char32_t c);

/// The text with stand-ins, byte for byte at the same places, or nothing when it would be the same. `s` is valid UTF-8.
std::optional<std::string> with_stand_ins(std::string_view s);

bool later_numeric(char32_t c);      ///< a number since Unicode 17, which `Digits` knows
bool later_punctuation(char32_t c);  ///< punctuation that the reference's older table lacks
bool later_mark(char32_t c);         ///< a combining mark that the table of `StripAccents` lacks
bool later_accent(char32_t c);       ///< a nonspacing mark that the table of `BertNormalizer` lacks
/// A character that the tables of NFC, NFD, NFKC and NFKD lack: it has no decomposition and is never moved.
bool later_normalized(char32_t c);
/// The lower case of characters since Unicode 14; 0 for others.
char32_t later_lower_case(char32_t c);

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/unicode_versions.ipp>
#endif
