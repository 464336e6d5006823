/// What the families have in common and where they differ, as rows of data. `read_model_description` joins a row with a config.json.
#pragma once
#include <qlib/model/description.hpp>

#include <array>
#include <string_view>

namespace qlib::inline v0::detail {

/// Which layers see a sliding window.
enum class window_rule {
  none,
  every_layer,  ///< `sliding_window` everywhere
  enabled,      ///< with use_sliding_window, everywhere
  last_layers,  ///< with use_sliding_window, from max_window_layers on
  period,       ///< all but each sliding_window_pattern-th, by layer_types when it is there
};

/// Which layers have experts.
enum class expert_rule {
  none,
  every_layer,
  sparse_step,  ///< each decoder_sparse_step-th, without mlp_only_layers
  after_first,  ///< mlp_layer_types, or from first_k_dense_replace on each moe_layer_freq-th
  interleaved,  ///< moe_layers, or each interleave_moe_layer_step-th
};

/// How the numbers of the router are named.
enum class router_rule { plain, deepseek };

enum class mixer_rule { attention, delta_net_joined, delta_net_split };

struct family {
  std::string_view model_type;
  std::string_view defaults = "{}";  ///< values of keys absent from config.json; null there is a value

  std::string_view layer = "model.layers.{}.", embedding = "model.embed_tokens", final_norm = "model.norm", head = "lm_head";
  std::string_view input_norm = "input_layernorm", attention_output_norm = "", feed_forward_norm = "post_attention_layernorm",
                   feed_forward_output_norm = "";
  norm_gain gain = norm_gain::weight;
  bool scaled_embedding = false;

  std::string_view query = "self_attn.q_proj", key = "self_attn.k_proj", value = "self_attn.v_proj", output = "self_attn.o_proj", fused = "";
  fused_rows rows = fused_rows::none;
  query_key_norm norm = query_key_norm::none;
  std::string_view norm_switch = "";  ///< boolean key that must be true for the norm
  bool norm_after_rope = false;
  std::string_view query_norm = "self_attn.q_norm", key_norm = "self_attn.k_norm";
  rope_style style = rope_style::half;
  bool latent = false, indexer = false;
  std::string_view sinks = "";
  bool softcaps = false;
  window_rule window = window_rule::none;
  mixer_rule mixer = mixer_rule::attention;

  std::string_view gate = "mlp.gate_proj", up = "mlp.up_proj", down = "mlp.down_proj", fused_gate_up = "";

  expert_rule experts = expert_rule::none;
  router_rule routing = router_rule::plain;
  router_score score = router_score::softmax;
  std::string_view router = "mlp.gate", correction_bias = "", expert = "mlp.experts.{}.", expert_gate = "gate_proj", expert_up = "up_proj",
                   expert_down = "down_proj", shared = "", shared_gate = "";
  bool scale_input = false;
  std::string_view expert_activation = "";  ///< "clamped_swiglu", else hidden_act
};

// clang-format off
inline constexpr std::string_view deepseek_defaults = R"({"q_lora_rank":1536,"norm_topk_prob":true,"n_group":8,"topk_group":4,
  "routed_scaling_factor":2.5,"first_k_dense_replace":3,"n_shared_experts":1,"num_experts_per_tok":8})";
inline constexpr std::string_view delta_net_defaults = R"({"head_dim":256,"partial_rotary_factor":0.25,"norm_topk_prob":true,"num_experts_per_tok":8})";
inline constexpr std::string_view qwen3_next_defaults = R"({"head_dim":256,"partial_rotary_factor":0.25,"norm_topk_prob":true,"num_experts_per_tok":10})";
inline constexpr std::string_view gemma_defaults = R"({"tie_word_embeddings":true,"head_dim":256,"query_pre_attn_scalar":256,"sliding_window":4096,
  "attn_logit_softcapping":50.0,"final_logit_softcapping":30.0,"hidden_activation":"gelu_pytorch_tanh","sliding_window_pattern":2})";
inline constexpr std::string_view gemma3_defaults = R"({"tie_word_embeddings":true,"head_dim":256,"query_pre_attn_scalar":256,"sliding_window":4096,
  "hidden_activation":"gelu_pytorch_tanh","sliding_window_pattern":6,"rope_theta":1e6,"rope_local_base_freq":1e4})";

