/// All families, and other names of them.
#pragma once
#include <qlib/model/families_dense.ipp>
#include <qlib/model/families_experts.ipp>

#include <array>
#include <string_view>
#include <vector>

namespace qlib::inline v0::detail {

/// A model_type that is another one's text decoder, or shares its row. Of a whole model it counts where its text_config has no model_type.
struct family_alias {
  std::string_view model_type, same_as;
  std::string_view defaults = "{}";  ///< where its class has others than the row
};
// clang-format off
inline constexpr std::string_view qwen2_vl_defaults = R"({"rms_norm_eps":1e-5,"num_key_value_heads":8,"max_window_layers":80,"rope_theta":1e6})";
inline constexpr std::string_view qwen2_5_omni_defaults = R"({"num_key_value_heads":4,"rope_theta":1e6})";
inline constexpr std::string_view qwen3_vl_defaults = R"({"rope_theta":5e5})";
inline constexpr std::string_view qwen3_vl_moe_defaults = R"({"rope_theta":5e5,"head_dim":128,"num_key_value_heads":16,"num_experts_per_tok":4})";
inline constexpr std::string_view glm_ocr_defaults = R"({"num_key_value_heads":8})";
inline constexpr auto family_aliases = std::to_array<family_alias>({
  {"aya_vision", "cohere2"}, {"gemma3", "gemma3_text"}, {"glm4v", "glm4v_text"}, {"glm4v_moe", "glm4v_moe_text"},
  {"glm_ocr", "glm4v_text", glm_ocr_defaults}, {"glm_ocr_text", "glm4v_text", glm_ocr_defaults}, {"internlm3", "llama"}, {"internvl", "qwen2"},
  {"kimi_vl", "deepseek_v3"}, {"llama4", "llama4_text"}, {"llava", "llama"}, {"llava_next", "llama"}, {"llava_onevision", "qwen2"},
  {"mimo", "qwen2"}, {"mistral3", "mistral"}, {"paligemma", "gemma"}, {"qwen2_5_omni", "qwen2", qwen2_5_omni_defaults},
  {"qwen2_5_omni_text", "qwen2", qwen2_5_omni_defaults}, {"qwen2_5_omni_thinker", "qwen2", qwen2_5_omni_defaults},
  {"qwen2_5_vl", "qwen2", qwen2_vl_defaults}, {"qwen2_5_vl_text", "qwen2", qwen2_vl_defaults}, {"qwen2_audio", "qwen2"},
  {"qwen2_vl", "qwen2", qwen2_vl_defaults}, {"qwen2_vl_text", "qwen2", qwen2_vl_defaults}, {"qwen3_5", "qwen3_5_text"},
  {"qwen3_5_moe", "qwen3_5_moe_text"}, {"qwen3_omni_moe", "qwen3_omni_moe_text"}, {"qwen3_omni_moe_thinker", "qwen3_omni_moe_text"},
  {"qwen3_vl", "qwen3", qwen3_vl_defaults}, {"qwen3_vl_moe", "qwen3_moe", qwen3_vl_moe_defaults},
  {"qwen3_vl_moe_text", "qwen3_moe", qwen3_vl_moe_defaults}, {"qwen3_vl_text", "qwen3", qwen3_vl_defaults}, {"vipllava", "llama"},
  {"voxtral", "llama"},
});
// clang-format on

inline const family* find_family(std::string_view model_type) {
  for (const family_alias& a : family_aliases)
    if (a.model_type == model_type) model_type = a.same_as;
  for (const family& f : dense_families)
    if (f.model_type == model_type) return &f;
  for (const family& f : expert_families)
    if (f.model_type == model_type) return &f;
  return nullptr;
}

/// Of an alias alone: the values of absent keys that its row does not have.
inline std::string_view alias_defaults(std::string_view model_type) {
  for (const family_alias& a : family_aliases)
    if (a.model_type == model_type) return a.defaults;
  return "{}";
}

inline std::vector<std::string_view> family_names() {
  std::vector<std::string_view> types;
  for (const family& f : dense_families) types.push_back(f.model_type);
  for (const family& f : expert_families) types.push_back(f.model_type);
  for (const family_alias& a : family_aliases) types.push_back(a.model_type);
  return types;
}

}  // namespace qlib::inline v0::detail
