#pragma once
#include <qlib/model/residual_stream.hpp>

#include <algorithm>
#include <charconv>

namespace qlib::inline v0 {

namespace detail {

/// A tensor of a decoder layer behind the last one: multi-token prediction.
inline bool behind_last_layer(const model_description& model, const std::string& name) {
  if (model.layers.empty()) return false;
  const std::string& prefix = model.layers.front().prefix;  // "model.layers.0."
  const std::string stem = prefix.substr(0, prefix.size() - 2);
  if (!name.starts_with(stem)) return false;
  std::size_t number = 0;
  const auto [end, failure] = std::from_chars(name.data() + stem.size(), name.data() + name.size(), number);
  return failure == std::errc{} && number >= model.layers.size();
}

}  // namespace detail

QLIB_INLINE result<residual_stream> residual_stream_of(const model_description& model, const parameter_source& source) {
  const auto refuse = [&](std::string subject, std::string problem) {
    return error{.where = source.where(),
                 .subject = std::move(subject),
                 .problem = "a rotation of the residual stream cannot be folded: " + std::move(problem),
                 .remedy = "leave the rotation out"};
  };
  if (model.tied && always_tied(model.model_type))
    return refuse(model.embedding, "engines take it for the head too, and the final norm's gains can be folded into the head alone");
  if (model.norm == norm_kind::layer) return refuse(model.final_norm, "this norm subtracts the mean, which a rotation does not keep");
  if (model.input_norm.empty() || model.feed_forward_norm.empty())
    if (!model.parallel) return refuse(model.layers.front().prefix, "layers read the stream without a norm whose gains could be folded");
  for (const std::string& norm : {model.attention_output_norm, model.feed_forward_output_norm})
    if (!norm.empty()) return refuse(model.layers.front().prefix + norm, "this norm stands behind a branch, where its gains do not commute with it");
  for (const std::string& name : source.names())
    if (detail::behind_last_layer(model, name)) return refuse(name, "this layer predicts further tokens from hidden states");
  if (model.part_of_a_model)
    for (const std::string& name : source.names())
      for (const std::string_view part : {"visual.", "vision_", "mm_projector", "multi_modal_projector", "mlp1.", "audio_"})
        if (name.find(part) != std::string::npos) return refuse(name, "this tower writes hidden states in the old basis");

  residual_stream out;
  out.width = model.hidden_size;
  out.embedding = model.embedding;
  for (std::size_t l = 0; l < model.layers.size(); ++l) {
    const layer_description& layer = model.layers[l];
    for (const subgraph& g : subgraphs(model, l, source)) {
      if (g.kind == subgraph_kind::norm_linear && (g.source == layer.prefix + model.input_norm || g.source == layer.prefix + model.feed_forward_norm))
        out.norms.push_back({g.source, g.one_plus, g.targets});
      // Values are mixed head by head, so a rotation within heads passes; a gate of single channels stops it.
      if (g.kind == subgraph_kind::ov && !model.attention.output_gate && model.attention.gate.empty())
        out.heads.push_back({g, model.attention.value_dim});
    }
    out.writers.push_back(layer.prefix + (layer.delta_net ? "linear_attn.out_proj" : model.attention.output));
    if (!layer.experts) {
      out.writers.push_back(layer.prefix + model.feed_forward.down);
      continue;
    }
    const experts_description& e = model.experts;
    if (!e.shared.empty()) out.writers.push_back(layer.prefix + e.shared + e.shared_block.down);
    for (std::size_t i = 0; i < e.routing.experts; ++i) out.writers.push_back(layer.prefix + numbered(e.expert, i) + e.block.down);
  }
  out.norms.push_back({model.final_norm, model.gain == norm_gain::one_plus_weight, {model.head}});
  for (const std::string& w : out.writers) {
    const auto shape = source.shape(w + ".weight");
    if (!shape || shape->size() != 2 || (*shape)[0] != out.width)
      return refuse(w, "its outputs are not the " + std::to_string(out.width) + " channels of the stream");
  }
  return out;
}

}  // namespace qlib::inline v0
