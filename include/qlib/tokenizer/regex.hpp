#pragma once
#include <qlib/core/status.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace qlib::inline v0 {
namespace text {

/// Bytes [begin, end) of a text.
struct extent {
  std::size_t begin = 0, end = 0;
  std::size_t size() const { return end - begin; }
};

/// What matching needs beside the pattern: one a thread.
class regex_scratch {
 public:
  regex_scratch();
  /// Why a match was given up, or empty.
  const std::string& failure() const { return failure_; }
  void forget_failure() { failure_.clear(); }

 private:
  friend class regex;
  std::shared_ptr<void> data_, stack_, context_;
  std::string failure_;
};

/// A regular expression as tokenizer.json writes them: Oniguruma's Ruby syntax, here translated for PCRE2. Immutable; copies share the
/// compiled code.
///
/// Known difference: PCRE2's Unicode tables may be older than those of the `tokenizers` wheel (14 against 16), so characters that
/// were assigned in between can be split differently.
class regex {
 public:
  regex() = default;

  /// `where` and `subject` are the error's first parts.
  static result<regex> compile(std::string_view pattern, const std::string& where, const std::string& subject);

  /// The first match of at least one byte at or after `from`. `subject` is valid UTF-8. False also when matching was given up: then
  /// the scratch says why.
  bool find(std::string_view subject, std::size_t from, regex_scratch& scratch, extent& match) const;

 private:
  std::shared_ptr<const void> code_;
  bool jit_ = false;
};

/// The pattern in PCRE2's syntax, or the reason why there is none: `\s` is exactly White_Space, `\w` has marks and connectors, `\h` is a
/// hexadecimal digit, `x{1,3}+` repeats, `[a&&[^b]]` intersects, `\p{Han}` is the script itself.
result<std::string> pcre2_pattern(std::string_view ruby);

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/regex.ipp>
#endif
