#pragma once
#include <qlib/model/module_name.hpp>
#include <qlib/model/parameter_check.hpp>

#include <algorithm>
#include <set>

namespace qlib::inline v0 {

namespace detail {

inline void replace_prefix(std::string& name, std::string_view from, std::string_view to) {
  if (name.starts_with(from)) name = std::string(to) + name.substr(from.size());
}

/// Intermediate widths are the file's: the columns of the down projection.
inline std::uint64_t columns_of(const parameter_source& source, const std::string& module) {
  const auto shape = source.shape(module + ".weight");
  return shape && shape->size() == 2 ? (*shape)[1] : 0;
}

inline std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

/// The number after the prefix that all layers share, or nothing.
inline std::optional<std::size_t> layer_number(std::string_view name, std::string_view stem) {
  if (!name.starts_with(stem)) return std::nullopt;
  std::size_t n = 0, at = stem.size();
  const std::size_t begin = at;
  for (; at < name.size() && name[at] >= '0' && name[at] <= '9' && at - begin < 9; ++at) n = n * 10 + static_cast<std::size_t>(name[at] - '0');
  if (at == begin || at == name.size() || name[at] != '.') return std::nullopt;
  return n;
}

}  // namespace detail

QLIB_INLINE void adopt_names(const parameter_source& source, model_description& model) {
  constexpr std::string_view stem = "model.";
  if (!source.contains(model.embedding + ".weight") && model.embedding.starts_with(stem))
    for (const std::string_view prefix :
         {"model.language_model.", "language_model.model.", "thinker.model.", "model.text_model.", "model.model.", "language.model."}) {
      std::string embedding = model.embedding;
      detail::replace_prefix(embedding, stem, prefix);
      if (!source.contains(embedding + ".weight")) continue;
      detail::replace_prefix(model.embedding, stem, prefix);
      detail::replace_prefix(model.final_norm, stem, prefix);
      for (layer_description& l : model.layers) detail::replace_prefix(l.prefix, stem, prefix);
      break;
    }
  if (!model.tied && !source.contains(model.head + ".weight"))
    for (const std::string_view prefix : {"language_model.", "model.", "model.language_model.", "thinker.", "model.text_model.", "language."})
      if (const std::string head = std::string(prefix) + model.head; source.contains(head + ".weight")) {
        model.head = head;
        break;
      }
}

QLIB_INLINE std::vector<required_tensor> required_tensors(const model_description& model, std::size_t layer, const parameter_source& source) {
  std::vector<required_tensor> out;
  const layer_description& l = model.layers[layer];
  const attention_description& a = model.attention;
  const std::uint64_t d = model.hidden_size;
  const auto linear = [&](const std::string& name, std::uint64_t rows, std::uint64_t cols) {
    out.push_back({l.prefix + name + ".weight", {rows, cols}, true});
  };
  const auto constant = [&](const std::string& name, std::vector<std::uint64_t> shape) {
    if (!name.empty()) out.push_back({l.prefix + name, std::move(shape)});
  };
  const auto norm = [&](const std::string& name, std::uint64_t n) {
    if (!name.empty()) constant(name + ".weight", {n});
  };
  for (const std::string* n : {&model.input_norm, &model.attention_output_norm, &model.feed_forward_norm, &model.feed_forward_output_norm}) {
    if (!model.norm_weights) break;
    norm(*n, d);
    if (model.norm_biases && !n->empty()) constant(*n + ".bias", {d});
  }
  if (l.delta_net) {
    const delta_net_description& g = model.delta_net;
    const std::uint64_t keys = g.key_heads * g.key_dim, values = g.value_heads * g.value_dim;
    if (g.split) {
      linear("linear_attn.in_proj_qkv", 2 * keys + values, d);
      linear("linear_attn.in_proj_z", values, d);
      linear("linear_attn.in_proj_b", g.value_heads, d);
      linear("linear_attn.in_proj_a", g.value_heads, d);
    } else {
      linear("linear_attn.in_proj_qkvz", 2 * keys + 2 * values, d);
      linear("linear_attn.in_proj_ba", 2 * g.value_heads, d);
    }
    constant("linear_attn.conv1d.weight", {2 * keys + values, 1, g.kernel});
    constant("linear_attn.A_log", {g.value_heads});
    constant("linear_attn.dt_bias", {g.value_heads});
    norm("linear_attn.norm", g.value_dim);
    linear("linear_attn.out_proj", d, values);
  } else if (a.latent) {
    const latent_attention& m = *a.latent;
    const std::uint64_t rope = a.head_dim - m.nope_dim;
    if (m.query_rank) {
      linear("self_attn.q_a_proj", m.query_rank, d);
      norm("self_attn.q_a_layernorm", m.query_rank);
      linear("self_attn.q_b_proj", a.heads * a.head_dim, m.query_rank);
    } else {
      linear("self_attn.q_proj", a.heads * a.head_dim, d);
    }
    if (m.indexer) {
      linear("self_attn.indexer.wq_b", 0, m.query_rank);
      linear("self_attn.indexer.wk", 0, d);
      linear("self_attn.indexer.weights_proj", 0, d);
      constant("self_attn.indexer.k_norm.weight", {0});
      constant("self_attn.indexer.k_norm.bias", {0});
    }
    linear("self_attn.kv_a_proj_with_mqa", m.kv_rank + rope, d);
    norm("self_attn.kv_a_layernorm", m.kv_rank);
    linear("self_attn.kv_b_proj", a.heads * (m.nope_dim + a.value_dim), m.kv_rank);
    linear(a.output, d, a.heads * a.value_dim);
  } else {
    if (!a.fused.empty()) {
      linear(a.fused, (a.heads + 2 * a.kv_heads) * a.head_dim, d);
    } else {
      linear(a.query, a.heads * a.head_dim * (a.output_gate ? 2 : 1), d);
      linear(a.key, a.kv_heads * a.head_dim, d);
      linear(a.value, a.kv_heads * a.head_dim, d);
    }
    if (!a.gate.empty()) linear(a.gate, a.heads * a.head_dim, d);
    linear(a.output, d, a.heads * a.head_dim);
    if (a.norm == query_key_norm::own_head) {
      constant(a.query_norm + ".weight", {a.heads, a.head_dim});
      constant(a.key_norm + ".weight", {a.kv_heads, a.head_dim});
    } else if (a.norm == query_key_norm::per_head || a.norm == query_key_norm::whole) {
      norm(a.query_norm, a.norm == query_key_norm::whole ? a.heads * a.head_dim : a.head_dim);
      norm(a.key_norm, a.norm == query_key_norm::whole ? a.kv_heads * a.head_dim : a.head_dim);
      if (model.norm_biases) {
        constant(a.query_norm + ".bias", {a.head_dim});
        constant(a.key_norm + ".bias", {a.head_dim});
      }
    }
    constant(a.sinks, {a.heads});
  }
  const auto block = [&](const std::string& prefix, const feed_forward_description& f) {
    const std::uint64_t width = detail::columns_of(source, l.prefix + prefix + f.down);
    for (const std::string& n : f.inputs()) linear(prefix + n, n == f.fused ? 2 * width : width, d);
    linear(prefix + f.down, d, width);
    if (f.activation_constants.empty()) return;
    constant(prefix + f.activation_constants + "alpha_p", {1});
    constant(prefix + f.activation_constants + "alpha_n", {1});
  };
  if (!l.experts) {
    block("", model.feed_forward);
    return out;
  }
  const experts_description& e = model.experts;
  linear(e.router, e.routing.experts, d);
  const auto bias = source.shape(l.prefix + e.correction_bias);
  // Ernie stores one row of a matrix.
  if (bias && bias->size() == 2) constant(e.correction_bias, {1, e.routing.experts});
  else constant(e.correction_bias, {e.routing.experts});
  if (!e.shared.empty()) block(e.shared, e.shared_block);
  if (!e.shared_gate.empty()) linear(e.shared_gate, 1, d);
  for (std::size_t i = 0; i < e.routing.experts; ++i) block(numbered(e.expert, i), e.block);
  return out;
}

QLIB_INLINE errors check_parameters(const model_description& model, const parameter_source& source) {
  errors found;
  std::set<std::string> consumed;
  const auto is_float = [](dtype t) { return t == dtype::f32 || t == dtype::bf16 || t == dtype::f16; };
  const auto check = [&](const required_tensor& r) {
    consumed.insert(r.name);
    const auto shape = source.shape(r.name);
    if (!shape) {
      found.push_back({.where = source.where(),
                       .subject = r.name,
                       .problem = "missing: " + model.model_type + " needs it",
                       .remedy = "give the complete float checkpoint, with the config.json that belongs to it"});
      return;
    }
    bool same = shape->size() == r.shape.size();
    for (std::size_t i = 0; same && i < r.shape.size(); ++i) same = (r.shape[i] == 0 && (*shape)[i] > 0) || r.shape[i] == (*shape)[i];
    if (!same)
      found.push_back({.where = source.where(),
                       .subject = r.name,
                       .problem = "is " + detail::shape_text(*shape) + ", but config.json asks for " + detail::shape_text(r.shape),
                       .remedy = "give the config.json that belongs to these weights"});
    if (const auto type = source.type(r.name); type && !is_float(*type))
      found.push_back({.where = source.where(),
                       .subject = r.name,
                       .problem = "is " + std::string(name_of(*type)) + ", not a float type",
                       .remedy = "give a float checkpoint"});
    if (!r.linear) return;
    const std::string bias = r.name.substr(0, r.name.size() - 6) + "bias";
    const auto bias_shape = source.shape(bias);
    if (!bias_shape) return;
    consumed.insert(bias);
    if (*bias_shape != std::vector<std::uint64_t>{(*shape)[0]} || !is_float(*source.type(bias)))
      found.push_back({.where = source.where(),
                       .subject = bias,
                       .problem = "is no float bias for the " + std::to_string((*shape)[0]) + " rows of " + r.name,
                       .remedy = "the checkpoint is damaged"});
  };
  // What transformers stores of a module beside its parameters: frequencies, GPT-NeoX' causal masks, constants of xielu.
  const auto is_buffer = [&](const std::string& name) {
    if (name.ends_with("inv_freq") || name.ends_with(".attention.masked_bias") || name.ends_with(".attn.masked_bias")) return true;
    if (name.ends_with(".attention.bias") || name.ends_with(".attn.bias")) return source.shape(name)->size() == 4;
    return !model.feed_forward.activation_constants.empty() && (name.ends_with("act_fn.beta") || name.ends_with("act_fn.eps"));
  };
  check({model.embedding + ".weight", {model.vocabulary, model.hidden_size}});
  if (!model.positions.empty()) check({model.positions + ".weight", {model.longest_sample + model.first_position, model.hidden_size}});
  if (model.norm_weights) check({model.final_norm + ".weight", {model.hidden_size}});
  if (model.norm_weights && model.norm_biases) check({model.final_norm + ".bias", {model.hidden_size}});
  if (model.tied) consumed.insert(model.head + ".weight");  // transformers ignores a stored head of a tied model
  else check({model.head + ".weight", {model.vocabulary, model.hidden_size}, true});
  for (std::size_t i = 0; i < model.layers.size(); ++i)
    for (const required_tensor& r : required_tensors(model, i, source)) check(r);

  const std::string& first = model.layers.empty() ? std::string{} : model.layers[0].prefix;
  const std::string stem = first.substr(0, first.size() - std::min<std::size_t>(first.size(), 2));  // without "0."
  const std::string decoder = stem.substr(0, stem.find("layers.") == std::string::npos ? stem.size() : stem.find("layers."));
  for (const std::string& name : source.names()) {
    if (consumed.contains(name) || is_buffer(name)) continue;
    const auto layer = detail::layer_number(name, stem);
    if (layer && *layer >= model.layers.size()) continue;  // multi-token prediction
    if (name.starts_with("mtp.") || contains_component(name, "mtp") || contains_component(name, "mtp_layers")) continue;
    if (!layer) {
      // Towers and their connectors stand beside the decoder.
      if (model.part_of_a_model && !(name.starts_with(decoder) && decoder != "model.")) continue;
      bool tower = false;
      for (const std::string_view part : {"visual", "vision_model", "vision_tower", "audio_tower", "multi_modal_projector", "mm_projector", "mlp1"})
        tower = tower || contains_component(name, part);
      if (tower) continue;
    }
    found.push_back({.where = source.where(),
                     .subject = name,
                     .problem = "is a tensor that the forward pass of " + model.model_type + " does not use",
                     .remedy = "the result would be another model's: give the config.json that belongs to these weights, or use a data-free recipe"});
  }
  return found;
}

QLIB_INLINE std::vector<std::string> absent_weights(const model_description& model, const parameter_source& source) {
  std::vector<std::string> absent;
  const std::vector<std::string> names = source.names();
  const auto is_named_so = [&](const std::string& name) { return name.starts_with(model.layers.front().prefix); };
  if (model.layers.empty() || std::none_of(names.begin(), names.end(), is_named_so)) return absent;
  const auto need = [&](const std::string& name) {
    if (name.ends_with(".weight") && !source.contains(name)) absent.push_back(name);
  };
  need(model.embedding + ".weight");
  if (model.norm_weights) need(model.final_norm + ".weight");
  for (std::size_t i = 0; i < model.layers.size(); ++i)
    for (const required_tensor& r : required_tensors(model, i, source)) need(r.name);
  return absent;
}

QLIB_INLINE layer_sizes sizes_of_layer(const model_description& model, std::size_t layer, const parameter_source& source) {
  layer_sizes sizes;
  const layer_description& l = model.layers[layer];
  const std::string experts = l.prefix + model.experts.expert.substr(0, model.experts.expert.find("{}"));
  std::uint64_t columns = (model.parallel ? 5 : 4) * model.hidden_size, first_expert_columns = 0, expert_elements = 0;
  for (const required_tensor& r : required_tensors(model, layer, source)) {
    if (!r.linear) continue;
    const auto shape = source.shape(r.name);
    if (!shape || shape->size() != 2) continue;
    const std::uint64_t elements = (*shape)[0] * (*shape)[1];
    const std::uint64_t bytes = elements * (source.type(r.name) == dtype::bf16 ? 2 : 4);
    if (l.experts && !experts.empty() && detail::layer_number(r.name, experts)) {
      expert_elements += elements;
      if (*detail::layer_number(r.name, experts) == 0) {
        sizes.expert_bytes += bytes;
        first_expert_columns += (*shape)[0];
      }
      continue;
    }
    sizes.dense_weights += elements;
    sizes.resident_bytes += bytes;
    columns += 2 * (*shape)[0];  // as projected, and as attention reads it
  }
  if (l.experts) sizes.expert_weights = expert_elements / model.experts.routing.experts * model.experts.routing.top_k;
  sizes.activation_columns = std::max(columns, 4 * model.hidden_size + first_expert_columns);
  return sizes;
}

}  // namespace qlib::inline v0
