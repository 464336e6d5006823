#pragma once
#include <qlib/config.hpp>

#include <charconv>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace qlib::inline v0 {

/// Where a module sits: "model.layers.17.mlp.experts.3.up_proj" is depth 17, kind "mlp.experts.*.up_proj".
struct module_place {
  std::optional<std::size_t> depth;  ///< none outside of the stack of layers: "lm_head"
  std::string kind;                  ///< what is the same at every depth; the whole name outside
};

inline module_place place_of(std::string_view name) {
  module_place place;
  std::string_view rest = name;
  while (!rest.empty()) {
    const std::size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    rest.remove_prefix(dot == rest.npos ? rest.size() : dot + 1);
    std::size_t number = 0;
    const auto [end, failure] = std::from_chars(part.data(), part.data() + part.size(), number);
    const bool numeric = failure == std::errc{} && end == part.data() + part.size();
    if (numeric && !place.depth) {
      place.depth = number;
      place.kind.clear();
      continue;
    }
    if (!place.kind.empty()) place.kind += '.';
    place.kind += numeric ? "*" : part;
  }
  return place;
}

}  // namespace qlib::inline v0
