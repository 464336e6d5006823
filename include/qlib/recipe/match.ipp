#pragma once
#include <qlib/recipe/match.hpp>

#if !defined(PCRE2_CODE_UNIT_WIDTH)
#define PCRE2_CODE_UNIT_WIDTH 8
#endif
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <memory>

namespace qlib::inline v0 {

namespace detail {

inline constexpr std::size_t max_glob_alternatives = 1000;  // wcmatch's own limit
inline constexpr std::size_t max_glob_length = 4096;        // bounds the recursion over nested braces

/// The strings that `{1..10..2}` or `{a..e}` stands for (`body` is what is between the braces); empty if it is no range.
QLIB_INLINE std::vector<std::string> brace_range(std::string_view body) {
  std::vector<std::string_view> parts;
  for (std::size_t from = 0;;) {
    const std::size_t to = body.find("..", from);
    parts.push_back(body.substr(from, to == body.npos ? to : to - from));
    if (to == body.npos) break;
    from = to + 2;
  }
  if (parts.size() < 2 || parts.size() > 3) return {};

  const auto number = [](std::string_view s) -> std::optional<long> {
    long value = 0;
    if (s.empty() || s.size() > 9) return std::nullopt;
    const auto [end, failure] = std::from_chars(s.data(), s.data() + s.size(), value);
    if (failure != std::errc{} || end != s.data() + s.size()) return std::nullopt;
    return value;
  };
  const auto is_letter = [](std::string_view s) { return s.size() == 1 && ((s[0] >= 'a' && s[0] <= 'z') || (s[0] >= 'A' && s[0] <= 'Z')); };

  const bool letters = is_letter(parts[0]) && is_letter(parts[1]);
  const auto first = letters ? std::optional<long>{parts[0][0]} : number(parts[0]);
  const auto last = letters ? std::optional<long>{parts[1][0]} : number(parts[1]);
  const auto step = parts.size() == 3 ? number(parts[2]) : std::optional<long>{1};
  if (!first || !last || !step) return {};

  std::size_t width = 0;  // {01..10} pads with zeros
  if (!letters)
    for (std::size_t i : {0, 1}) {
      const std::string_view digits = parts[i].substr(parts[i].starts_with('-') ? 1 : 0);
      if (digits.size() > 1 && digits[0] == '0') width = std::max(parts[0].size(), parts[1].size());
    }
  const long stride = std::max(1L, std::labs(*step));
  std::vector<std::string> out;
  for (long v = *first; *first <= *last ? v <= *last : v >= *last; v += *first <= *last ? stride : -stride) {
    if (letters) {
      out.emplace_back(1, static_cast<char>(v));
    } else {
      std::string digits = std::to_string(std::labs(v));
      const std::size_t sign = v < 0 ? 1 : 0;
      if (digits.size() + sign < width) digits.insert(0, width - sign - digits.size(), '0');
      out.push_back((v < 0 ? "-" : "") + digits);
    }
    if (out.size() > max_glob_alternatives) break;  // the caller refuses that many
  }
  return out;
}

/// Appends what `glob` stands for; false if that are too many patterns.
QLIB_INLINE bool expand_braces_into(std::string_view glob, std::vector<std::string>& out) {
  std::vector<std::string> heads{std::string{}};
  const auto append = [&](const std::vector<std::string>& tails) {
    if (heads.size() * tails.size() > max_glob_alternatives) return false;
    std::vector<std::string> product;
    product.reserve(heads.size() * tails.size());
    for (const auto& head : heads)
      for (const auto& tail : tails) product.push_back(head + tail);
    heads = std::move(product);
    return true;
  };
  const auto append_text = [&](std::string_view text) {
    for (auto& head : heads) head += text;
  };

  for (std::size_t i = 0; i < glob.size();) {
    if (glob[i] == '\\' && i + 1 < glob.size()) {
      append_text(glob.substr(i, 2));
      i += 2;
      continue;
    }
    if (glob[i] != '{') {
      append_text(glob.substr(i++, 1));
      continue;
    }
    std::vector<std::size_t> cuts{i};  // the opening brace, the commas of its own level, the closing brace
    std::size_t depth = 0, end = i;
    for (; end < glob.size(); ++end) {
      if (glob[end] == '\\') {
        ++end;
      } else if (glob[end] == '{') {
        ++depth;
      } else if (glob[end] == '}') {
        if (--depth == 0) break;
      } else if (glob[end] == ',' && depth == 1) {
        cuts.push_back(end);
      }
    }
    if (end >= glob.size()) {  // never closed: an ordinary character
      append_text(glob.substr(i++, 1));
      continue;
    }
    cuts.push_back(end);
    std::vector<std::string> alternatives;
    const std::string_view body = glob.substr(i + 1, end - i - 1);
    if (cuts.size() == 2) alternatives = brace_range(body);
    if (alternatives.empty()) {
      for (std::size_t k = 0; k + 1 < cuts.size(); ++k)
        if (!expand_braces_into(glob.substr(cuts[k] + 1, cuts[k + 1] - cuts[k] - 1), alternatives)) return false;
      if (cuts.size() == 2)  // {a} without a comma keeps its braces
        for (auto& text : alternatives) text = "{" + text + "}";
    }
    if (!append(alternatives)) return false;
    i = end + 1;
  }
  out.insert(out.end(), heads.begin(), heads.end());
  return out.size() <= max_glob_alternatives;
}

QLIB_INLINE result<std::vector<std::string>> expand_braces(std::string_view glob, std::string_view where) {
  std::vector<std::string> out;
  if (glob.size() > max_glob_length)
    return error{error_kind::invalid_input, std::string{where}, std::string{glob.substr(0, 40)} + "...",
                 "a pattern of " + std::to_string(glob.size()) + " bytes; at most " + std::to_string(max_glob_length), "split it"};
  if (!expand_braces_into(glob, out))
    return error{error_kind::invalid_input, std::string{where}, std::string{glob},
                 "the braces stand for more than " + std::to_string(max_glob_alternatives) + " patterns", "use * or ? instead"};
  return out;
}

/// Bytes of the UTF-8 character that starts at `i`.
QLIB_INLINE std::size_t utf8_length(std::string_view s, std::size_t i) {
  const auto lead = static_cast<unsigned char>(s[i]);
  const std::size_t length = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  return std::min(length, s.size() - i);
}

QLIB_INLINE void append_escaped(std::string& regex, std::string_view character) {
  static constexpr std::string_view special = "\\^$.|?*+()[]{}-&~#/";
  if (character.size() == 1 && special.find(character[0]) != special.npos) regex += '\\';
  regex += character;
}

/// Translates the bracket expression that starts at glob[i] and moves `i` behind it; false if it is never closed.
QLIB_INLINE bool append_bracket(std::string_view glob, std::size_t& i, std::string& regex) {
  std::size_t k = i + 1;
  const bool negated = k < glob.size() && (glob[k] == '!' || glob[k] == '^');
  if (negated) ++k;

  struct item {
    std::string_view character;
    bool dash = false;  // an unescaped '-', which may make a range
  };
  std::vector<item> items;
  for (bool first = true;; first = false) {
    if (k >= glob.size()) return false;
    if (glob[k] == ']' && !first) break;
    const bool escaped = glob[k] == '\\' && k + 1 < glob.size();
    if (escaped) ++k;
    const std::size_t length = utf8_length(glob, k);
    items.push_back({glob.substr(k, length), !escaped && glob[k] == '-'});
    k += length;
  }
  std::string set;
  for (std::size_t n = 0; n < items.size(); ++n) {
    if (n + 2 < items.size() && items[n + 1].dash) {
      // For UTF-8 the order of the bytes is the order of the characters. [z-a] holds nothing.
      if (items[n].character <= items[n + 2].character) {
        append_escaped(set, items[n].character);
        set += '-';
        append_escaped(set, items[n + 2].character);
      }
      n += 2;
    } else {
      append_escaped(set, items[n].character);
    }
  }
  if (set.empty()) regex += negated ? "." : "(?!)";
  else regex += (negated ? "[^" : "[") + set + "]";
  i = k + 1;
  return true;
}

QLIB_INLINE result<std::string> glob_to_regex(std::string_view glob, std::string_view where) {
  auto alternatives = expand_braces(glob, where);
  if (!alternatives) return alternatives.error();
  std::string regex = "(?s:";
  for (std::size_t a = 0; a < alternatives->size(); ++a) {
    if (a != 0) regex += '|';
    const std::string_view text = (*alternatives)[a];
    for (std::size_t i = 0; i < text.size();) {
      if (text[i] == '*') {
        if (!regex.ends_with(".*")) regex += ".*";
        ++i;
      } else if (text[i] == '?') {
        regex += '.';
        ++i;
      } else if (text[i] == '[') {
        if (text.substr(i, 3) == "[[:")
          return error{error_kind::invalid_input, std::string{where}, std::string{glob}, "character classes like [[:digit:]] are not supported",
                       "write a range like [0-9]"};
        if (!append_bracket(text, i, regex)) {
          append_escaped(regex, "[");
          ++i;
        }
      } else {
        if (text[i] == '\\' && i + 1 < text.size()) ++i;
        const std::size_t length = utf8_length(text, i);
        append_escaped(regex, text.substr(i, length));
        i += length;
      }
    }
  }
  return regex + ")$";
}

/// Compiles a regex anchored at the start.
QLIB_INLINE result<std::shared_ptr<const void>> compile_regex(std::string_view regex, std::uint32_t options, std::string_view pattern,
                                                              std::string_view where) {
  int code = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(regex.data()), regex.size(),
                                       PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED | PCRE2_NEVER_BACKSLASH_C | options, &code, &offset, nullptr);
  if (!compiled) {
    std::array<PCRE2_UCHAR, 256> message{};
    pcre2_get_error_message(code, message.data(), message.size());
    return error{error_kind::invalid_input,
                 std::string{where},
                 std::string{pattern},
                 "bad regex at offset " + std::to_string(offset) + ": " + reinterpret_cast<const char*>(message.data()),
                 {}};
  }
  return std::shared_ptr<const void>{compiled, [](const void* p) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(p))); }};
}

}  // namespace detail

