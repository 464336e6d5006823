/// JSON as Python's json module reads and writes it: NaN, Infinity and -Infinity are numbers. transformers writes them to config.json. Templates and
/// inline functions only: other .ipp files include it, in any number of units.
#pragma once
#include <qlib/io/json_text.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace qlib::inline v0 {

namespace detail {

/// The text of a constant behind the NUL that marks it (json_text.hpp).
inline constexpr std::string_view nan_mark{"\0NaN", 4}, infinity_mark{"\0Infinity", 9}, minus_infinity_mark{"\0-Infinity", 10};

template <class Json>
void marks_to_numbers(Json& value) {
  if (value.is_structured()) {
    for (Json& each : value) marks_to_numbers(each);
  } else if (const auto* text = value.template get_ptr<const std::string*>()) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    if (*text == nan_mark) value = std::numeric_limits<double>::quiet_NaN();
    else if (*text == infinity_mark) value = infinity;
    else if (*text == minus_infinity_mark) value = -infinity;
  }
}

/// True if there was one.
template <class Json>
bool numbers_to_marks(Json& value) {
  bool found = false;
  if (value.is_structured()) {
    for (Json& each : value) found |= numbers_to_marks(each);
  } else if (value.is_number_float()) {
    const double number = value.template get<double>();
    if (std::isfinite(number)) return false;
    value = std::string{std::isnan(number) ? nan_mark : number > 0 ? infinity_mark : minus_infinity_mark};
    return true;
  }
  return found;
}

/// The value of a text, or a discarded one.
template <class Json = nlohmann::json>
Json parse_python_json(std::string_view text) {
  const std::string quoted = quote_constants(text);
  Json value = Json::parse(quoted, nullptr, false);
  if (quoted.size() != text.size() && !value.is_discarded()) marks_to_numbers(value);
  return value;
}

/// What `parse_python_json` reads back.
template <class Json>
std::string dump_python_json(Json value, int indent) {
  const bool any = numbers_to_marks(value);
  std::string text = value.dump(indent);
  if (!any) return text;
  for (const std::string_view constant : {"NaN", "Infinity", "-Infinity"}) {
    const std::string marked = "\"\\u0000" + std::string{constant} + "\"";
    for (std::size_t at = text.find(marked); at != std::string::npos; at = text.find(marked, at + constant.size()))
      text.replace(at, marked.size(), constant);
  }
  return text;
}

}  // namespace detail

}  // namespace qlib::inline v0
