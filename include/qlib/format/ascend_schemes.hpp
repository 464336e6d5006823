/// Which types vLLM-Ascend registers for linears and for experts.
#pragma once
#include <qlib/config.hpp>

#include <algorithm>
#include <array>
#include <string_view>

namespace qlib::inline v0 {

inline bool has_ascend_scheme(std::string_view type, bool expert) {
  static constexpr std::array<std::string_view, 12> linear{
      "W8A8",       "W8A8_DYNAMIC",         "W8A8_MIX",        "W8A16", "W4A4_FLATQUANT_DYNAMIC", "W4A4_DYNAMIC", "W8A8_MXFP8", "W4A8_MXFP",
      "W4A4_MXFP4", "W4A4_MXFP4_FLATQUANT", "W8A8FP8_DYNAMIC", "FLOAT"};
  static constexpr std::array<std::string_view, 8> experts{"W8A8_DYNAMIC", "W4A8_DYNAMIC", "W8A8_MXFP8",      "W4A8_MXFP",
                                                           "W4A4_MXFP4",   "W4A16_MXFP4",  "W8A8FP8_DYNAMIC", "FLOAT"};
  return expert ? std::ranges::find(experts, type) != experts.end() : std::ranges::find(linear, type) != linear.end();
}

}  // namespace qlib::inline v0
