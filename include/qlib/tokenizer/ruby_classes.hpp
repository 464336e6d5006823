/// Classes of characters in Oniguruma's patterns, as members of a PCRE2 class.
#pragma once
#include <qlib/config.hpp>

#include <string_view>

namespace qlib::inline v0 {
namespace text {

/// `\w` in brackets. Alone it has some numbers of Latin-1 too.
inline constexpr std::string_view ruby_word_class =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";
inline constexpr std::string_view latin_numbers = R"(\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";
/// `\w` of the `regex` crate, which the pre-tokenizer Whitespace uses.
inline constexpr std::string_view crate_word_class =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{200c}\x{200d}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";

/// The members of a property or POSIX class that PCRE2 lacks or understands differently; empty for others. `name` has small letters and
/// digits only. A first '^' says that the members are those that do not belong.
std::string_view ruby_class(std::string_view name, bool posix);

/// A property of that name means the same to both. Names that are in neither are those of scripts.
bool shared_property(std::string_view name);

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/ruby_classes.ipp>
#endif
