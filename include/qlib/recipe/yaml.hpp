/// Recipes in YAML, as LLM-Compressor and msModelSlim users have them.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/recipe/recipe.hpp>

#include <string_view>

namespace qlib::inline v0 {

/// Reads a recipe in the language it is written in: with a top-level `apiversion` it is msModelSlim's, otherwise LLM-Compressor's.
///
/// Returns every error at once, each with "<file_name>:<line>"; `out` is only written if there are none. Nothing is ignored: what
/// this version cannot do exactly as written is an error, which lists what it can do.
errors parse_recipe(std::string_view text, std::string_view file_name, recipe& out);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/recipe/yaml.ipp>
#endif
