/// Reading JSON event by event. Templates and inline functions only: other .ipp files include it, in any number of units.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/io/utf8.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

namespace qlib::inline v0 {

namespace detail {

/// The parser's message without its class name, cut to a length that fits a line.
inline std::string json_problem(std::string_view message) {
  if (const std::size_t end = message.find("] "); message.substr(0, 1) == "[" && end != std::string_view::npos) message.remove_prefix(end + 2);
  std::size_t length = message.size();
  if (length > 200) {
    for (length = 200; length != 0 && (static_cast<unsigned char>(message[length]) & 0xc0u) == 0x80u;) --length;  // whole characters
  }
  std::string text{message.substr(0, length)};
  return length < message.size() ? text + "..." : text;
}

/// Runs the SAX handler over `text`, which may hold one value and white space. The error of a text that is not JSON, else nothing.
///
/// The handler keeps the parser's complaint in `message`.
template <class Handler>
std::optional<error> read_json(std::string_view text, const std::string& where, Handler& handler) {
  const auto fault = [&](std::string problem) {
    return error{error_kind::invalid_input, where, {}, std::move(problem), "download or write the file again"};
  };
  if (const auto at = first_invalid_utf8(text)) return fault("JSON is not UTF-8 at byte " + std::to_string(*at));
  // The parser takes a NUL for the end of the text and would not see what follows.
  if (const std::size_t at = text.find('\0'); at != std::string_view::npos) return fault("JSON has a NUL at byte " + std::to_string(at));
  if (text.substr(0, 3) == "\xef\xbb\xbf") return fault("JSON begins with a byte order mark");
  nlohmann::json::sax_parse(text.data(), text.data() + text.size(), &handler);
  if (!handler.message.empty()) return fault("not valid JSON: " + json_problem(handler.message));
  return std::nullopt;
}

}  // namespace detail

}  // namespace qlib::inline v0