QLIB_INLINE result<pattern_set> pattern_set::compile(std::span<const std::string> patterns, pattern_syntax syntax, std::string_view where) {
  pattern_set set;
  set.syntax_ = syntax;
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    const std::string& pattern = patterns[i];
    if (pattern.empty()) return error{error_kind::invalid_input, std::string{where}, {}, "an empty pattern matches no module", "remove it"};
    if (syntax == pattern_syntax::glob) {
      set.plain_.push_back({pattern, i, nullptr});
      const auto regex = detail::glob_to_regex(pattern, where);
      if (!regex) return regex.error();
      auto code = detail::compile_regex(*regex, PCRE2_DOLLAR_ENDONLY, pattern, where);
      if (!code) return code.error();
      set.regexes_.push_back({pattern, i, *std::move(code)});
    } else if (pattern.starts_with("re:")) {
      auto code = detail::compile_regex(std::string_view{pattern}.substr(3), 0, pattern, where);
      if (!code) return code.error();
      set.regexes_.push_back({pattern, i, *std::move(code)});
    } else {
      set.plain_.push_back({pattern, i, nullptr});
    }
  }
  const auto alphabetical = [](const entry& a, const entry& b) { return a.pattern < b.pattern; };
  std::stable_sort(set.plain_.begin(), set.plain_.end(), alphabetical);
  std::stable_sort(set.regexes_.begin(), set.regexes_.end(), alphabetical);
  return set;
}

