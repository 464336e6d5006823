#pragma once
#include <qlib/model/subgraph.hpp>

#include <utility>

namespace qlib::inline v0 {

namespace detail {

class subgraph_list {
 public:
  subgraph_list(const model_description& model, const layer_description& layer, const parameter_source& source)
      : model_{model}, layer_{layer}, source_{source} {}

  std::string full(const std::string& below) const { return layer_.prefix + below; }

  std::size_t columns(const std::string& module) const {
    const auto shape = source_.shape(full(module) + ".weight");
    return shape && shape->size() == 2 ? (*shape)[1] : 0;
  }

  void norm(const std::string& norm, std::size_t width, std::vector<std::string> targets, bool may_be_one_plus = true) {
    if (norm.empty() || !model_.norm_weights) return;
    for (std::string& t : targets) t = full(t);
    out.push_back({.kind = subgraph_kind::norm_linear,
                   .source = full(norm),
                   .targets = std::move(targets),
                   .channels = {0, width, 1, width},
                   .one_plus = may_be_one_plus && model_.gain == norm_gain::one_plus_weight});
  }

  void up_down(const std::string& prefix, const feed_forward_description& f) {
    if (!f.gated() || f.activation == activation_function::clamped_swiglu) return;
    const bool fused = !f.fused.empty();
    const std::size_t width = columns(prefix + f.down);
    out.push_back({.kind = subgraph_kind::up_down,
                   .source = full(prefix + (fused ? f.fused : f.up)),
                   .targets = {full(prefix + f.down)},
                   .channels = {fused ? width : 0, width, 1, width}});
  }

  std::vector<subgraph> out;

