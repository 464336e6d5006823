/// What config.json says about experts, and about each layer.
#pragma once
#include <qlib/model/describe_rope.ipp>

#include <algorithm>
#include <string>
#include <vector>

namespace qlib::inline v0::detail {

inline void describe_experts(config_reader& config, const family& f, model_description& m) {
  experts_description& e = m.experts;
  router_description& r = e.routing;
  r.experts = config.first_count({"n_routed_experts", "moe_num_experts", "num_local_experts", "num_experts"});
  r.top_k = config.first_count({"moe_topk", "moe_k", "num_experts_per_tok"});
  r.score = f.score;
  e.router = f.router, e.expert = f.expert;
  const activation_function act = m.feed_forward.activation;
  e.block = {.gate = std::string{f.expert_gate}, .up = std::string{f.expert_up}, .down = std::string{f.expert_down}, .fused = {}, .activation = act};
  if (f.expert_activation == "clamped_swiglu") {
    e.block.activation = activation_function::clamped_swiglu;
    if (config.number("swiglu_limit").value_or(7) != 7) config.complain("swiglu_limit", "is not 7, the limit of the code", "correct config.json");
  }
  e.shared_block = {
      .gate = "gate_proj", .up = "up_proj", .down = std::string{f.shared_down}, .fused = std::string{f.shared_fused}, .activation = act};
  e.correction_bias = f.correction_bias;
  e.shared = f.shared, e.shared_gate = f.shared_gate;
  e.scale_input = f.scale_input;
  r.normalize = f.always_normalized || m.model_type.starts_with("qwen3_vl_moe") || config.flag("norm_topk_prob").value_or(true);
  if (f.score == router_score::sparse_mixer) {
    r.jitter = static_cast<float>(config.number("router_jitter_noise").value_or(0.01));
    if (r.top_k > 2) config.complain("num_experts_per_tok", "must be 1 or 2 for this router", "correct config.json");
  }
  if (f.routing == router_rule::deepseek) {
    const bool v2 = f.model_type == "deepseek_v2";
    const std::string method = config.text("topk_method").value_or("noaux_tc");
    const std::string score = config.text("scoring_func").value_or("sigmoid");
    r.scale = static_cast<float>(config.first_number({"routed_scaling_factor", "router_scaling_factor", "route_scale"}).value_or(1));
    if (v2) r.normalize = false;  // transformers ignores norm_topk_prob, which is false in every release
    if (score == "sigmoid") r.score = router_score::sigmoid;
    else if (score == "softmax") r.score = router_score::softmax;
    else if (score == "sqrtsoftplus") r.score = router_score::sqrt_softplus;
    else config.complain("scoring_func", "\"" + score + "\" is unknown", "known: softmax, sigmoid, sqrtsoftplus");
    if (method != "noaux_tc" && method != "greedy" && method != "group_limited_greedy")
      config.complain("topk_method", "\"" + method + "\" is unknown", "known: noaux_tc, greedy, group_limited_greedy");
    if (method != "noaux_tc") e.correction_bias.clear();
    r.by = method == "noaux_tc" ? group_score::two_largest : group_score::largest;
    if (method != "greedy") {
      r.groups = std::max<std::size_t>(1, config.optional_count("n_group").value_or(1));
      r.top_groups = std::max<std::size_t>(1, config.optional_count("topk_group").value_or(1));
    }
  }
  // Of families that count them.
  for (const char* key : {"n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "shared_intermediate_size"})
    if (config.has(key) && config.optional_count(key).value_or(0) == 0) e.shared.clear();
  if (f.routing == router_rule::deepseek && !config.has("n_shared_experts") && !config.has("num_shared_experts")) e.shared.clear();
  const auto name = [](std::size_t n) { return std::to_string(n); };
  if (r.top_k > r.experts) config.complain("num_experts_per_tok", name(r.top_k) + " of " + name(r.experts) + " experts", "correct config.json");
  if (r.experts % r.groups != 0 || r.top_groups > r.groups)
    config.complain("n_group", name(r.top_groups) + " of " + name(r.groups) + " groups of " + name(r.experts) + " experts", "correct config.json");
  else if (r.top_k > r.experts / r.groups * r.top_groups)
    config.complain("topk_group", "its groups have fewer experts than num_experts_per_tok", "correct config.json");
}

inline bool listed(const std::vector<double>& list, std::size_t i) {
  return std::find(list.begin(), list.end(), static_cast<double>(i)) != list.end();
}

/// What layer i has, from the family's rules and the config's lists.
inline layer_description describe_layer(config_reader& config, const family& f, const model_description& m, const std::vector<std::string>& types,
                                        std::size_t i) {
  layer_description layer{.prefix = numbered(f.layer, i)};
  const std::string type = i < types.size() ? types[i] : "";
  const auto every = [&](const char* key, std::size_t otherwise) { return std::max<std::size_t>(1, config.optional_count(key).value_or(otherwise)); };
  const std::size_t window = config.optional_count("sliding_window").value_or(0);
  const bool enabled = config.flag("use_sliding_window").value_or(false);
  const auto with_rope = [&] {
    const std::vector<double> list = config.numbers("no_rope_layers");
    return list.empty() ? (i + 1) % every("no_rope_layer_interval", 4) != 0 : i < list.size() && list[i] != 0;
  };
  bool sliding = false;
  switch (f.window) {
    case window_rule::none:
      break;
    case window_rule::every_layer:
      sliding = true;
      break;
    case window_rule::by_type:
      sliding = type.empty() || type == "sliding_attention";
      break;
    case window_rule::enabled:
      sliding = enabled;
      break;
    case window_rule::every_second:
      sliding = enabled && (type.empty() ? i % 2 == 0 && i < config.optional_count("max_window_layers").value_or(28) : type == "sliding_attention");
      break;
    case window_rule::last_layers:
      sliding = enabled && (type.empty() ? i >= config.optional_count("max_window_layers").value_or(28) : type == "sliding_attention");
      break;
    case window_rule::from_layer:
      sliding = type.empty() ? i >= config.optional_count("max_window_layers").value_or(28) : type == "sliding_attention";
      break;
    case window_rule::period:
      sliding = type.empty()
                    ? (i + 1) % every(config.has("global_attn_every_n_layers") ? "global_attn_every_n_layers" : "sliding_window_pattern", 6) != 0
                    : type == "sliding_attention";
      break;
    case window_rule::period_first:
      sliding = type.empty() ? i % every("sliding_window_pattern", 4) != 0 : type == "sliding_attention";
      break;
    case window_rule::no_rope:
      sliding = enabled && (type.empty() ? !with_rope() : type == "sliding_attention");
      break;
  }
  layer.window = sliding ? window : 0;
  if (m.attention.ropes.size() > 1 && sliding) layer.rope = 1;
  if (f.mixer != mixer_rule::attention)
    layer.delta_net = type.empty() ? (i + 1) % every("full_attention_interval", 4) != 0 : type == "linear_attention";
  bool rotated = true;
  if (f.positions == rope_rule::listed) rotated = with_rope();
  if (f.positions == rope_rule::sliding) rotated = layer.window != 0;
  if (f.positions == rope_rule::sliding_any) rotated = layer.window != 0 || window == 0;
  if (f.positions == rope_rule::by_name) rotated = config.text("position_embedding_type").value_or("nope") == "rope";
  if (f.positions == rope_rule::no_layer) rotated = false;
  if (!rotated) layer.rope.reset();
  if (f.model_type == "llama4_text")
    if (type.empty() ? rotated : type == "chunked_attention") layer.chunk = config.optional_count("attention_chunk_size").value_or(0);
  switch (f.experts) {
    case expert_rule::none:
      break;
    case expert_rule::every_layer:
      layer.experts = true;
      break;
    case expert_rule::sparse_step:
      layer.experts =
          m.experts.routing.experts > 0 && !listed(config.numbers("mlp_only_layers"), i) && (i + 1) % every("decoder_sparse_step", 1) == 0;
      break;
    case expert_rule::after_first: {
      const std::vector<std::string> kinds = config.texts("mlp_layer_types");
      layer.experts = i < kinds.size()
                          ? kinds[i] != "dense"
                          : i >= config.optional_count(config.has("num_dense_layers") ? "num_dense_layers" : "first_k_dense_replace").value_or(0) &&
                                i % every("moe_layer_freq", 1) == 0;
      break;
    }
    case expert_rule::between: {
      const double last = config.number("moe_layer_end_index").value_or(-1);
      layer.experts = (i + 1) % every("moe_layer_interval", 1) == 0 && i >= config.optional_count("moe_layer_start_index").value_or(0) &&
                      (last < 0 || static_cast<double>(i) <= last);
      break;
    }
    case expert_rule::interleaved: {
      const bool given = config.has("moe_layers");
      layer.experts = given ? listed(config.numbers("moe_layers"), i) : (i + 1) % every("interleave_moe_layer_step", 1) == 0;
      break;
    }
  }
  return layer;
}

}  // namespace qlib::inline v0::detail
