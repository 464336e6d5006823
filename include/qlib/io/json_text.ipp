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
