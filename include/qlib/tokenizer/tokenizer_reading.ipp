#pragma once
#include <qlib/tokenizer/tokenizer_parts.hpp>

#include <optional>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

namespace qlib::inline v0 {
namespace text {

namespace detail {

using nlohmann::json;

inline constexpr const char* other_program = "tokenize with another program and pass the ids with --calib_ids";

/// A member, or null when the value is no object or has none of that name.
QLIB_INLINE const json& member(const json& j, const char* key) {
  static const json null;
  if (!j.is_object()) return null;
  const auto at = j.find(key);
  return at == j.end() ? null : *at;
}
QLIB_INLINE std::string text_of(const json& j, const char* key, const char* otherwise = "") {
  const json& m = member(j, key);
  return m.is_string() ? m.get_ref<const std::string&>() : std::string{otherwise};
}
QLIB_INLINE bool flag_of(const json& j, const char* key, bool otherwise) {
  const json& m = member(j, key);
  return m.is_boolean() ? m.get<bool>() : otherwise;
}

/// A tokenizer.json that is being read: what was made of it, and the first thing that is wrong.
struct tokenizer_reading {
  const std::string& where;  ///< the file
  tokenizer_parts parts{};
  std::optional<error> fault{};

  void fail(std::string subject, std::string problem, std::string remedy = other_program) {
    if (!fault) fault = error{error_kind::invalid_input, where, std::move(subject), std::move(problem), std::move(remedy)};
  }
  void unsupported(const std::string& subject, const json& j) {
    const std::string type = text_of(j, "type");
    fail(subject, type.empty() ? "has no type" : "the type " + type + " is not supported");
  }

  text::pattern pattern_of(const json& j, const std::string& subject) {
    const json& p = member(j, "pattern");
    if (const json& s = member(p, "String"); s.is_string()) return {s.get<std::string>(), {}};
    if (const json& r = member(p, "Regex"); r.is_string()) return regex_of(r.get<std::string>(), subject);
    fail(subject, "has no pattern");
    return {};
  }
  text::pattern regex_of(const std::string& expression, const std::string& subject) {
    auto compiled = regex::compile(expression, where, subject);
    if (compiled) return {{}, *std::move(compiled)};
    if (!fault) fault = compiled.error();
    return {};
  }
};

}  // namespace detail
}  // namespace text
}  // namespace qlib::inline v0
