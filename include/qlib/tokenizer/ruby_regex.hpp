#pragma once
#include <qlib/core/status.hpp>

#include <string>
#include <string_view>

namespace qlib::inline v0 {
namespace text {

/// A pattern of Oniguruma's Ruby syntax in PCRE2's, for PCRE2_UTF, PCRE2_UCP, PCRE2_MULTILINE and line feeds as newlines; or the reason why
/// there is none (problem only).
///
/// What differs: `\s` is exactly White_Space, `\w` and `\b` know marks, connectors and Alphabetic, `\h` is a hexadecimal digit, `\v` a
/// vertical tab, `x{1,3}+` repeats, `x{2}?` is optional, `x{,3}` counts from zero, `(?m)` lets a dot match line feeds, `a(?i)b|c` groups,
/// `[a[^b]&&c]` unites and intersects, `\p{Punct}` is P but `[:punct:]` P and S, `\p{Han}` is the script itself.
result<std::string> pcre2_pattern(std::string_view ruby);

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/ruby_regex.ipp>
#endif
