#pragma once
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/plan_suppression.hpp>
#include <qlib/pipeline/suppression_choice.ipp>
#include <qlib/recipe/policy_options.hpp>

#include <algorithm>
#include <array>

namespace qlib::inline v0 {

namespace detail {

inline bool wants(const suppression_stage& s, const subgraph& g, const layer_description& layer) {
  if (g.kind == subgraph_kind::ov) return s.ov;
  if (g.kind == subgraph_kind::up_down) return s.up_down;
  if (g.kind == subgraph_kind::query_key) return s.query_key;
  const bool before_experts = layer.experts && g.targets.size() > 4 && g.targets.back().find(".experts.") != std::string::npos;
  return s.norm_linear && (s.experts || !before_experts);
}

/// A shift can be folded where every reader has a bias to take it, or may be given one: linears that are quantized.
inline bool can_shift(const subgraph& g, const parameter_source& source, const std::function<bool(const std::string&)>& quantized) {
  return g.kind == subgraph_kind::norm_linear && !g.one_plus &&
         std::all_of(g.targets.begin(), g.targets.end(), [&](const std::string& t) { return quantized(t) || source.contains(t + ".bias"); });
}

/// Outputs that are queries or keys, whole or in part: clipping would change both sides of the products that a softmax exaggerates.
inline bool makes_queries_or_keys(const attention_description& a, std::string_view below) {
  constexpr std::array<std::string_view, 4> latent{"self_attn.q_proj", "self_attn.q_b_proj", "self_attn.kv_a_proj_with_mqa", "self_attn.kv_b_proj"};
  constexpr std::array<std::string_view, 2> indexer{"self_attn.indexer.wq_b", "self_attn.indexer.wk"};
  const auto is_one_of = [&](const auto& names) { return std::find(names.begin(), names.end(), below) != names.end(); };
  if (a.latent) return is_one_of(latent) || is_one_of(indexer);
  return below == a.query || below == a.key || below == a.fused;
}

inline void note_folded(const planned_suppression& p, const parameter_source& source, folded_names& out) {
  const auto vector = [&](const std::string& name, std::size_t length) {
    if (out.vectors.insert(name).second && !source.contains(name)) out.made.emplace_back(name, length);
  };
  const subgraph& g = p.graph;
  if (g.kind == subgraph_kind::query_key) {
    for (const std::string& module : {g.source, g.targets.front()}) {
      if (g.norms) out.vectors.insert(module + ".weight");
      else out.matrices.insert(module);
      if (source.contains(module + ".bias")) out.vectors.insert(module + ".bias");
    }
    return;
  }
  out.matrices.insert(g.targets.begin(), g.targets.end());
  if (g.kind != subgraph_kind::norm_linear) {
    out.matrices.insert(g.source);
    if (source.contains(g.source + ".bias")) out.vectors.insert(g.source + ".bias");
    return;
  }
  out.vectors.insert(g.source + ".weight");
  if (!p.shift) {
    if (source.contains(g.source + ".bias")) out.vectors.insert(g.source + ".bias");
    return;
  }
  vector(g.source + ".bias", g.channels.channels());
  for (const std::string& t : g.targets)
    if (const auto shape = source.shape(t + ".weight")) vector(t + ".bias", (*shape)[0]);
}

}  // namespace detail

QLIB_INLINE errors plan_suppressions(const recipe& r, const model_description& model, const parameter_source& source,
                                     const std::function<const scheme*(const std::string&)>& scheme_of, quantization_plan& plan,
                                     folded_names& folded) {
  struct compiled {
    detail::watched_stage patterns;
    bool shifts = false, clips = false;
  };
  errors found;
  std::vector<compiled> stages;
  for (const suppression_stage& s : r.suppression) {
    auto patterns = detail::watched_stage::compile(s);
    auto policy = make_policy<registry::suppressors>(s.suppressor, s.where, "outlier suppressor");
    if (!patterns) found.push_back(patterns.error());
    if (!policy) found.push_back(policy.error());
    if (!patterns || !policy) continue;
    const bool shifts = std::visit(
        [](const auto& p) {
          if constexpr (requires { p.shifts(); }) return p.shifts();
          else return false;
        },
        *policy);
    const bool clips = std::visit(
        [](const auto& p) {
          if constexpr (requires { p.clips(); }) return p.clips();
          else return false;
        },
        *policy);
    stages.push_back({*std::move(patterns), shifts, clips});
  }
  if (!found.empty()) return found;

  const std::function<bool(const std::string&)> quantized = [&](const std::string& module) { return scheme_of(module) != nullptr; };
  const std::string attention = model.attention.output.substr(0, model.attention.output.rfind('.'));
  std::size_t unshifted = 0;
  for (std::size_t l = 0; l < model.layers.size(); ++l) {
    const std::vector<subgraph> graphs = subgraphs(model, l, source);
    for (std::size_t i = 0; i < stages.size(); ++i) {
      const suppression_stage& s = r.suppression[i];
      // Inner sub-graphs first, as msModelSlim does: a norm then sees the weights that they left.
      for (const subgraph_kind kind : {subgraph_kind::up_down, subgraph_kind::ov, subgraph_kind::query_key, subgraph_kind::norm_linear})
        for (const subgraph& g : graphs) {
          if (g.kind != kind || !detail::wants(s, g, model.layers[l])) continue;
          if (!stages[i].patterns.takes(g, model.layers[l].prefix + attention)) continue;
          // Gains of 1 + w that are stored with few bits cannot be scaled on both sides without changing their product.
          if (kind == subgraph_kind::query_key && g.one_plus && source.type(g.source + ".weight") != dtype::f32) {
            stages[i].patterns.note_unscalable();
            continue;
          }
          if (kind != subgraph_kind::query_key && std::none_of(g.targets.begin(), g.targets.end(), quantized)) {  // nobody would gain
            stages[i].patterns.note_unread();
            continue;
          }
          for (const std::string& t : g.targets)
            if (const scheme* is = scheme_of(t)) stages[i].patterns.note_searched(t, *is);
          planned_suppression p{.layer = l, .graph = g, .suppressor = s.suppressor, .where = s.where};
          p.shift = stages[i].shifts && detail::can_shift(g, source, quantized);
          unshifted += stages[i].shifts && g.kind == subgraph_kind::norm_linear && !p.shift;
          if (stages[i].clips && kind != subgraph_kind::query_key)
            for (const std::string& t : g.targets)
              if (quantized(t) && !detail::makes_queries_or_keys(model.attention, std::string_view{t}.substr(model.layers[l].prefix.size())))
                p.clipped.push_back(t);
          detail::note_folded(p, source, folded);
          plan.suppressions.push_back(std::move(p));
        }
    }
  }
  detail::module_names modules{source};
  for (const compiled& stage : stages) stage.patterns.say(r.stages, modules, plan.warnings, found);
  if (unshifted > 0)
    plan.warnings.push_back(std::to_string(unshifted) + " sub-graphs are rescaled without a shift: a float reader has no bias that could take it");
  return found;
}

}  // namespace qlib::inline v0
