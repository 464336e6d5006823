#pragma once
#include <qlib/io/json_events.ipp>
#include <qlib/io/json_text.hpp>

#include <unordered_set>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace qlib::inline v0 {

namespace detail {

/// Accepts every JSON value and notes repeated keys.
struct json_checker {
  using json = nlohmann::json;
  std::string message;
  std::vector<std::string> repeated;
  std::vector<std::unordered_set<std::string>> open;

  bool null() { return true; }
  bool boolean(bool) { return true; }
  bool number_integer(json::number_integer_t) { return true; }
  bool number_unsigned(json::number_unsigned_t) { return true; }
  bool number_float(json::number_float_t, const std::string&) { return true; }
  bool string(std::string&) { return true; }
  bool binary(json::binary_t&) { return true; }
  bool start_object(std::size_t) {
    open.emplace_back();
    return true;
  }
  bool end_object() {
    open.pop_back();
    return true;
  }
  bool start_array(std::size_t) { return true; }
  bool end_array() { return true; }
  bool key(std::string& k) {
    if (!open.back().insert(k).second) repeated.push_back(k);
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const json::exception& e) {
    message = e.what();
    return false;
  }
};

QLIB_INLINE std::string quote_constants(std::string_view text) {
  std::string out;
  if (text.find("NaN") == text.npos && text.find("Infinity") == text.npos) return std::string{text};
  if (text.find("\\u0000") != text.npos) return std::string{text};
  const auto constant_at = [&](std::size_t at) -> std::size_t {
    for (const std::string_view name : {"NaN", "Infinity", "-Infinity"}) {
      if (text.substr(at, name.size()) != name) continue;
      const std::size_t end = at + name.size(), next = text.find_first_not_of(" \t\r\n", end);
      const bool value = next == text.npos || text[next] == ',' || text[next] == ']' || text[next] == '}';
      return value ? name.size() : 0;  // no name of a key, no part of a word
    }
    return 0;
  };
  bool in_string = false;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    const std::size_t length = in_string ? 0 : constant_at(i);
    if (length != 0) {
      out += "\"\\u0000";
      out += text.substr(i, length);
      out += '"';
      i += length;
      continue;
    }
    if (in_string && c == '\\' && i + 1 < text.size()) out += text[i++];
    else if (c == '"') in_string = !in_string;
    out += text[i++];
  }
  return out;
}

}  // namespace detail

QLIB_INLINE json_findings check_json(std::string_view text, const std::string& where) {
  json_findings found;
  detail::json_checker checker;
  found.syntax = detail::read_json(text, where, checker);
  for (std::string& key : checker.repeated)
    found.duplicate_keys.push_back(
        {error_kind::invalid_input, where, std::move(key), "the key appears more than once in its object", "remove all but one"});
  return found;
}

QLIB_INLINE void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    const unsigned char code = static_cast<unsigned char>(c);
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (code >= 0x20) {
          out += c;
        } else {
          out += "\\u00";
          out += "0123456789abcdef"[code >> 4];
          out += "0123456789abcdef"[code & 15];
        }
    }
  }
  out += '"';
}

}  // namespace qlib::inline v0
