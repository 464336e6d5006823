#pragma once
#include <qlib/tokenizer/normalizer.hpp>

#include <utility>

namespace qlib::inline v0 {
namespace text {

QLIB_INLINE bool pattern::find(std::string_view s, std::size_t from, regex_scratch& scratch, extent& match) const {
  if (expression) return expression->find(s, from, scratch, match);
  const std::size_t at = literal.empty() ? s.npos : s.find(literal, from);
  if (at == s.npos) return false;
  match = {at, at + literal.size()};
  return true;
}

namespace detail {

/// Calls put(out, code point) for every character.
template <class Put>
std::string each_character(std::string_view s, Put&& put) {
  std::string out;
  out.reserve(s.size());
  for (std::size_t at = 0; at < s.size();) {
    const character c = character_at(s, at);
    put(out, c.code);
    at += c.length;
  }
  return out;
}

QLIB_INLINE bool is_chinese(char32_t c) {
  return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
         (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) || (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

struct normalizing {
  std::string s;
  regex_scratch& scratch;

  void operator()(const prepend_step& step) {
    if (!s.empty()) s.insert(0, step.prefix);
  }
  void operator()(const replace_step& step) {
    std::string out;
    extent match;
    std::size_t at = 0;
    while (step.pattern.find(s, at, scratch, match)) {
      out.append(s, at, match.begin - at);
      out += step.content;
      at = match.end;
    }
    if (at == 0) return;
    out.append(s, at, s.npos);
    s = std::move(out);
  }
  void operator()(const normal_form_step& step) { s = normal_form_of(s, step.form); }
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
  }
  void operator()(const strip_accents_step&) {
    s = each_character(s, [](std::string& out, char32_t c) {
      if (!is_accent(c)) append_utf8(out, c);
    });
  }
  void operator()(const lower_case_step&) { s = each_character(s, append_lower_case); }
  void operator()(const bert_step& step) {
    if (step.clean_text) {
      s = each_character(s, [](std::string& out, char32_t c) {
        if (c == 0 || c == 0xfffd || is_control(c)) return;
        append_utf8(out, is_white_space(c) ? U' ' : c);
      });
    }
    if (step.spaces_around_chinese) {
      s = each_character(s, [](std::string& out, char32_t c) {
        if (is_chinese(c)) out += ' ';
        append_utf8(out, c);
        if (is_chinese(c)) out += ' ';
      });
    }
    if (step.strip_accents) {
      (*this)(normal_form_step{normal_form::nfd});
      (*this)(strip_accents_step{});
    }
    if (step.lower_case) (*this)(lower_case_step{});
  }
  void operator()(const charsmap& map) { s = map.apply(s); }
};

}  // namespace detail

QLIB_INLINE std::string normalized(std::string s, const std::vector<normalizer_step>& steps, regex_scratch& scratch) {
  detail::normalizing work{std::move(s), scratch};
  for (const normalizer_step& step : steps) std::visit(work, step);
  return std::move(work.s);
}

}  // namespace text
}  // namespace qlib::inline v0