/// PCRE2's answer: positive if it matched, PCRE2_ERROR_NOMATCH if not, another negative number if it gave up.
QLIB_INLINE int pattern_set::run(const entry& e, std::string_view subject) {
  const auto* code = static_cast<const pcre2_code*>(e.code.get());
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  if (!data) return PCRE2_ERROR_NOMEMORY;
  const int answer = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(subject.data()), subject.size(), 0, 0, data, nullptr);
  pcre2_match_data_free(data);
  return answer < 0 ? answer : 1;  // 0: more groups than the match data holds
}

QLIB_INLINE result<std::optional<pattern_match>> pattern_set::find(std::string_view module_name, std::string_view class_name) const {
  const auto plain = [&](std::string_view text) -> const entry* {
    const auto at = std::lower_bound(plain_.begin(), plain_.end(), text, [](const entry& e, std::string_view t) { return e.pattern < t; });
    return at != plain_.end() && at->pattern == text ? &*at : nullptr;
  };
  if (const entry* e = plain(module_name)) return std::optional{pattern_match{match_kind::exact, e->pattern, e->index}};

  for (const entry& e : regexes_) {
    const int answer = run(e, module_name);
    if (answer > 0) return std::optional{pattern_match{match_kind::regex, e.pattern, e.index}};
    if (answer != PCRE2_ERROR_NOMATCH) {
      std::array<PCRE2_UCHAR, 256> message{};
      pcre2_get_error_message(answer, message.data(), message.size());
      return error{error_kind::invalid_input, e.pattern, std::string{module_name},
                   std::string{"cannot match: "} + reinterpret_cast<const char*>(message.data()), "simplify the pattern"};
    }
  }
  if (syntax_ == pattern_syntax::compressed_tensors) {
    const entry* e = class_name == "LinearBase" ? plain("Linear") : nullptr;  // before "LinearBase" in the alphabet
    if (!e) e = plain(class_name);
    if (e) return std::optional{pattern_match{match_kind::class_name, e->pattern, e->index}};
  }
  return std::optional<pattern_match>{};
}

QLIB_INLINE bool pattern_set::matches(std::string_view module_name, std::string_view class_name) const {
  const auto found = find(module_name, class_name);
  return found && found->has_value();
}

QLIB_INLINE std::vector<std::size_t> pattern_set::matching(std::string_view module_name, std::string_view class_name) const {
  std::vector<std::size_t> out;
  for (const entry& e : plain_)
    if (e.pattern == module_name ||
        (syntax_ == pattern_syntax::compressed_tensors && (e.pattern == class_name || (e.pattern == "Linear" && class_name == "LinearBase"))))
      out.push_back(e.index);
  for (const entry& e : regexes_)
    if (run(e, module_name) > 0) out.push_back(e.index);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace qlib::inline v0
