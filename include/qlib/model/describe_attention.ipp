/// What config.json says about attention.
#pragma once
#include <qlib/model/describe_rope.ipp>

#include <algorithm>
#include <cmath>
#include <string>

namespace qlib::inline v0::detail {

/// Falcon has three layouts of its fused rows.
inline void describe_falcon(config_reader& config, attention_description& a) {
  const bool grouped = config.flag("new_decoder_architecture").value_or(false);
  const bool one_key = config.flag("multi_query").value_or(true);
  a.kv_heads = grouped ? config.optional_count("num_kv_heads").value_or(a.heads) : one_key ? 1 : a.heads;
  a.rows = !grouped && one_key ? fused_rows::concatenated : fused_rows::grouped;
  if (config.flag("alibi").value_or(false)) config.complain("alibi", "is on: these biases of scores are not computed", "use a data-free recipe");
}

/// Ministral 3 and Mistral 4: queries grow with their position.
inline void describe_query_growth(config_reader& config, attention_description& a) {
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const nlohmann::json* p = object_at(config.values(), key);
    if (!p || !p->contains("llama_4_scaling_beta")) continue;
    config_reader inner = config.inside(key, *p);
    a.attn_scale = static_cast<float>(inner.number("llama_4_scaling_beta").value_or(0));
    a.floor_scale = static_cast<float>(inner.number("original_max_position_embeddings").value_or(0));
    a.floor_offset = 0;
    a.scale_all_layers = true;
    return;
  }
}

inline void describe_attention(config_reader& config, const family& f, model_description& m) {
  attention_description& a = m.attention;
  a.heads = config.first_count({"num_attention_heads", "n_head"});
  a.kv_heads = config.optional_count("num_key_value_heads").value_or(a.heads);
  if (f.model_type == "qwen" || f.model_type == "gpt_neox" || f.model_type == "persimmon" || f.model_type == "gptj" || f.model_type == "opt")
    a.kv_heads = a.heads;
  if (f.model_type == "chatglm" && config.flag("multi_query_attention").value_or(false)) a.kv_heads = config.count("multi_query_group_num");
  std::size_t dim = config.optional_count("head_dim").value_or(config.optional_count("kv_channels").value_or(0));
  if (dim == 0 && a.heads) dim = m.hidden_size / a.heads;
  a.head_dim = a.value_dim = dim;
  a.query = f.query, a.key = f.key, a.value = f.value, a.output = f.output, a.fused = f.fused;
  a.rows = f.rows;
  if (f.model_type == "falcon") describe_falcon(config, a);
  if (f.model_type == "gpt_bigcode") {
    const bool one_key = config.flag("multi_query").value_or(true);
    a.kv_heads = one_key ? 1 : a.heads;
    a.rows = one_key ? fused_rows::concatenated : fused_rows::grouped;
  }
  const bool on = f.norm_switch.empty() || config.flag(std::string(f.norm_switch).c_str()).value_or(false);
  a.norm = on ? f.norm : query_key_norm::none;
  if (f.norm != query_key_norm::none && f.norm_switch.empty()) (void)config.has("use_qk_norm");  // their code does not look at it
  a.norm_after_rope = f.norm_after_rope;
  a.query_norm = f.query_norm, a.key_norm = f.key_norm;
  a.style = f.style;
  a.sinks = f.sinks;
  a.gate = f.output_gate;
  a.output_gate = f.mixer != mixer_rule::attention;
  const nlohmann::json* parameters = object_at(config.values(), "rope_parameters");
  double part = config.number("partial_rotary_factor").value_or(1);
  if (parameters)
    if (const auto it = parameters->find("partial_rotary_factor"); it != parameters->end() && it->is_number()) part = it->get<double>();
  if (f.model_type == "gpt_neox") {
    const double old = config.number("rotary_pct").value_or(part);
    if (!(parameters && parameters->contains("partial_rotary_factor"))) part = old;
  }
  std::size_t rope_dim = static_cast<std::size_t>(static_cast<double>(dim) * part);
  if (f.model_type == "minimax_m2" || f.model_type == "gptj") rope_dim = config.optional_count("rotary_dim").value_or(rope_dim);
  double scale = 1 / std::sqrt(static_cast<double>(dim));
  if (f.latent) {
    latent_attention l;
    l.query_rank = config.optional_count("q_lora_rank").value_or(0);
    l.kv_rank = config.count("kv_lora_rank");
    l.nope_dim = config.count("qk_nope_head_dim");
    rope_dim = config.count("qk_rope_head_dim");
    l.indexer = f.indexer;
    a.latent = l;
    a.kv_heads = a.heads;
    a.head_dim = l.nope_dim + rope_dim;
    a.value_dim = config.optional_count("v_head_dim").value_or(0);
    if (a.value_dim == 0) a.value_dim = dim;
    if (!config.flag("rope_interleave").value_or(true)) a.style = rope_style::half;
    scale = 1 / std::sqrt(static_cast<double>(a.head_dim));
  }
  if (f.multipliers == multiplier_rule::granite) scale = config.number("attention_multiplier").value_or(f.model_type == "hyperclovax" ? scale : 1.0);
  if (f.clips) a.clip = static_cast<float>(config.number("clip_qkv").value_or(0));
  if (f.softcaps) {
    const double q = config.number("query_pre_attn_scalar").value_or(0);
    if (q > 0) scale = 1 / std::sqrt(q);
    a.softcap = static_cast<float>(config.number("attn_logit_softcapping").value_or(0));
  }
  describe_ropes(config, f, rope_dim, a);
  if (f.latent && a.ropes[0].kind == rope_kind::yarn) {
    const nlohmann::json* rs = object_at(config.values(), "rope_parameters");
    if (!rs) rs = object_at(config.values(), "rope_scaling");
    const double all = config.inside("rope_scaling", *rs).number("mscale_all_dim").value_or(0);
    if (all != 0) scale *= std::pow(yarn_magnitude(a.ropes[0].factor, all), 2);
  }
  if (f.model_type == "ministral3" || f.model_type == "mistral4") describe_query_growth(config, a);
  a.scale = static_cast<float>(scale);
  if (f.model_type == "llama4_text" && config.flag("attn_temperature_tuning").value_or(false)) {
    a.floor_scale = static_cast<float>(config.number("floor_scale").value_or(8192));
    a.attn_scale = static_cast<float>(config.number("attn_scale").value_or(0.1));
  }
  const auto name = [](std::size_t n) { return std::to_string(n); };
  if (a.kv_heads == 0) config.complain("num_key_value_heads", "must be above zero", "correct config.json");
  if (a.heads && a.kv_heads && a.heads % a.kv_heads != 0)
    config.complain("num_key_value_heads", name(a.kv_heads) + " does not divide num_attention_heads " + name(a.heads), "correct config.json");
  if (rope_dim % 2 != 0 || rope_dim > a.head_dim || rope_dim == 0)
    config.complain("partial_rotary_factor", name(rope_dim) + " rotated channels of a head of " + name(a.head_dim),
                    "must be even and within the head");
}

}  // namespace qlib::inline v0::detail
