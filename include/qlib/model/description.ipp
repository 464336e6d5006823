#pragma once
#include <qlib/model/config_reader.hpp>
#include <qlib/model/description.hpp>
#include <qlib/model/families.ipp>

#include <algorithm>
#include <cmath>

namespace qlib::inline v0 {

namespace detail {

inline const family* find_family(std::string_view model_type) {
  for (const family_alias& a : family_aliases)
    if (a.model_type == model_type) model_type = a.same_as;
  for (const family& f : families)
    if (f.model_type == model_type) return &f;
  return nullptr;
}

/// yarn's temperature: 0.1 m ln s + 1.
inline double yarn_magnitude(double s, double m = 1) { return s <= 1 ? 1.0 : 0.1 * m * std::log(s) + 1.0; }

/// One entry of rope_scaling or rope_parameters.
inline rope_description describe_rope(config_reader& config, std::size_t dim, double theta, const nlohmann::json* scaling) {
  rope_description rope{.dim = dim, .theta = theta};
  rope.longest = config.number("max_position_embeddings").value_or(0);
  rope.original_length = rope.longest;
  if (!scaling) return rope;
  config_reader rs = config.inside("rope_scaling", *scaling);
  const std::string type = rs.text("rope_type").value_or(rs.text("type").value_or("default"));
  rope.factor = rs.number("factor").value_or(1);
  rope.original_length =
      config.number("original_max_position_embeddings").value_or(rs.number("original_max_position_embeddings").value_or(rope.longest));
  const auto needs = [&](const char* key) {
    if (!rs.number(key)) rs.complain(key, "missing, and rope type \"" + type + "\" needs it", "add it to rope_scaling");
  };
  if (type == "default" || type == "mrope") {
    rope.factor = 1;
  } else if (type == "linear") {
    rope.kind = rope_kind::linear;
    needs("factor");
  } else if (type == "dynamic") {
    rope.kind = rope_kind::dynamic;
    if (const double alpha = rs.number("alpha").value_or(0); alpha != 0) {
      rope.kind = rope_kind::ntk_alpha;
      rope.alpha = alpha;
    } else {
      needs("factor");
      if (rope.longest <= 0) config.complain("max_position_embeddings", "missing, and rope type \"dynamic\" needs it", "add it");
    }
  } else if (type == "llama3") {
    rope.kind = rope_kind::llama3;
    for (const char* key : {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) needs(key);
    rope.low_freq_factor = rs.number("low_freq_factor").value_or(1);
    rope.high_freq_factor = rs.number("high_freq_factor").value_or(4);
    rope.original_length = rs.number("original_max_position_embeddings").value_or(rope.longest);
  } else if (type == "yarn") {
    rope.kind = rope_kind::yarn;
    if (rope.original_length <= 0) rs.complain("original_max_position_embeddings", "missing, and rope type \"yarn\" needs it", "add it");
    if (!rs.number("factor") && rope.original_length > 0) rope.factor = rope.longest / rope.original_length;
    const auto above_zero = [&](const char* key, double otherwise) {
      const double v = rs.number(key).value_or(0);
      return v == 0 ? otherwise : v;
    };
    rope.beta_fast = above_zero("beta_fast", 32);
    rope.beta_slow = above_zero("beta_slow", 1);
    rope.truncate = rs.flag("truncate").value_or(true);
    const double mscale = above_zero("mscale", 0), all = above_zero("mscale_all_dim", 0);
    rope.attention_factor =
        rs.number("attention_factor")
            .value_or(mscale != 0 && all != 0 ? yarn_magnitude(rope.factor, mscale) / yarn_magnitude(rope.factor, all) : yarn_magnitude(rope.factor));
  } else if (type == "longrope" || type == "su") {
    rope.kind = rope_kind::longrope;
    rope.short_factor = rs.numbers("short_factor");
    rope.long_factor = rs.numbers("long_factor");
    for (const char* key : {"short_factor", "long_factor"})
      if (const std::size_t n = rs.numbers(key).size(); n != dim / 2)
        rs.complain(key, "has " + std::to_string(n) + " numbers, but " + std::to_string(dim / 2) + " pairs are rotated", "correct the list");
    const double stretch = rs.number("factor").value_or(rope.original_length > 0 ? rope.longest / rope.original_length : 1);
    rope.attention_factor =
        rs.number("attention_factor").value_or(stretch <= 1 ? 1.0 : std::sqrt(1 + std::log(stretch) / std::log(rope.original_length)));
  } else {
    rs.complain("rope_type", "\"" + type + "\" is unknown", "known: default, linear, dynamic, llama3, yarn, longrope, mrope");
  }
  return rope;
}

inline const nlohmann::json* object_at(const nlohmann::json& values, const char* key) {
  const auto it = values.find(key);
  return it != values.end() && it->is_object() ? &*it : nullptr;
}

inline void describe_ropes(config_reader& config, const family& f, std::size_t dim, attention_description& out) {
  const nlohmann::json* parameters = object_at(config.values(), "rope_parameters");
  const nlohmann::json* scaling = object_at(config.values(), "rope_scaling");
  const nlohmann::json* full = parameters ? object_at(*parameters, "full_attention") : nullptr;
  const nlohmann::json* sliding = parameters ? object_at(*parameters, "sliding_attention") : nullptr;
  const double theta = f.model_type == "chatglm" ? 10000 * config.number("rope_ratio").value_or(1)
                       : f.model_type == "qwen"  ? config.number("rotary_emb_base").value_or(10000)
                                                 : config.number("rope_theta").value_or(10000);
  const auto theta_of = [](const nlohmann::json* p, double otherwise) {
    const auto it = p ? p->find("rope_theta") : nlohmann::json::const_iterator{};
    return p && it != p->end() && it->is_number() ? it->get<double>() : otherwise;
  };
  const nlohmann::json* main = full ? full : parameters && !sliding ? parameters : scaling;
  out.ropes.push_back(describe_rope(config, dim, theta_of(main, theta), main));
  // Gemma 3: local layers have frequencies of their own, which no scaling touches.
  if (const auto local = config.number("rope_local_base_freq"); local || sliding)
    out.ropes.push_back(describe_rope(config, dim, theta_of(sliding, local.value_or(10000)), sliding));
}

inline void describe_attention(config_reader& config, const family& f, model_description& m) {
  attention_description& a = m.attention;
  a.heads = config.count("num_attention_heads");
  a.kv_heads = config.optional_count("num_key_value_heads").value_or(a.heads);
  if (f.model_type == "qwen") a.kv_heads = a.heads;
  if (f.model_type == "chatglm" && config.flag("multi_query_attention").value_or(false)) a.kv_heads = config.count("multi_query_group_num");
  std::size_t dim = config.optional_count("head_dim").value_or(config.optional_count("kv_channels").value_or(0));
  if (dim == 0 && a.heads) dim = m.hidden_size / a.heads;
  a.head_dim = a.value_dim = dim;
  a.query = f.query, a.key = f.key, a.value = f.value, a.output = f.output, a.fused = f.fused;
  a.rows = f.rows;
  const bool on = f.norm_switch.empty() || config.flag(std::string(f.norm_switch).c_str()).value_or(false);
  a.norm = on ? f.norm : query_key_norm::none;
  a.norm_after_rope = f.norm_after_rope;
  a.query_norm = f.query_norm, a.key_norm = f.key_norm;
  a.style = f.style;
  a.sinks = f.sinks;
  a.output_gate = f.mixer != mixer_rule::attention;
  const nlohmann::json* parameters = object_at(config.values(), "rope_parameters");
  double part = config.number("partial_rotary_factor").value_or(1);
  if (parameters)
    if (const auto it = parameters->find("partial_rotary_factor"); it != parameters->end() && it->is_number()) part = it->get<double>();
  std::size_t rope_dim = static_cast<std::size_t>(static_cast<double>(dim) * part);
  if (f.model_type == "minimax_m2") rope_dim = config.optional_count("rotary_dim").value_or(rope_dim);
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
    a.value_dim = config.count("v_head_dim");
    if (!config.flag("rope_interleave").value_or(true)) a.style = rope_style::half;
    scale = 1 / std::sqrt(static_cast<double>(a.head_dim));
  }
  if (f.softcaps || f.model_type == "gemma3_text") {
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

inline void describe_experts(config_reader& config, const family& f, model_description& m) {
  experts_description& e = m.experts;
  router_description& r = e.routing;
  r.experts = config.first_count({"n_routed_experts", "num_local_experts", "num_experts"});
  r.top_k = config.first_count({"moe_topk", "num_experts_per_tok"});
  r.score = f.score;
  e.router = f.router, e.expert = f.expert, e.gate = f.expert_gate, e.up = f.expert_up, e.down = f.expert_down;
  e.correction_bias = f.correction_bias;
  e.shared = f.shared, e.shared_gate = f.shared_gate;
  e.scale_input = f.scale_input;
  e.activation = f.expert_activation == "clamped_swiglu" ? activation_function::clamped_swiglu : m.feed_forward.activation;
  r.normalize = config.flag("norm_topk_prob").value_or(true);
  if (f.model_type == "mixtral" || f.model_type == "minimax_m2" || f.model_type == "qwen3_5_moe_text" || f.model_type == "hunyuan_v1_moe" ||
      m.model_type.starts_with("qwen3_vl_moe"))
    r.normalize = true;  // their code has no switch
  if (f.routing == router_rule::deepseek) {
    const bool v2 = f.model_type == "deepseek_v2";
    const std::string method = config.text("topk_method").value_or("noaux_tc");
    const std::string score = config.text("scoring_func").value_or("sigmoid");
    r.scale = static_cast<float>(config.number("routed_scaling_factor").value_or(1));
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
    if (config.optional_count("n_shared_experts").value_or(0) == 0) e.shared.clear();
  }
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
  bool sliding = false;
  switch (f.window) {
    case window_rule::none:
      break;
    case window_rule::every_layer:
      sliding = true;
      break;
    case window_rule::enabled:
      sliding = enabled;
      break;
    case window_rule::last_layers:
      sliding = enabled && (type.empty() ? i >= config.optional_count("max_window_layers").value_or(28) : type == "sliding_attention");
      break;
    case window_rule::period:
      sliding = type.empty() ? (i + 1) % every("sliding_window_pattern", 6) != 0 : type == "sliding_attention";
      break;
  }
  layer.window = sliding ? window : 0;
  if (m.attention.ropes.size() > 1 && sliding) layer.rope = 1;
  if (f.mixer != mixer_rule::attention)
    layer.delta_net = type.empty() ? (i + 1) % every("full_attention_interval", 4) != 0 : type == "linear_attention";
  if (f.model_type == "llama4_text") {
    const std::vector<double> with_rope = config.numbers("no_rope_layers");
    const bool rotated = with_rope.empty() ? (i + 1) % every("no_rope_layer_interval", 4) != 0 : i < with_rope.size() && with_rope[i] != 0;
    if (!rotated) layer.rope.reset();
    if (type.empty() ? rotated : type == "chunked_attention") layer.chunk = config.optional_count("attention_chunk_size").value_or(0);
  }
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
      layer.experts = i < kinds.size() ? kinds[i] != "dense"
                                       : i >= config.optional_count("first_k_dense_replace").value_or(0) && i % every("moe_layer_freq", 1) == 0;
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

inline constexpr std::size_t most_layers = 10'000;

inline void describe_model(config_reader& config, const family& f, model_description& m) {
  std::size_t layers = config.first_count({"num_hidden_layers", "num_layers"});
  if (layers > most_layers) {
    config.complain("num_hidden_layers", "is " + std::to_string(layers) + ": no model has so many", "correct config.json");
    layers = 0;
  }
  m.hidden_size = config.count("hidden_size");
  m.vocabulary = config.first_count({"vocab_size", "padded_vocab_size"});
  m.eps = static_cast<float>(config.first_number({"rms_norm_eps", "layer_norm_epsilon", "layernorm_epsilon"}).value_or(1e-6));
  m.tied = config.flag("tie_word_embeddings").value_or(false);
  m.gain = f.gain;
  m.embedding = f.embedding, m.final_norm = f.final_norm, m.head = f.head;
  m.input_norm = f.input_norm, m.attention_output_norm = f.attention_output_norm;
  m.feed_forward_norm = f.feed_forward_norm, m.feed_forward_output_norm = f.feed_forward_output_norm;
  if (f.scaled_embedding) m.embedding_scale = std::sqrt(static_cast<double>(m.hidden_size));
  if (f.softcaps) m.final_softcap = static_cast<float>(config.number("final_logit_softcapping").value_or(0));
  feed_forward_description& d = m.feed_forward;
  d.gate = f.gate, d.up = f.up, d.down = f.down, d.fused = f.fused_gate_up;
  const std::string act = config.text("hidden_activation").value_or(config.text("hidden_act").value_or("silu"));
  if (const auto known = activation_from_name(act)) d.activation = *known;
  else config.complain("hidden_act", "\"" + act + "\" is unknown", "known: silu, gelu, gelu_pytorch_tanh, relu");
  describe_attention(config, f, m);
  if (f.mixer != mixer_rule::attention) {
    delta_net_description& g = m.delta_net;
    g.split = f.mixer == mixer_rule::delta_net_split;
    g.key_heads = config.count("linear_num_key_heads");
    g.value_heads = config.count("linear_num_value_heads");
    g.key_dim = config.count("linear_key_head_dim");
    g.value_dim = config.count("linear_value_head_dim");
    g.kernel = config.count("linear_conv_kernel_dim");
    if (g.key_heads && g.value_heads % g.key_heads != 0)
      config.complain("linear_num_value_heads", "is no multiple of linear_num_key_heads", "correct config.json");
  }
  if (f.experts != expert_rule::none) describe_experts(config, f, m);
  if (f.indexer) {
    m.longest_sample = config.optional_count("index_topk").value_or(2048);
    m.longest_sample_key = "index_topk";
  }
  if (f.model_type == "qwen" && (config.flag("use_dynamic_ntk").value_or(true) || config.flag("use_logn_attn").value_or(true))) {
    m.longest_sample = config.optional_count("seq_length").value_or(8192);
    m.longest_sample_key = "seq_length";
  }
  const std::vector<std::string> types = config.texts("layer_types");
  if (!types.empty() && types.size() != layers)
    config.complain("layer_types", "has " + std::to_string(types.size()) + " entries for " + std::to_string(layers) + " layers",
                    "correct config.json");
  for (const std::string& t : types)
    if (t != "full_attention" && t != "sliding_attention" && t != "chunked_attention" && t != "linear_attention") {
      config.complain("layer_types", "\"" + t + "\" is unknown", "known: full_attention, sliding_attention, chunked_attention, linear_attention");
      break;
    }
  for (std::size_t i = 0; i < layers; ++i) m.layers.push_back(describe_layer(config, f, m, types, i));
}

}  // namespace detail

QLIB_INLINE std::string numbered(std::string_view pattern, std::size_t number) {
  const std::size_t at = pattern.find("{}");
  if (at == std::string_view::npos) return std::string(pattern);
  return std::string(pattern.substr(0, at)) + std::to_string(number) + std::string(pattern.substr(at + 2));
}

QLIB_INLINE std::vector<std::string_view> described_model_types() {
  std::vector<std::string_view> types;
  for (const detail::family& f : detail::families) types.push_back(f.model_type);
  for (const detail::family_alias& a : detail::family_aliases) types.push_back(a.model_type);
  std::sort(types.begin(), types.end());
  return types;
}

QLIB_INLINE errors read_model_description(std::string_view config_text, const std::string& where, model_description& out) {
  errors found;
  const nlohmann::json whole = nlohmann::json::parse(config_text, nullptr, false);
  if (!whole.is_object()) {
    found.push_back({.where = where, .problem = "is not a JSON object", .remedy = "give a Hugging Face model directory"});
    return found;
  }
  const nlohmann::json* thinker = detail::object_at(whole, "thinker_config");
  const nlohmann::json& outer = thinker ? *thinker : whole;
  const nlohmann::json* text = detail::object_at(outer, "text_config");
  if (!text) text = detail::object_at(outer, "llm_config");
  nlohmann::json config = outer;
  if (text) config.update(*text);
  const auto type = config.find("model_type");
  model_description m;
  if (type != config.end() && type->is_string()) m.model_type = type->get<std::string>();
  const detail::family* f = detail::find_family(m.model_type);
  if (!f) {
    std::string known;
    for (const std::string_view t : described_model_types()) known += (known.empty() ? "" : ", ") + std::string(t);
    found.push_back({.where = where,
                     .subject = "model_type",
                     .problem = m.model_type.empty() ? "missing" : "\"" + m.model_type + "\" is no family whose forward pass is known",
                     .remedy = "data-free recipes work on any model; known: " + known});
    return found;
  }
  m.part_of_a_model = text != nullptr;
  nlohmann::json merged = nlohmann::json::parse(f->defaults, nullptr, false);
  const nlohmann::json* scaling = detail::object_at(merged, "rope_scaling");
  const nlohmann::json default_scaling = scaling ? *scaling : nlohmann::json();
  merged.update(config);
  // A null here means the same as no key.
  if (!detail::object_at(merged, "rope_scaling") && default_scaling.is_object()) merged["rope_scaling"] = default_scaling;
  // The head belongs to the whole model, not to its text part.
  if (const auto tie = outer.find("tie_word_embeddings"); text && tie != outer.end() && tie->is_boolean()) merged["tie_word_embeddings"] = *tie;
  detail::config_reader reader{merged, where, found};
  detail::describe_model(reader, *f, m);
  if (found.empty()) out = std::move(m);
  return found;
}

}  // namespace qlib::inline v0
