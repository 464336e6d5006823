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

/// The members of `\w`, for use in brackets. Those of the `regex` crate have joiners, those of Oniguruma also six Latin-1 numbers.
inline constexpr std::string_view crate_word_class =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{200c}\x{200d}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/ruby_regex.ipp>
#endif
