#pragma once
#include <string>
#include <string_view>

namespace qlib::inline v0::detail {

/// `text` with A-Z replaced by a-z, whatever the locale.
inline std::string lower_case(std::string_view text) {
  std::string out{text};
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

}  // namespace qlib::inline v0::detail
