#pragma once
#include <qlib/io/utf8.hpp>
#include <qlib/tokenizer/unicode_text.hpp>
#include <qlib/tokenizer/unicode_versions.hpp>

#include <algorithm>
#include <cstdlib>

#include <utf8proc.h>

namespace qlib::inline v0 {
namespace text {

namespace detail {
QLIB_INLINE utf8proc_category_t category_of(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

/// Starters that canonical composition leaves alone when only such characters are around them.
QLIB_INLINE bool inert_in_nfc(char32_t c) {
  return c < 0x300 || (c >= 0x400 && c < 0x483) || (c >= 0x2010 && c < 0x2028) || (c >= 0x3001 && c < 0x302a) || (c >= 0x3041 && c < 0x3097) ||
         (c >= 0x30a1 && c < 0x30ff) || (c >= 0x3400 && c < 0xa000) || (c >= 0xac00 && c < 0xd7a4) || (c >= 0xff01 && c < 0xff61) ||
         (c >= 0x1f300 && c < 0x1fb00) || (c >= 0x20000 && c < 0x2a6e0);
}
}  // namespace detail

QLIB_INLINE bool is_word(char32_t c) {
  if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  switch (detail::category_of(stand_in(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:  // joiners and the letters in circles and squares
      return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
             (c >= 0x1f170 && c <= 0x1f189);
  }
}

QLIB_INLINE bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  const auto k = detail::category_of(stand_in(c));
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO || later_numeric(c);
}

QLIB_INLINE bool is_punctuation(char32_t c) {
  if (c < 0x80) return (c > 32 && c < '0') || (c > '9' && c < 'A') || (c > 'Z' && c < 'a') || (c > 'z' && c < 127);
  const auto k = detail::category_of(c);
  return (k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO && !later_punctuation(c)) || c == 0x166d || c == 0x111c9;
}

QLIB_INLINE bool is_mark(char32_t c) {
  if (c < 0x300) return false;
  const auto k = detail::category_of(c);
  const bool mark = k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_ME;
  return (mark && !later_mark(c)) || c == 0x1cf2 || c == 0x1cf3;
}

QLIB_INLINE bool is_accent(char32_t c) {
  return c >= 0x300 && ((detail::category_of(c) == UTF8PROC_CATEGORY_MN && !later_accent(c)) || c == 0x1734 || c == 0x1171e);
}

QLIB_INLINE bool is_control(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  const bool later = c == 0x890 || c == 0x891 || c == 0x8e2 || c == 0x110cd || (c >= 0x13430 && c <= 0x1343f);
  const auto k = detail::category_of(c);
  return !later && (k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_CO);
}

QLIB_INLINE void append_lower_case(std::string& out, char32_t c) {
  if (c == 0x130) out += "i\xcc\x87";  // the only character whose lower case is two
  else if (const char32_t later = later_lower_case(c); later != 0) append_utf8(out, later);
  else append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

namespace detail {
QLIB_INLINE void append_normal_form(std::string& out, std::string_view s, int options) {
  if (s.empty()) return;
  utf8proc_uint8_t* mapped = nullptr;
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(s.data()), static_cast<utf8proc_ssize_t>(s.size()), &mapped,
                                   static_cast<utf8proc_option_t>(options));
  if (length < 0) return void(out += s);  // valid UTF-8 leaves only a lack of memory
  out.append(reinterpret_cast<const char*>(mapped), static_cast<std::size_t>(length));
  std::free(mapped);
}
}  // namespace detail

QLIB_INLINE std::string normal_form_of(std::string_view s, normal_form form) {
  int options = UTF8PROC_STABLE;
  options |= form == normal_form::nfc || form == normal_form::nfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == normal_form::nfkc || form == normal_form::nfkd) options |= UTF8PROC_COMPAT;
  std::string out;
  std::size_t done = 0;
  bool inert = form == normal_form::nfc;
  for (std::size_t at = 0; at < s.size();) {
    const character c = character_at(s, at);
    inert = inert && detail::inert_in_nfc(c.code);
    if (c.code >= 0x300 && later_normalized(c.code)) {  // the reference takes it for a character like any other
      detail::append_normal_form(out, s.substr(done, at - done), options);
      out += s.substr(at, c.length);
      done = at + c.length;
    }
    at += c.length;
  }
  if (inert) return std::string{s};
  detail::append_normal_form(out, s.substr(done), options);
  return out;
}

QLIB_INLINE std::size_t grapheme_length(std::string_view s) {
  utf8proc_int32_t state = 0;
  character c = character_at(s, 0);
  std::size_t at = c.length;
  while (at < s.size()) {
    const character next = character_at(s, at);
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(c.code), static_cast<utf8proc_int32_t>(next.code), &state)) break;
    c = next;
    at += c.length;
  }
  return at;
}

QLIB_INLINE std::string valid_utf8(std::string_view s) {
  std::string out;
  for (;;) {
    const auto bad = first_invalid_utf8(s);
    out += s.substr(0, bad.value_or(s.size()));
    if (!bad) return out;
    s.remove_prefix(*bad);
    out += "\xef\xbf\xbd";
    // The maximal part is the longest beginning of a well-formed character: completing it with continuation bytes must be possible.
    std::size_t part = 1;
    for (; part < std::min<std::size_t>(s.size(), 4); ++part) {
      const std::string_view begun = s.substr(0, part + 1);
      bool completes = false;
      for (const char* filler : {"\x80\x80", "\x90\x80", "\xa0\x80"}) {
        const auto at = first_invalid_utf8(std::string{begun} + filler);
        completes = completes || !at || *at != 0;
      }
      if (!completes) break;
    }
    s.remove_prefix(part);
  }
}

}  // namespace text
}  // namespace qlib::inline v0