inline constexpr auto families = std::to_array<family>({
  {.model_type = "chatglm", .defaults = R"({"layernorm_epsilon":1e-5,"rope_ratio":1,"partial_rotary_factor":0.5})",
   .layer = "transformer.encoder.layers.{}.", .embedding = "transformer.embedding.word_embeddings",
   .final_norm = "transformer.encoder.final_layernorm", .head = "transformer.output_layer",
   .output = "self_attention.dense", .fused = "self_attention.query_key_value", .rows = fused_rows::concatenated,
   .style = rope_style::interleaved, .down = "mlp.dense_4h_to_h", .fused_gate_up = "mlp.dense_h_to_4h"},
  {.model_type = "deepseek_v2", .defaults = R"({"q_lora_rank":1536,"topk_method":"greedy","scoring_func":"softmax","n_shared_experts":2})",
   .style = rope_style::interleaved, .latent = true, .experts = expert_rule::after_first, .routing = router_rule::deepseek,
   .correction_bias = "mlp.gate.e_score_correction_bias", .shared = "mlp.shared_experts."},
  {.model_type = "deepseek_v3", .defaults = deepseek_defaults, .style = rope_style::interleaved, .latent = true,
   .experts = expert_rule::after_first, .routing = router_rule::deepseek, .correction_bias = "mlp.gate.e_score_correction_bias",
   .shared = "mlp.shared_experts."},
  {.model_type = "deepseek_v32", .defaults = deepseek_defaults, .style = rope_style::interleaved, .latent = true, .indexer = true,
   .experts = expert_rule::after_first, .routing = router_rule::deepseek, .correction_bias = "mlp.gate.e_score_correction_bias",
   .shared = "mlp.shared_experts."},
  {.model_type = "gemma2", .defaults = gemma_defaults, .attention_output_norm = "post_attention_layernorm",
   .feed_forward_norm = "pre_feedforward_layernorm", .feed_forward_output_norm = "post_feedforward_layernorm",
   .gain = norm_gain::one_plus_weight, .scaled_embedding = true, .softcaps = true, .window = window_rule::period},
  {.model_type = "gemma3_text", .defaults = gemma3_defaults, .attention_output_norm = "post_attention_layernorm",
   .feed_forward_norm = "pre_feedforward_layernorm", .feed_forward_output_norm = "post_feedforward_layernorm",
   .gain = norm_gain::one_plus_weight, .scaled_embedding = true, .norm = query_key_norm::per_head, .softcaps = true,
   .window = window_rule::period},
  {.model_type = "glm", .defaults = R"({"head_dim":128,"partial_rotary_factor":0.5,"rms_norm_eps":1.5625e-07})",
   .style = rope_style::interleaved, .fused_gate_up = "mlp.gate_up_proj"},
  {.model_type = "glm4", .defaults = R"({"head_dim":128,"partial_rotary_factor":0.5,"rms_norm_eps":1.5625e-07})",
   .attention_output_norm = "post_self_attn_layernorm", .feed_forward_output_norm = "post_mlp_layernorm",
   .style = rope_style::interleaved, .fused_gate_up = "mlp.gate_up_proj"},
  {.model_type = "glm4_moe", .defaults = R"({"num_experts_per_tok":8,"partial_rotary_factor":0.5,"rms_norm_eps":1e-5,"norm_topk_prob":true,"n_group":1,
   "topk_group":1,"routed_scaling_factor":1.0,"first_k_dense_replace":1,"n_shared_experts":1})",
   .norm = query_key_norm::per_head, .norm_switch = "use_qk_norm", .experts = expert_rule::after_first, .routing = router_rule::deepseek,
   .correction_bias = "mlp.gate.e_score_correction_bias", .shared = "mlp.shared_experts."},
  {.model_type = "glm4_moe_lite", .defaults = R"({"num_experts_per_tok":4,"rms_norm_eps":1e-5,"q_lora_rank":768,"norm_topk_prob":true,"n_group":1,"topk_group":1,
   "routed_scaling_factor":1.8,"first_k_dense_replace":1,"n_shared_experts":1})",
   .style = rope_style::interleaved, .latent = true, .experts = expert_rule::after_first, .routing = router_rule::deepseek,
   .correction_bias = "mlp.gate.e_score_correction_bias", .shared = "mlp.shared_experts."},
  {.model_type = "glm_moe_dsa", .defaults = R"({"num_experts_per_tok":8,"rms_norm_eps":1e-5,"q_lora_rank":2048,"norm_topk_prob":true,"n_group":1,"topk_group":1,
   "routed_scaling_factor":2.5,"first_k_dense_replace":3,"n_shared_experts":1})",
   .style = rope_style::interleaved, .latent = true, .indexer = true, .experts = expert_rule::after_first, .routing = router_rule::deepseek,
   .correction_bias = "mlp.gate.e_score_correction_bias", .shared = "mlp.shared_experts."},
  {.model_type = "gpt_oss", .defaults = R"({"num_experts_per_tok":4,"rope_scaling":{"rope_type":"yarn","factor":32.0,"truncate":false,
   "original_max_position_embeddings":4096},"rope_theta":150000.0,"sliding_window":128,"head_dim":64,"rms_norm_eps":1e-5,
   "sliding_window_pattern":2})",
   .sinks = "self_attn.sinks", .window = window_rule::period, .experts = expert_rule::every_layer, .score = router_score::top_k_softmax,
   .router = "mlp.router", .expert_activation = "clamped_swiglu"},
  {.model_type = "hunyuan_v1_dense", .defaults = R"({"rms_norm_eps":1e-5})", .norm = query_key_norm::per_head, .norm_after_rope = true,
   .query_norm = "self_attn.query_layernorm", .key_norm = "self_attn.key_layernorm"},
  {.model_type = "hunyuan_v1_moe", .defaults = R"({"rms_norm_eps":1e-5,"moe_topk":1})", .norm = query_key_norm::per_head,
   .norm_after_rope = true, .query_norm = "self_attn.query_layernorm", .key_norm = "self_attn.key_layernorm",
   .experts = expert_rule::every_layer, .router = "mlp.gate.wg", .shared = "mlp.shared_mlp."},
  {.model_type = "internlm2", .embedding = "model.tok_embeddings", .head = "output", .input_norm = "attention_norm",
   .feed_forward_norm = "ffn_norm", .output = "attention.wo", .fused = "attention.wqkv", .rows = fused_rows::grouped,
   .gate = "feed_forward.w1", .up = "feed_forward.w3", .down = "feed_forward.w2"},
  {.model_type = "kimi_k2", .defaults = deepseek_defaults, .style = rope_style::interleaved, .latent = true,
   .experts = expert_rule::after_first, .routing = router_rule::deepseek, .correction_bias = "mlp.gate.e_score_correction_bias",
   .shared = "mlp.shared_experts."},
  {.model_type = "llama"},
  {.model_type = "llama4_text", .defaults = R"({"head_dim":128,"rope_theta":5e5,"use_qk_norm":true,"attention_chunk_size":8192,
   "attn_temperature_tuning":true,"floor_scale":8192,"attn_scale":0.1,"no_rope_layer_interval":4,"interleave_moe_layer_step":1,
   "num_experts_per_tok":1,"norm_topk_prob":false,"rms_norm_eps":1e-5})",
   .norm = query_key_norm::l2, .norm_switch = "use_qk_norm", .norm_after_rope = true, .style = rope_style::interleaved,
   .gate = "feed_forward.gate_proj", .up = "feed_forward.up_proj", .down = "feed_forward.down_proj", .experts = expert_rule::interleaved,
   .score = router_score::top_k_sigmoid, .router = "feed_forward.router", .expert = "feed_forward.experts.{}.",
   .shared = "feed_forward.shared_expert.", .scale_input = true},
  {.model_type = "minimax_m2", .defaults = R"({"num_experts_per_tok":8,"rope_theta":5e6,"head_dim":128})", .norm = query_key_norm::whole,
   .experts = expert_rule::every_layer, .score = router_score::sigmoid, .router = "block_sparse_moe.gate",
   .correction_bias = "block_sparse_moe.e_score_correction_bias", .expert = "block_sparse_moe.experts.{}.", .expert_gate = "w1",
   .expert_up = "w3", .expert_down = "w2"},
  {.model_type = "mistral", .defaults = R"({"sliding_window":4096})", .window = window_rule::every_layer},
  {.model_type = "mixtral", .defaults = R"({"num_experts_per_tok":2,"rope_theta":1e6,"rms_norm_eps":1e-5})", .window = window_rule::every_layer,
   .experts = expert_rule::every_layer, .router = "block_sparse_moe.gate", .expert = "block_sparse_moe.experts.{}.", .expert_gate = "w1",
   .expert_up = "w3", .expert_down = "w2"},
  {.model_type = "phi3", .defaults = R"({"rms_norm_eps":1e-5})", .fused = "self_attn.qkv_proj", .rows = fused_rows::concatenated,
   .window = window_rule::every_layer, .fused_gate_up = "mlp.gate_up_proj"},
  {.model_type = "qwen", .defaults = R"({"layer_norm_epsilon":1e-6,"rotary_emb_base":10000,
   "use_dynamic_ntk":true,"use_logn_attn":true,"seq_length":8192})",
   .layer = "transformer.h.{}.", .embedding = "transformer.wte", .final_norm = "transformer.ln_f", .input_norm = "ln_1",
   .feed_forward_norm = "ln_2", .output = "attn.c_proj", .fused = "attn.c_attn", .rows = fused_rows::concatenated, .gate = "mlp.w2",
   .up = "mlp.w1", .down = "mlp.c_proj"},
  {.model_type = "qwen2", .defaults = R"({"max_window_layers":28,"sliding_window":4096})", .window = window_rule::last_layers},
  {.model_type = "qwen2_moe", .defaults = R"({"num_experts_per_tok":4,"norm_topk_prob":false,"max_window_layers":28,"sliding_window":4096})",
   .window = window_rule::last_layers, .experts = expert_rule::sparse_step, .shared = "mlp.shared_expert.",
   .shared_gate = "mlp.shared_expert_gate"},
  {.model_type = "qwen3", .defaults = R"({"max_window_layers":28,"sliding_window":4096,"head_dim":128})", .norm = query_key_norm::per_head,
   .window = window_rule::last_layers},
  {.model_type = "qwen3_5_moe_text", .defaults = delta_net_defaults, .gain = norm_gain::one_plus_weight, .norm = query_key_norm::per_head,
   .mixer = mixer_rule::delta_net_split, .experts = expert_rule::sparse_step, .shared = "mlp.shared_expert.",
   .shared_gate = "mlp.shared_expert_gate"},
  {.model_type = "qwen3_5_text", .defaults = delta_net_defaults, .gain = norm_gain::one_plus_weight, .norm = query_key_norm::per_head,
   .mixer = mixer_rule::delta_net_split},
  {.model_type = "qwen3_moe", .defaults = R"({"num_experts_per_tok":8,"norm_topk_prob":false,"sliding_window":4096})", .norm = query_key_norm::per_head,
   .window = window_rule::enabled, .experts = expert_rule::sparse_step},
  {.model_type = "qwen3_next", .defaults = qwen3_next_defaults, .gain = norm_gain::one_plus_weight, .norm = query_key_norm::per_head,
   .mixer = mixer_rule::delta_net_joined, .experts = expert_rule::sparse_step, .shared = "mlp.shared_expert.",
   .shared_gate = "mlp.shared_expert_gate"},
});

/// A model_type that is another one's text decoder, or shares its row.
struct family_alias {
  std::string_view model_type, same_as;
};
inline constexpr auto family_aliases = std::to_array<family_alias>({
  {"gemma3", "gemma3_text"}, {"llama4", "llama4_text"}, {"qwen2_vl", "qwen2"}, {"qwen2_vl_text", "qwen2"}, {"qwen2_5_vl", "qwen2"},
  {"qwen2_5_vl_text", "qwen2"}, {"qwen3_5", "qwen3_5_text"}, {"qwen3_5_moe", "qwen3_5_moe_text"}, {"qwen3_vl", "qwen3"},
  {"qwen3_vl_text", "qwen3"}, {"qwen3_vl_moe", "qwen3_moe"}, {"qwen3_vl_moe_text", "qwen3_moe"},
});
// clang-format on

}  // namespace qlib::inline v0::detail
