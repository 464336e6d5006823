/// Checks of JSON text that a parser for values does not make, and strings for JSON that is written by hand.
#pragma once
#include <qlib/core/status.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace qlib::inline v0 {

/// What one pass over a JSON text found.
struct json_findings {
  std::optional<error> syntax;  ///< the text is not JSON, or not UTF-8: byte or line and column are named
  errors duplicate_keys;        ///< one error a key that an object repeats; its value would be silently lost
};

/// `where` is the file, for the errors. Nothing may follow the value but white space.
json_findings check_json(std::string_view text, const std::string& where);

namespace detail {
/// The text with Python's NaN, Infinity and -Infinity, which JSON does not have, as the strings "\\u0000NaN" and so on: a parser for JSON reads it
/// (io/python_json.ipp makes numbers of them). One that spells a NUL already is returned as it is.
std::string quote_constants(std::string_view text);
}  // namespace detail

/// Appends `text`, which is UTF-8, as a JSON string with its quotes. Only `"`, `\` and control characters are escaped.
void append_json_string(std::string& out, std::string_view text);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/io/json_text.ipp>
#endif
