/// What transformers 5 calls the modules of a checkpoint once it has loaded them.
///
/// Checkpoints keep the names of the release that wrote them; transformers renames on loading (its conversion_mapping.py). LLM-Compressor matches
/// recipes against the names in memory and writes some of them to `ignore`; vLLM, msModelSlim and `qlib` itself go by the stored ones.
#pragma once
#include <qlib/config.hpp>
#include <qlib/model/module_name.hpp>

#include <string>
#include <string_view>

namespace qlib::inline v0 {

/// Maps stored names to those in memory. Some renamings depend on what else a checkpoint stores: show it all tensors first.
class loaded_names {
 public:
  loaded_names() = default;
  explicit loaded_names(std::string_view model_type) : granite_{model_type.starts_with("granite")} {}

  /// A tensor, or a module, of the checkpoint.
  void see(std::string_view stored) { tower_beside_text_ |= stored.starts_with("visual."); }

  /// The name in memory of a module; the stored one where transformers keeps it.
  std::string of(std::string_view module) const {
    constexpr std::string_view text = "language_model", text_model = "language_model.model";
    if (module == "embed_out" || module == "language_model.lm_head") return "lm_head";  // GPT-NeoX; LLaVA and what is built like it
    if (is_in(module, text_model)) return "model." + std::string{text} + std::string{module.substr(text_model.size())};
    for (const std::string_view part :
         {"language_model", "vision_tower", "vision_model", "visual", "audio_tower", "multi_modal_projector", "image_tower", "video_tower"})
      if (is_in(module, part)) return "model." + without_inner_tower(module);
    if (module.starts_with("model.vision_tower.")) return "model." + without_inner_tower(module.substr(6));
    // Qwen2-VL: the tower is `visual`, the text model plain `model`.
    if (tower_beside_text_ && is_in(module, "model") && !is_in(module, "model.language_model") && !is_in(module, "model.visual"))
      return "model.language_model" + std::string{module.substr(5)};
    return expert_of(module);
  }

 private:
  static bool is_in(std::string_view module, std::string_view part) {
    return module.starts_with(part) && (module.size() == part.size() || module[part.size()] == '.');
  }

  /// CLIP's and SigLIP's towers have lost the level `vision_model`.
  static std::string without_inner_tower(std::string_view module) {
    constexpr std::string_view inner = "vision_tower.vision_model.";
    return module.starts_with(inner) ? "vision_tower." + std::string{module.substr(inner.size())} : std::string{module};
  }

  /// Mixtral's experts: "block_sparse_moe.experts.3.w1" is "mlp.experts.3.gate_proj".
  std::string expert_of(std::string_view module) const {
    constexpr std::string_view block = ".block_sparse_moe.experts.";
    const std::size_t at = module.find(block), last = module.rfind('.') + 1;
    if (at == std::string_view::npos || last < at + block.size()) return std::string{module};
    const std::string_view part = module.substr(last);
    const std::string_view named = part == "w1" ? "gate_proj" : part == "w3" ? "up_proj" : part == "w2" ? "down_proj" : part;
    const std::string_view list = granite_ ? block : ".mlp.experts.";
    return std::string{module.substr(0, at)} + std::string{list} + std::string{module.substr(at + block.size(), last - at - block.size())} +
           std::string{named};
  }

  bool granite_ = false;            ///< keeps the level block_sparse_moe
  bool tower_beside_text_ = false;  ///< `visual` at the top
};

}  // namespace qlib::inline v0
