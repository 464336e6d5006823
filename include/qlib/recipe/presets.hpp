/// The schemes that have a name in compressed-tensors.
#pragma once
#include <qlib/recipe/recipe.hpp>

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

struct preset {
  std::string name;  ///< as compressed-tensors spells it, in upper case
  qlib::scheme scheme;
};

/// Every preset that needs no calibration data and that this version builds.
const std::vector<preset>& presets();

/// The preset of that name in any case, or null.
const preset* find_preset(std::string_view name);

/// Names of compressed-tensors' presets that this version does not build yet.
std::span<const std::string_view> unbuilt_presets();

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/recipe/presets.ipp>
#endif
