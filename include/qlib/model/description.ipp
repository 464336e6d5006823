#pragma once
#include <qlib/io/python_json.ipp>
#include <qlib/model/config_reader.hpp>
#include <qlib/model/describe_attention.ipp>
#include <qlib/model/describe_layers.ipp>
#include <qlib/model/description.hpp>
#include <qlib/model/families.ipp>

#include <algorithm>
#include <cmath>

namespace qlib::inline v0 {

namespace detail {

/// Which norms stand where, and whether both parts of a layer read the same input.
inline void describe_block_order(config_reader& config, const family& f, model_description& m) {
  const auto is_on = [&](std::string_view key) { return config.flag(std::string{key}.c_str()).value_or(false); };
  m.parallel = f.parallel || (!f.parallel_switch.empty() && is_on(f.parallel_switch));
  if (f.model_type == "falcon") {
    const bool grouped = is_on("new_decoder_architecture");
    if (grouped && !m.parallel) config.complain("parallel_attn", "is off in the new architecture, which is not computed", "use a data-free recipe");
    if (m.parallel && config.optional_count("num_ln_in_parallel_attn").value_or(grouped ? 2 : 1) == 2)
      m.input_norm = "ln_attn", m.feed_forward_norm = "ln_mlp";
    else if (m.parallel) m.feed_forward_norm.clear();
  } else if (m.parallel && !f.parallel_norm) {
    m.feed_forward_norm.clear();
  }
  if (f.model_type == "granite_swa" && config.has("layer_rope_theta")) {
    const std::vector<double> each = config.numbers("layer_rope_theta");
    if (std::any_of(each.begin(), each.end(), [&](double t) { return t != each.front(); }))
      config.complain("layer_rope_theta", "differs between layers, which is not computed", "use a data-free recipe");
  }
  if (f.model_type == "opt") {
    if (!config.flag("layer_norm_elementwise_affine").value_or(true)) m.norm_weights = m.norm_biases = false;
    if (is_on("_remove_final_layer_norm"))
      config.complain("_remove_final_layer_norm", "is on: a decoder without a last norm is not computed", "use a data-free recipe");
    if (!is_on("do_layer_norm_before"))
      config.complain("do_layer_norm_before", "is off: norms behind the sum are not computed", "use a data-free recipe");
    if (config.optional_count("word_embed_proj_dim").value_or(m.hidden_size) != m.hidden_size)
      config.complain("word_embed_proj_dim", "differs from hidden_size, which is not computed", "use a data-free recipe");
  }
  if (f.model_type == "granitemoehybrid") {
    if (config.optional_count("num_local_experts").value_or(8) != 0)
      config.complain("num_local_experts", "is not 0: experts beside shared_mlp are not computed", "use a data-free recipe");
    if (!config.has("layer_types") && !config.has("layers_block_type"))
      config.complain("layer_types", "missing: without it all layers are Mamba, which is not computed", "use a data-free recipe");
  }
  if (!f.output_norm_switch.empty() && !is_on(f.output_norm_switch)) m.attention_output_norm.clear(), m.feed_forward_output_norm.clear();
}

inline void describe_multipliers(config_reader& config, const family& f, model_description& m) {
  const auto factor = [&](const char* key) { return config.number(key).value_or(1); };
  switch (f.multipliers) {
    case multiplier_rule::none:
      break;
    case multiplier_rule::granite:
      m.embedding_scale = factor("embedding_multiplier");
      m.residual_scale = factor("residual_multiplier");
      // HyperCLOVA X multiplies where Granite divides.
      m.logit_scale = static_cast<float>(f.model_type == "hyperclovax" ? factor("logits_scaling") : 1 / factor("logits_scaling"));
      break;
    case multiplier_rule::minicpm: {
      const auto layers = static_cast<double>(config.first_count({"num_hidden_layers"}));
      m.embedding_scale = factor("scale_emb");
      if (const auto depth = config.number("scale_depth")) m.residual_scale = *depth / std::sqrt(layers);
      if (const auto base = config.number("dim_model_base")) m.logit_scale = static_cast<float>(*base / static_cast<double>(m.hidden_size));
      break;
    }
    case multiplier_rule::logit_scale:
      m.logit_scale = static_cast<float>(factor("logit_scale"));
      break;
  }
}

/// Keys that change what a model computes, in the families that have them. Where this family's rules have not read one, its model would be
/// computed as another one.
inline void refuse_unread_keys(config_reader& config, const family& f) {
  struct function_key {
    const char* name;
    double neutral;  ///< besides null and false
  };
  constexpr function_key keys[] = {{"attn_logit_softcapping", 0},
                                   {"final_logit_softcapping", 0},
                                   {"attention_multiplier", HUGE_VAL},
                                   {"embedding_multiplier", 1},
                                   {"residual_multiplier", 1},
                                   {"logits_scaling", 1},
                                   {"logit_scale", 1},
                                   {"scale_emb", 1},
                                   {"scale_depth", HUGE_VAL},
                                   {"dim_model_base", HUGE_VAL},
                                   {"clip_qkv", 0},
                                   {"alibi", 0},
                                   {"qk_layernorm", 0},
                                   {"use_qk_norm", 0},
                                   {"parallel_attn", 0},
                                   {"use_parallel_residual", 0},
                                   {"no_rope_layers", 1},
                                   {"attention_value_scale", 1},
                                   {"key_multiplier", 1},
                                   {"lm_head_multiplier", 1},
                                   {"mlp_multipliers", HUGE_VAL},
                                   {"ssm_multipliers", HUGE_VAL},
                                   {"swiglu_limit", 0},
                                   {"zero_expert_num", 0},
                                   {"mup_enabled", 0},
                                   {"use_bidirectional_attention", 0},
                                   {"use_cla", 0},
                                   {"num_kv_shared_layers", 0},
                                   {"llama_4_scaling_beta", 0},
                                   {"rotary_pct", 1},
                                   {"use_alibi", 0},
                                   {"scale_attn_by_inverse_layer_idx", 0},
                                   {"apply_residual_connection_post_layernorm", 0},
                                   {"layernorm_1p", 0}};
  for (const function_key& key : keys) {
    const auto it = config.values().find(key.name);
    if (it == config.values().end() || it->is_null() || config.was_read(key.name)) continue;
    if (it->is_boolean() ? !it->get<bool>() : it->is_number() && it->get<double>() == key.neutral) continue;
    if (it->is_array() &&
        std::all_of(it->begin(), it->end(), [&](const auto& v) { return v.is_number() && v.template get<double>() == key.neutral; }))
      continue;
    config.complain(key.name,
                    "is " + it->dump() + ", which changes what a model computes; the rules of " + std::string{f.model_type} + " do not read it",
                    "remove the key if the model's code ignores it, or use a data-free recipe");
  }
}

inline void describe_model(config_reader& config, const family& f, model_description& m) {
  std::size_t layers = config.first_count({"num_hidden_layers", "num_layers", "n_layer"});
  if (layers > most_layers) {
    config.complain("num_hidden_layers", "is " + std::to_string(layers) + ": no model has so many", "correct config.json");
    layers = 0;
  }
  m.hidden_size = config.first_count({"hidden_size", "n_embd"});
  m.vocabulary = config.first_count({"vocab_size", "padded_vocab_size"});
  const std::string eps_key{f.eps_key};
  const std::optional<double> eps =
      f.eps_key.empty() ? config.first_number({"rms_norm_eps", "layer_norm_epsilon", "layernorm_epsilon"}) : config.number(eps_key.c_str());
  m.eps = static_cast<float>(eps.value_or(f.norms == norm_kind::layer ? 1e-5 : 1e-6));
  m.tied = config.flag("tie_word_embeddings").value_or(false);
  m.gain = f.gain;
  m.norm = f.norms, m.norm_biases = f.norm_biases, m.norm_weights = f.norm_weights;
  m.embedding = f.embedding, m.final_norm = f.final_norm, m.head = f.head;
  m.input_norm = f.input_norm, m.attention_output_norm = f.attention_output_norm;
  m.feed_forward_norm = f.feed_forward_norm, m.feed_forward_output_norm = f.feed_forward_output_norm;
  m.positions = f.position_embedding;
  m.first_position = f.first_position;
  if (!m.positions.empty()) {
    m.longest_sample = config.first_count({"max_position_embeddings", "n_positions"});
    m.longest_sample_key = "max_position_embeddings";
  }
  describe_block_order(config, f, m);
  describe_multipliers(config, f, m);
  if (f.scaled_embedding && (f.scaled_embedding_switch.empty() || config.flag(std::string{f.scaled_embedding_switch}.c_str()).value_or(false)))
    m.embedding_scale = std::sqrt(static_cast<double>(m.hidden_size));
  if (f.softcaps) m.final_softcap = static_cast<float>(config.number("final_logit_softcapping").value_or(0));
  feed_forward_description& d = m.feed_forward;
  d.gate = f.gate, d.up = f.up, d.down = f.down, d.fused = f.fused_gate_up;
  const std::string act_key = !f.activation_key.empty()         ? std::string{f.activation_key}
                              : config.has("hidden_activation") ? "hidden_activation"
                                                                : "hidden_act";
  const std::string act = config.text(act_key.c_str()).value_or("silu");
  const auto known = activation_from_name(act);
  if (!known || (*known == activation_function::xielu && (d.gated() || f.activation_constants.empty())))
    config.complain(act_key, "\"" + act + "\" is unknown", "known: silu, gelu, gelu_pytorch_tanh, relu, relu2");
  else d.activation = *known;
  if (d.activation == activation_function::xielu) d.activation_constants = f.activation_constants;
  describe_attention(config, f, m);
  if (f.mixer != mixer_rule::attention) {
    delta_net_description& g = m.delta_net;
    g.split = f.mixer == mixer_rule::delta_net_split;
    g.key_heads = config.count("linear_num_key_heads");
    g.value_heads = config.count("linear_num_value_heads");
    g.key_dim = config.count("linear_key_head_dim");
    g.value_dim = config.count("linear_value_head_dim");
    g.kernel = config.count("linear_conv_kernel_dim");
    g.activation = d.activation;
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
  const std::vector<std::string> types = config.texts(config.has("layer_types") ? "layer_types" : "layers_block_type");
  if (!types.empty() && types.size() != layers)
    config.complain("layer_types", "has " + std::to_string(types.size()) + " entries for " + std::to_string(layers) + " layers",
                    "correct config.json");
  for (const std::string& t : types) {
    const bool computed = t == "full_attention" || t == "attention" || t == "sliding_attention" || t == "chunked_attention" ||
                          (t == "linear_attention" && f.mixer != mixer_rule::attention) || (t == "deepseek_sparse_attention" && f.indexer);
    if (computed) continue;
    config.complain("layer_types", "\"" + t + "\" is unknown", "known: full_attention, sliding_attention, chunked_attention, linear_attention");
    break;
  }
  for (std::size_t i = 0; i < layers; ++i) m.layers.push_back(describe_layer(config, f, m, types, i));
  refuse_unread_keys(config, f);
}

}  // namespace detail

QLIB_INLINE std::string numbered(std::string_view pattern, std::size_t number) {
  const std::size_t at = pattern.find("{}");
  if (at == std::string_view::npos) return std::string(pattern);
  return std::string(pattern.substr(0, at)) + std::to_string(number) + std::string(pattern.substr(at + 2));
}

QLIB_INLINE std::vector<std::string_view> described_model_types() {
  std::vector<std::string_view> types = detail::family_names();
  std::sort(types.begin(), types.end());
  return types;
}

QLIB_INLINE bool tied_by_default(std::string_view model_type) {
  const detail::family* f = detail::find_family(model_type);
  if (!f) return model_type.starts_with("gemma");
  return nlohmann::json::parse(f->defaults, nullptr, false).value("tie_word_embeddings", false);
}

QLIB_INLINE bool always_tied(std::string_view model_type) {
  return model_type.starts_with("gemma") || model_type.starts_with("vaultgemma") || model_type.starts_with("cohere");
}

QLIB_INLINE errors read_model_description(std::string_view config_text, const std::string& where, model_description& out) {
  errors found;
  const nlohmann::json whole = detail::parse_python_json(config_text);
  if (!whole.is_object()) {
    found.push_back({.where = where, .problem = "is not a JSON object", .remedy = "give a Hugging Face model directory"});
    return found;
  }
  const nlohmann::json* thinker = detail::object_at(whole, "thinker_config");
  const nlohmann::json& outer = thinker ? *thinker : whole;
  const nlohmann::json* text = nullptr;
  for (const char* key : {"text_config", "llm_config", "language_config"})
    if (!text) text = detail::object_at(outer, key);
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
                     .remedy = "use a data-free recipe, which needs no forward pass; known: " + known});
    return found;
  }
  m.part_of_a_model = text != nullptr;
  nlohmann::json merged = nlohmann::json::parse(f->defaults, nullptr, false);
  const nlohmann::json* scaling = detail::object_at(merged, "rope_scaling");
  const nlohmann::json default_scaling = scaling ? *scaling : nlohmann::json();
  merged.update(nlohmann::json::parse(detail::alias_defaults(m.model_type), nullptr, false));
  merged.update(config);
  // A null here means the same as no key.
  if (const auto it = merged.find("rope_scaling"); default_scaling.is_object() && (it == merged.end() || it->is_null()))
    merged["rope_scaling"] = default_scaling;
  // Its prompts and images see each other. Text alone does not, and samples are text.
  if (const auto it = outer.find("model_type"); it != outer.end() && *it == "paligemma") merged.erase("use_bidirectional_attention");
  // The head belongs to the whole model, not to its text part.
  if (const auto tie = outer.find("tie_word_embeddings"); text && tie != outer.end() && tie->is_boolean()) merged["tie_word_embeddings"] = *tie;
  detail::config_reader reader{merged, where, found};
  detail::describe_model(reader, *f, m);
  if (found.empty()) out = std::move(m);
  return found;
}

}  // namespace qlib::inline v0
