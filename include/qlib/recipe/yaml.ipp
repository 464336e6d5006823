#pragma once
#include <qlib/recipe/llmcompressor.hpp>
#include <qlib/recipe/modelslim.hpp>
#include <qlib/recipe/yaml.hpp>
#include <qlib/recipe/yaml_tree.hpp>

namespace qlib::inline v0 {

QLIB_INLINE errors parse_recipe(std::string_view text, std::string_view file_name, recipe& out) {
  errors found;
  const detail::yaml_pointer root = detail::read_yaml(text, file_name, found);
  if (!root) return found;

  recipe made;
  const detail::yaml_reader in{std::string{file_name}, found};
  const detail::yaml_field document{root, root->line, {}, {}};
  if (root->type == detail::yaml_type::map && in.get(document, "apiversion")) detail::read_modelslim(in, document, made);
  else detail::read_llmcompressor(in, document, made);
  if (found.empty()) out = std::move(made);
  return found;
}

}  // namespace qlib::inline v0
