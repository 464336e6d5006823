/// Options of policies in recipes: what is wrong with one is said where it was written, in the words of who wrote it.
#pragma once
#include <qlib/recipe/policy_options.hpp>
#include <qlib/recipe/recipe.hpp>
#include <qlib/recipe/yaml_tree.hpp>
#include <qlib/registry.hpp>

#include <string>
#include <string_view>

namespace qlib::inline v0::detail {

/// Adds `option`, which the recipe calls by the key of `field`, to a suppressor that is otherwise read. Nothing is added if the suppressor does not
/// take this value.
inline void read_suppressor_option(const yaml_reader& in, const yaml_field& field, std::string_view option, std::string value, policy_choice& out) {
  policy_choice with = out;
  with.options.emplace_back(option, std::move(value));
  const auto made = make_policy<registry::suppressors>(with, {}, "outlier suppressor");
  if (made) {
    out = std::move(with);
    return;
  }
  std::string problem = made.error().problem;
  if (problem.starts_with(option)) problem.replace(0, option.size(), field.key);
  in.fail(field, std::move(problem), made.error().remedy);
}

}  // namespace qlib::inline v0::detail
