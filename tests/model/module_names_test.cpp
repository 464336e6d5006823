/// What a module is called in transformers, and what its name says about it.
#include <qlib/model/loaded_names.hpp>
#include <qlib/model/module_class.hpp>

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

using qlib::module_class;

namespace {

void check_names(const qlib::loaded_names& names, const std::vector<std::pair<std::string, std::string>>& pairs) {
  for (const auto& [stored, loaded] : pairs) CHECK_MESSAGE(names.of(stored) == loaded, stored << ": " << names.of(stored));
}

void check_classes(module_class kind, const std::vector<std::string>& names) {
  for (const std::string& name : names) CHECK_MESSAGE(qlib::class_by_name(name) == kind, name);
}

}  // namespace

// Names of transformers 5.17: from_pretrained of small models of these families, named_modules() against what save_pretrained stores.
TEST_CASE("modules of models with towers are called as transformers calls them") {
  check_names({}, {{"language_model.model.layers.0.mlp.up_proj", "model.language_model.layers.0.mlp.up_proj"},
                   {"language_model.lm_head", "lm_head"},
                   {"vision_tower.encoder.layers.0.mlp.fc1", "model.vision_tower.encoder.layers.0.mlp.fc1"},
                   {"vision_tower.vision_model.encoder.layers.0.mlp.fc1", "model.vision_tower.encoder.layers.0.mlp.fc1"},
                   {"multi_modal_projector", "model.multi_modal_projector"},
                   {"multi_modal_projector.linear_1", "model.multi_modal_projector.linear_1"},
                   {"audio_tower.layers.0.fc1", "model.audio_tower.layers.0.fc1"},
                   {"embed_out", "lm_head"},
                   {"gpt_neox.layers.0.mlp.dense_h_to_4h", "gpt_neox.layers.0.mlp.dense_h_to_4h"},
                   {"model.language_model.layers.0.mlp.up_proj", "model.language_model.layers.0.mlp.up_proj"},
                   {"model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"},
                   {"visualizer.proj", "visualizer.proj"},
                   {"lm_head", "lm_head"}});
}

TEST_CASE("a text model beside a tower `visual` is the language_model of the whole") {
  qlib::loaded_names names{"qwen2_vl"};
  names.see("model.embed_tokens.weight");
  names.see("visual.merger.mlp.0.weight");
  check_names(names, {{"model.layers.1.self_attn.q_proj", "model.language_model.layers.1.self_attn.q_proj"},
                      {"visual.blocks.0.attn.qkv", "model.visual.blocks.0.attn.qkv"},
                      {"model.visual.blocks.0.attn.qkv", "model.visual.blocks.0.attn.qkv"},
                      {"lm_head", "lm_head"}});
}

TEST_CASE("experts called w1, w2, w3 are called as Qwen's are; Granite keeps the name of its block") {
  check_names(qlib::loaded_names{"mixtral"}, {{"model.layers.0.block_sparse_moe.experts.7.w1", "model.layers.0.mlp.experts.7.gate_proj"},
                                              {"model.layers.0.block_sparse_moe.experts.7.w2", "model.layers.0.mlp.experts.7.down_proj"},
                                              {"model.layers.0.block_sparse_moe.experts.7.w3", "model.layers.0.mlp.experts.7.up_proj"},
                                              {"model.layers.0.block_sparse_moe.gate", "model.layers.0.block_sparse_moe.gate"}});
  check_names(qlib::loaded_names{"granitemoe"},
              {{"model.layers.0.block_sparse_moe.experts.7.w3", "model.layers.0.block_sparse_moe.experts.7.up_proj"}});
}

// Classes of the modules in transformers 5.17: torch.nn.Embedding and its subclasses, routers, heads.
TEST_CASE("embeddings of any family are embeddings") {
  check_classes(module_class::embedding,
                {"model.embed_tokens", "model.embed_tokens_per_layer", "embeddings.position_embeddings", "embeddings.token_type_embeddings", "shared",
                 "encoder.block.0.layer.0.SelfAttention.relative_attention_bias", "encoder.rel_embeddings", "embeddings.token_embedding",
                 "embeddings.position_embedding", "model.vision_tower.embeddings.position_embedding", "transformer.wte", "transformer.wpe",
                 "gpt_neox.embed_in", "rwkv.embeddings", "model.visual.pos_embed", "decoder.embed_tokens.0",
                 "vision_model.gated_positional_embedding.tile_embedding", "encoder.embed_positions"});
}

TEST_CASE("routers of any family are routers, and their neighbours are not") {
  check_classes(module_class::router, {"model.layers.1.feed_forward.gate", "model.layers.0.mlp.router.classifier", "model.layers.0.mlp.gate",
                                       "model.layers.0.mlp.router.layer", "model.layers.0.feed_forward.router"});
  check_classes(module_class::linear, {"model.layers.0.feed_forward.gate_proj", "model.layers.0.mlp.shared_expert_gate",
                                       "model.layers.0.mlp.gate_up_proj", "model.embed_vision.embedding_projection",
                                       "encoder.embedding_hidden_mapping_in", "visual.patch_embed.proj", "model.layers.0.mlp.shared.up_proj"});
}

TEST_CASE("heads of any family are heads, and a layer called head elsewhere is not") {
  check_classes(module_class::head,
                {"lm_head", "head", "embed_out", "output", "language_model.lm_head", "transformer.output_layer", "model.layers.61.shared_head.head"});
  check_classes(module_class::linear, {"vision_tower.head", "model.layers.0.attn.head"});
  check_classes(module_class::other, {"model.layers.0.input_layernorm", "model.layers.0.linear_attn.conv1d", "visual.blocks.0.norm1"});
}
