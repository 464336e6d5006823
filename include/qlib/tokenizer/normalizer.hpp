#pragma once
#include <qlib/tokenizer/charsmap.hpp>
#include <qlib/tokenizer/regex.hpp>
#include <qlib/tokenizer/unicode_text.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace qlib::inline v0 {
namespace text {

/// A string or a regular expression to look for.
struct pattern {
  std::string literal;  ///< used when there is no `expression`
  std::optional<regex> expression{};
  /// The first match at or after `from`; it may be empty.
  bool find(std::string_view s, std::size_t from, regex_scratch& scratch, extent& match) const;

  /// Calls matched(extent) for all matches of a text that is not empty, from left to right. As in Oniguruma's iterator an empty match does
  /// not follow another match without a character between.
  template <class Matched>
  void each_match(std::string_view s, regex_scratch& scratch, Matched&& matched) const {
    extent match;
    std::size_t from = 0, last = s.npos;
    while (from <= s.size() && find(s, from, scratch, match)) {
      if (match.size() == 0 && match.end == last) {
        from += from < s.size() ? character_at(s, from).length : 1;
        continue;
      }
      matched(match);
      from = last = match.end;
    }
  }
};

struct prepend_step {
  std::string prefix;
};
struct replace_step {
  text::pattern pattern;
  std::string content;
};
struct normal_form_step {
  normal_form form;
};
struct strip_step {
  bool left = true, right = true;
};
struct strip_accents_step {};  ///< leaves out combining marks
struct lower_case_step {};
/// BERT's cleaning: in this order.
struct bert_step {
  bool clean_text = true, spaces_around_chinese = true, strip_accents = true, lower_case = true;
};

/// SentencePiece's rules for neural translation: some controls go, some become spaces.
struct nmt_step {};
/// Bytes become characters of the byte alphabet.
struct byte_alphabet_step {};

using normalizer_step = std::variant<prepend_step, replace_step, normal_form_step, strip_step, strip_accents_step, lower_case_step, bert_step,
                                     charsmap, nmt_step, byte_alphabet_step>;

/// `s`, valid UTF-8, after all steps in their order. `first`, when given, is how many bytes at the front come from the first character of the
/// whole text, before and after.
std::string normalized(std::string s, const std::vector<normalizer_step>& steps, regex_scratch& scratch, std::size_t* first = nullptr);

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/normalizer.ipp>
#endif
