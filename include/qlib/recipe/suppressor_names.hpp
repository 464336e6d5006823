/// What recipes know of suppressors beside their options: names, and what they are for. All of it from the registry.
#pragma once
#include <qlib/recipe/recipe.hpp>
#include <qlib/registry.hpp>

#include <algorithm>
#include <string_view>
#include <vector>

namespace qlib::inline v0::detail {

/// All but the one that does nothing, in the registry's order.
inline std::vector<std::string_view> suppressor_names() {
  std::vector<std::string_view> names = registry::suppressors::names();
  names.erase(std::remove(names.begin(), names.end(), no_suppressor::name), names.end());
  return names;
}

inline bool is_suppressor(std::string_view name) { return name != no_suppressor::name && registry::suppressors::find(name).has_value(); }

/// Keys and queries are all that a suppressor `of_keys` solves for; every other one leaves them alone.
inline void choose_keys(suppression_stage& s) {
  const auto policy = registry::suppressors::find(s.suppressor.name);
  const bool of_keys = policy && std::visit(
                                     []<class S>(const S&) {
                                       return requires { requires S::of_keys; };
                                     },
                                     *policy);
  if (!of_keys) return;
  s.norm_linear = s.ov = s.up_down = false;
  s.query_key = true;
}

}  // namespace qlib::inline v0::detail
