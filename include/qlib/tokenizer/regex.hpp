#pragma once
#include <qlib/core/status.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

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
  void fail(std::string why) {
    if (failure_.empty()) failure_ = std::move(why);
  }
  void forget_failure() { failure_.clear(); }

 private:
  friend class regex;
  std::shared_ptr<void> data_, stack_, context_;
  std::string failure_;
};

/// A regular expression as tokenizer.json writes them: Oniguruma's Ruby syntax, here translated for PCRE2. Immutable; copies share the
/// compiled code.
/// PCRE2's Unicode tables may be older than those of the `tokenizers` wheel (14 against 16): give it `with_stand_ins`.
class regex {
 public:
  regex() = default;

  /// `where` and `subject` are the error's first parts.
  static result<regex> compile(std::string_view pattern, const std::string& where, const std::string& subject);

  /// The first match at or after `from`; it may be empty. `subject` is valid UTF-8. False also when matching was given up, now or before:
  /// then the scratch says why.
  bool find(std::string_view subject, std::size_t from, regex_scratch& scratch, extent& match) const;

 private:
  std::shared_ptr<const void> code_;
  bool jit_ = false;
};

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/regex.ipp>
#endif
