/// What the families have in common and where they differ: one struct, a row a family. `read_model_description` joins a row with a config.json.
#pragma once
#include <qlib/model/description.hpp>

#include <string_view>

namespace qlib::inline v0::detail {

/// Which layers see a sliding window.
enum class window_rule {
  none,
  every_layer,   ///< `sliding_window` everywhere
  by_type,       ///< as layer_types say, without them everywhere
  enabled,       ///< with use_sliding_window, everywhere
  every_second,  ///< with use_sliding_window, by layer_types, without them the first of each two below max_window_layers
  last_layers,   ///< with use_sliding_window, by layer_types, without them from max_window_layers on
  from_layer,    ///< by layer_types, without them from max_window_layers on
  period,        ///< by layer_types, without them all but each sliding_window_pattern-th; a pattern of 0 is no window
  period_first,  ///< by layer_types, without them all but the first of sliding_window_pattern
  no_rope,       ///< with use_sliding_window, by layer_types, without them the layers without RoPE
};

/// Which layers encode positions.
enum class rope_rule {
  every_layer,
  listed,       ///< those of no_rope_layers that are not 0, without the list all but each no_rope_layer_interval-th
  no_layer,
  sliding,      ///< those with a sliding window
  sliding_any,  ///< those with a sliding window; all if the model has none
  by_name,      ///< all if position_embedding_type is "rope", none otherwise
};

/// Which layers have experts.
enum class expert_rule {
  none,
  every_layer,
  sparse_step,  ///< each decoder_sparse_step-th, without mlp_only_layers
  after_first,  ///< mlp_layer_types, or from first_k_dense_replace on each moe_layer_freq-th
  interleaved,  ///< moe_layers, or each interleave_moe_layer_step-th
  between,      ///< from moe_layer_start_index to moe_layer_end_index each moe_layer_interval-th
};

/// How the numbers of the router are named.
enum class router_rule { plain, deepseek };

enum class mixer_rule { attention, delta_net_joined, delta_net_split };

/// Factors of embedding, branches, scores and logits.
enum class multiplier_rule {
  none,
  granite,      ///< embedding_multiplier, residual_multiplier, attention_multiplier, logits_scaling
  minicpm,      ///< scale_emb, scale_depth, dim_model_base
  logit_scale,  ///< of the logits alone
};

struct family {
  std::string_view model_type;
  std::string_view defaults = "{}";  ///< values of keys absent from config.json; null there is a value

  std::string_view layer = "model.layers.{}.", embedding = "model.embed_tokens", final_norm = "model.norm", head = "lm_head";
  std::string_view input_norm = "input_layernorm", attention_output_norm = "", feed_forward_norm = "post_attention_layernorm",
                   feed_forward_output_norm = "";
  norm_gain gain = norm_gain::weight;
  norm_kind norms = norm_kind::rms;
  bool norm_biases = false, norm_weights = true;
  std::string_view eps_key = "";             ///< else the first of the usual ones
  std::string_view output_norm_switch = "";  ///< boolean key that must be true for the norms behind branches
  bool parallel = false;
  std::string_view parallel_switch = "";  ///< boolean key that must be true for parallel layers
  bool parallel_norm = false;             ///< parallel layers have a feed_forward_norm
  std::string_view position_embedding = "";
  std::size_t first_position = 0;
  bool scaled_embedding = false;
  std::string_view scaled_embedding_switch = "";  ///< boolean key that must be true for it
  multiplier_rule multipliers = multiplier_rule::none;

  std::string_view query = "self_attn.q_proj", key = "self_attn.k_proj", value = "self_attn.v_proj", output = "self_attn.o_proj", fused = "";
  fused_rows rows = fused_rows::none;
  query_key_norm norm = query_key_norm::none;
  std::string_view norm_switch = "";  ///< boolean key that must be true for the norm
  bool norm_after_rope = false;
  std::string_view query_norm = "self_attn.q_norm", key_norm = "self_attn.k_norm";
  rope_style style = rope_style::half;
  rope_rule positions = rope_rule::every_layer;
  bool plain_window_rope = false;  ///< layers with a window rotate without rope_scaling
  bool latent = false, indexer = false;
  std::string_view sinks = "";
  std::string_view output_gate = "";  ///< a linear beside query, key and value
  bool softcaps = false, clips = false;
  window_rule window = window_rule::none;
  mixer_rule mixer = mixer_rule::attention;

  std::string_view gate = "mlp.gate_proj", up = "mlp.up_proj", down = "mlp.down_proj", fused_gate_up = "";  ///< no gate and nothing fused: ungated
  std::string_view activation_key = "";                                                                     ///< else hidden_activation or hidden_act
  std::string_view activation_constants = "";                                                               ///< prefix of the tensors of xielu

  expert_rule experts = expert_rule::none;
  router_rule routing = router_rule::plain;
  router_score score = router_score::softmax;
  std::string_view router = "mlp.gate", correction_bias = "", expert = "mlp.experts.{}.", expert_gate = "gate_proj", expert_up = "up_proj",
                   expert_down = "down_proj", shared = "", shared_gate = "", shared_fused = "", shared_down = "down_proj";
  bool scale_input = false;
  bool always_normalized = false;           ///< the code has no norm_topk_prob
  std::string_view expert_activation = "";  ///< "clamped_swiglu", else hidden_act
};

}  // namespace qlib::inline v0::detail
