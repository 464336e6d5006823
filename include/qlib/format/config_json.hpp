/// Edits of config.json that formats share.
#pragma once
#include <nlohmann/json.hpp>

namespace qlib::inline v0::detail {

/// A stale `quantization_config`, also inside the text model of a multimodal one, would make engines read the result wrongly.
inline void remove_quantization_config(nlohmann::ordered_json& config) {
  config.erase("quantization_config");
  for (const char* key : {"text_config", "llm_config"})
    if (auto it = config.find(key); it != config.end() && it->is_object()) it->erase("quantization_config");
}

/// The head has a tensor of its own: engines skip it where config.json calls it tied.
inline void untie_embeddings(nlohmann::ordered_json& config) {
  config["tie_word_embeddings"] = false;
  for (const char* key : {"text_config", "llm_config"})
    if (auto it = config.find(key); it != config.end() && it->is_object()) (*it)["tie_word_embeddings"] = false;
}

}  // namespace qlib::inline v0::detail
