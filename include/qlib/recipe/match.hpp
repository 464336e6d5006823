/// Which modules a recipe speaks of: lists of patterns, compiled once.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/recipe/recipe.hpp>

#include <compare>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// How a pattern matched, most specific first. If several groups of a recipe match one module, the smallest `pattern_match` wins:
/// a name written out, then a regex or glob, then a class name; within one kind the alphabetically first pattern.
enum class match_kind { exact, regex, class_name };

struct pattern_match {
  match_kind kind = match_kind::exact;
  std::string pattern;    ///< as it was written
  std::size_t index = 0;  ///< into the list given to `compile`
  friend auto operator<=>(const pattern_match&, const pattern_match&) = default;
};

/// An immutable list of patterns; copies share the compiled regexes, and any number of threads may ask one object.
///
/// `pattern_syntax::compressed_tensors`: "re:<regex>" is matched at the start of the module name like Python's `re.match` (add `$` to
/// end it), by PCRE2 with UTF and Unicode classes; any other string equals the whole module name or the class name, where "Linear"
/// also stands for "LinearBase". `pattern_syntax::glob`: wcmatch's fnmatch with BRACE: `*` (crosses dots), `?`, `[seq]`, `[!seq]`,
/// `{a,b}`, `{1..3}`, `\` takes away a meaning; the whole name must match, and case counts. A name equal to the pattern matches too.
class pattern_set {
 public:
  pattern_set() = default;  ///< matches nothing

  /// Errors name the first wrong pattern, the offset into its regex and PCRE2's message. `where` is the error's first part.
  static result<pattern_set> compile(std::span<const std::string> patterns, pattern_syntax syntax, std::string_view where);

  /// The best match, or nothing. An error if a regex exceeds PCRE2's match limit, or the name is not UTF-8.
  result<std::optional<pattern_match>> find(std::string_view module_name, std::string_view class_name) const;

  /// True if `find` finds a match; what `find` reports as an error counts as no match.
  bool matches(std::string_view module_name, std::string_view class_name) const;

  /// Indices of all the patterns that match, ascending: over all modules, those never seen are patterns that match nothing.
  std::vector<std::size_t> matching(std::string_view module_name, std::string_view class_name) const;

  std::size_t size() const { return plain_.size() + (syntax_ == pattern_syntax::glob ? 0 : regexes_.size()); }
  bool empty() const { return size() == 0; }

 private:
  struct entry {
    std::string pattern;
    std::size_t index = 0;
    std::shared_ptr<const void> code;  ///< the compiled regex; null for a plain name
  };
  static int run(const entry& e, std::string_view subject);

  pattern_syntax syntax_ = pattern_syntax::compressed_tensors;
  std::vector<entry> plain_, regexes_;  ///< each in alphabetical order; a glob is in both
};

namespace detail {
/// The patterns without braces that a glob with braces stands for, at most 1000.
result<std::vector<std::string>> expand_braces(std::string_view glob, std::string_view where);

/// A regex that matches the same names as the glob from their start to their end.
result<std::string> glob_to_regex(std::string_view glob, std::string_view where);
}  // namespace detail

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/recipe/match.ipp>
#endif
