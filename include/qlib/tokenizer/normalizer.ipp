#pragma once
#include <qlib/tokenizer/byte_alphabet.hpp>
#include <qlib/tokenizer/normalizer.hpp>
#include <qlib/tokenizer/unicode_versions.hpp>

#include <algorithm>
#include <utility>

namespace qlib::inline v0 {
namespace text {

QLIB_INLINE bool pattern::find(std::string_view s, std::size_t from, regex_scratch& scratch, extent& match) const {
  if (expression) return expression->find(s, from, scratch, match);
  const std::size_t at = s.find(literal, from);
  if (at == s.npos) return false;
  match = {at, at + literal.size()};
  return true;
}

namespace detail {

QLIB_INLINE bool is_chinese(char32_t c) {
  return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
         (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) || (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

inline constexpr std::size_t largest_text = std::size_t{1} << 28;

struct normalizing {
  std::string s;
  regex_scratch& scratch;
  std::size_t first;  ///< bytes at the front of s that come from the first character of the whole text

  /// Calls put(out, code point) for every character.
  template <class Put>
  void each_character(Put&& put) {
    std::string out;
    out.reserve(s.size());
    std::size_t made = 0;
    for (std::size_t at = 0; at < s.size();) {
      const character c = character_at(s, at);
      put(out, c.code);
      at += c.length;
      if (at <= first) made = out.size();
    }
    first = made;
    s = std::move(out);
  }

  void operator()(const prepend_step& step) {
    if (s.empty()) return;
    s.insert(0, step.prefix);
    if (first != 0) first += step.prefix.size();
  }
  void operator()(const replace_step& step) {
    std::string out;
    std::size_t at = 0, made = first;
    bool any = false;
    const std::optional<std::string> seen = step.pattern.expression ? with_stand_ins(s) : std::nullopt;
    step.pattern.each_match(seen ? *seen : s, scratch, [&](extent match) {
      if (out.size() > largest_text) return;
      out.append(s, at, match.begin - at);
      // What replaces counts as the last character that it replaces.
      if (match.begin < first) made = out.size() + (match.end > first ? 0 : step.content.size() + first - match.end);
      out += step.content;
      at = match.end;
      any = true;
    });
    if (!any) return;
    if (out.size() > largest_text) return scratch.fail("a normalizer: the text has more than 256 MiB");
    first = made;
    out.append(s, at, s.npos);
    s = std::move(out);
  }
  void operator()(const normal_form_step& step) {
    if (first != 0) first = normal_form_of(std::string_view{s}.substr(0, first), step.form).size();
    s = normal_form_of(s, step.form);
  }
  void operator()(const strip_step& step) {
    std::size_t begin = 0, end = s.size();
    if (step.left) {
      while (begin < end) {
        const character c = character_at(s, begin);
        if (!is_white_space(c.code)) break;
        begin += c.length;
      }
    }
    while (step.right && begin < end) {
      std::size_t last = end - 1;
      while ((static_cast<unsigned char>(s[last]) & 0xc0u) == 0x80u) --last;
      if (!is_white_space(character_at(s, last).code)) break;
      end = last;
    }
    s = s.substr(begin, end - begin);
    first -= std::min(first, begin);
  }
  void operator()(const strip_accents_step&) {
    each_character([](std::string& out, char32_t c) {
      if (!is_mark(c)) append_utf8(out, c);
    });
  }
  void operator()(const lower_case_step&) { each_character(append_lower_case); }
  void operator()(const bert_step& step) {
    if (step.clean_text) {
      each_character([](std::string& out, char32_t c) {
        if (c == 0 || c == 0xfffd || is_control(c)) return;
        append_utf8(out, is_white_space(c) ? U' ' : c);
      });
    }
    if (step.spaces_around_chinese) {
      each_character([](std::string& out, char32_t c) {
        if (is_chinese(c)) out += ' ';
        append_utf8(out, c);
        if (is_chinese(c)) out += ' ';
      });
    }
    if (step.strip_accents) {
      (*this)(normal_form_step{normal_form::nfd});
      each_character([](std::string& out, char32_t c) {
        if (!is_accent(c)) append_utf8(out, c);
      });
    }
    if (step.lower_case) (*this)(lower_case_step{});
  }
  void operator()(const charsmap& map) {
    if (first != 0 && !s.empty()) first = map.apply(std::string_view{s}.substr(0, grapheme_length(s))).size();
    s = map.apply(s);
  }
  void operator()(const nmt_step&) {
    each_character([](std::string& out, char32_t c) {
      const bool gone = (c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f;
      const bool space = c == 9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 || (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 ||
                         c == 0x2581 || c == 0xfeff || c == 0xfffd;
      if (!gone) append_utf8(out, space ? U' ' : c);
    });
  }
  void operator()(const byte_alphabet_step&) {
    each_character([](std::string& out, char32_t c) {
      std::string bytes;
      append_utf8(bytes, c);
      append_in_byte_alphabet(out, bytes);
    });
  }
};

}  // namespace detail

QLIB_INLINE std::string normalized(std::string s, const std::vector<normalizer_step>& steps, regex_scratch& scratch, std::size_t* first) {
  detail::normalizing work{std::move(s), scratch, first ? *first : 0};
  for (const normalizer_step& step : steps) std::visit(work, step);
  if (first) *first = std::min(work.first, work.s.size());
  return std::move(work.s);
}

}  // namespace text
}  // namespace qlib::inline v0