 private:
  const model_description& model_;
  const layer_description& layer_;
  const parameter_source& source_;
};

/// Keys and queries of an attention that is not latent.
inline void query_key_subgraph(const model_description& model, const layer_description& layer, subgraph_list& list) {
  const attention_description& a = model.attention;
  if (a.norm == query_key_norm::l2 || a.clip != 0) return;
  if (a.norm != query_key_norm::none && model.norm_biases) return;
  const std::size_t d = a.head_dim, group = a.heads / a.kv_heads;
  subgraph g;
  g.kind = subgraph_kind::query_key;
  g.heads = a.kv_heads;
  g.head_dim = d;
  g.repeats = group;
  g.repeat_width = d;
  if (layer.rope && !a.norm_after_rope) {
    g.rotary = a.ropes[*layer.rope].dim;
    g.style = a.style;
  }
  if (a.norm == query_key_norm::none) {
    g.source = list.full(a.fused.empty() ? a.key : a.fused);
    g.targets = {list.full(a.fused.empty() ? a.query : a.fused)};
    g.channels = {0, a.kv_heads * d, 1, a.kv_heads * d};
    g.target_rows = a.output_gate ? row_runs{0, d, a.heads, 2 * d} : row_runs{0, a.heads * d, 1, a.heads * d};
    if (a.rows == fused_rows::concatenated) g.channels.first = a.heads * d;
    if (a.rows == fused_rows::grouped) {
      g.channels = {group * d, d, a.kv_heads, (group + 2) * d};
      g.target_rows = {0, group * d, a.kv_heads, (group + 2) * d};
    }
  } else {
    const bool whole = a.norm == query_key_norm::whole || a.norm == query_key_norm::own_head;
    g.norms = true;
    g.one_plus = model.gain == norm_gain::one_plus_weight;
    g.source = list.full(a.key_norm);
    g.targets = {list.full(a.query_norm)};
    const std::size_t keys = whole ? a.kv_heads * d : d, queries = whole ? a.heads * d : d;
    g.channels = {0, keys, 1, keys};
    g.target_rows = {0, queries, 1, queries};
    if (!whole) g.repeats = 1;
  }
  list.out.push_back(std::move(g));
}

/// `beside` read the input norm too: the feed-forward block of a parallel layer with one norm.
inline void attention_subgraphs(const model_description& model, const layer_description& layer, const std::vector<std::string>& beside,
                                subgraph_list& list) {
  const attention_description& a = model.attention;
  const auto with = [&](std::vector<std::string> readers) {
    readers.insert(readers.end(), beside.begin(), beside.end());
    return readers;
  };
  if (a.latent) {
    const latent_attention& l = *a.latent;
    std::vector<std::string> readers{l.query_rank ? "self_attn.q_a_proj" : "self_attn.q_proj", "self_attn.kv_a_proj_with_mqa"};
    if (l.indexer)
      for (const char* n : {"self_attn.indexer.wk", "self_attn.indexer.weights_proj"}) readers.push_back(n);
    list.norm(model.input_norm, model.hidden_size, with(readers));
    if (l.query_rank) {
      std::vector<std::string> q{"self_attn.q_b_proj"};
      if (l.indexer) q.push_back("self_attn.indexer.wq_b");
      list.norm("self_attn.q_a_layernorm", l.query_rank, q, false);
    }
    list.norm("self_attn.kv_a_layernorm", l.kv_rank, {"self_attn.kv_b_proj"}, false);
    list.out.back().latent = true;
    list.out.push_back({.kind = subgraph_kind::ov,
                        .source = list.full("self_attn.kv_b_proj"),
                        .targets = {list.full(a.output)},
                        .channels = {l.nope_dim, a.value_dim, a.heads, l.nope_dim + a.value_dim},
                        .latent = true});
    return;
  }
  const std::size_t d = a.head_dim, group = a.heads / a.kv_heads;
  row_runs values{0, a.kv_heads * d, 1, a.kv_heads * d};
  if (a.rows == fused_rows::concatenated) values.first = (a.heads + a.kv_heads) * d;
  if (a.rows == fused_rows::grouped) values = {(group + 1) * d, d, a.kv_heads, (group + 2) * d};
  std::vector<std::string> readers = a.fused.empty() ? std::vector{a.query, a.key, a.value} : std::vector{a.fused};
  if (!a.gate.empty()) readers.push_back(a.gate);
  list.norm(model.input_norm, model.hidden_size, with(std::move(readers)));
  if (a.clip == 0)
    list.out.push_back({.kind = subgraph_kind::ov,
                        .source = list.full(a.fused.empty() ? a.value : a.fused),
                        .targets = {list.full(a.output)},
                        .channels = values,
                        .repeats = group,
                        .repeat_width = d});
  query_key_subgraph(model, layer, list);
}

}  // namespace detail

QLIB_INLINE std::vector<subgraph> subgraphs(const model_description& model, std::size_t layer, const parameter_source& source) {
  const layer_description& l = model.layers[layer];
  const experts_description& e = model.experts;
  detail::subgraph_list list{model, l, source};
  std::vector<std::string> fed;  // what reads the input of the feed-forward part
  if (!l.experts) {
    fed = model.feed_forward.inputs();
  } else {
    fed.push_back(e.router);
    if (!e.shared_gate.empty()) fed.push_back(e.shared_gate);
    if (!e.shared.empty())
      for (const std::string& n : e.shared_block.inputs()) fed.push_back(e.shared + n);
    for (std::size_t i = 0; i < e.routing.experts; ++i)
      for (const std::string& n : e.block.inputs()) fed.push_back(numbered(e.expert, i) + n);
  }
  const bool one_norm = model.parallel && model.feed_forward_norm.empty();
  const std::vector<std::string> beside = one_norm ? fed : std::vector<std::string>{};
  if (l.delta_net) {
    std::vector<std::string> readers;
    if (model.delta_net.split)
      for (const char* part : {"qkv", "z", "b", "a"}) readers.push_back(std::string("linear_attn.in_proj_") + part);
    else
      for (const char* part : {"qkvz", "ba"}) readers.push_back(std::string("linear_attn.in_proj_") + part);
    readers.insert(readers.end(), beside.begin(), beside.end());
    list.norm(model.input_norm, model.hidden_size, readers);
  } else {
    detail::attention_subgraphs(model, l, beside, list);
  }
  list.norm(model.feed_forward_norm, model.hidden_size, fed);
  if (!l.experts) {
    list.up_down("", model.feed_forward);
    return std::move(list.out);
  }
  if (!e.shared.empty()) list.up_down(e.shared, e.shared_block);
  for (std::size_t i = 0; i < e.routing.experts; ++i) list.up_down(numbered(e.expert, i), e.block);
  return std::move(list.out);
}

}  // namespace qlib::inline v0
