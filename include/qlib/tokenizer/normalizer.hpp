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
  /// The first match of at least one byte at or after `from`.
  bool find(std::string_view s, std::size_t from, regex_scratch& scratch, extent& match) const;
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
struct strip_accents_step {};
struct lower_case_step {};
/// BERT's cleaning: in this order.
struct bert_step {
  bool clean_text = true, spaces_around_chinese = true, strip_accents = true, lower_case = true;
};

using normalizer_step =
    std::variant<prepend_step, replace_step, normal_form_step, strip_step, strip_accents_step, lower_case_step, bert_step, charsmap>;

/// `s`, valid UTF-8, after all steps in their order.
std::string normalized(std::string s, const std::vector<normalizer_step>& steps, regex_scratch& scratch);

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/normalizer.ipp>
#endif
