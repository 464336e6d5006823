#pragma once
#include <qlib/core/parallel.hpp>
#include <qlib/format/simulated_activations.hpp>
#include <qlib/model/module_name.hpp>

#include <algorithm>

namespace qlib::inline v0 {

namespace detail {

inline bool in_layers(const model_description& model, std::string_view name) {
  return std::ranges::any_of(model.layers, [&](const layer_description& l) { return name.starts_with(l.prefix); });
}

}  // namespace detail

QLIB_INLINE std::map<std::string, std::vector<std::string>> readers_of_norms(const model_description& model) {
  std::map<std::string, std::vector<std::string>> out;
  const attention_description& a = model.attention;
  const experts_description& e = model.experts;
  for (const layer_description& l : model.layers) {
    const auto reads = [&](const std::string& norm, const std::vector<std::string>& modules) {
      if (norm.empty()) return;
      std::vector<std::string>& to = out[l.prefix + norm];
      for (const std::string& m : modules)
        if (!m.empty()) to.push_back(l.prefix + m);
    };
    const std::string& input = model.input_norm;
    const std::string& middle = model.parallel && model.feed_forward_norm.empty() ? input : model.feed_forward_norm;
    if (l.delta_net) {
      for (const char* part : {"qkv", "z", "b", "a", "qkvz", "ba"}) reads(input, {std::string{"linear_attn.in_proj_"} + part});
    } else if (a.latent) {
      reads(input, {a.latent->query_rank ? "self_attn.q_a_proj" : "self_attn.q_proj", "self_attn.kv_a_proj_with_mqa", "self_attn.indexer.wk",
                    "self_attn.indexer.weights_proj"});
      reads("self_attn.q_a_layernorm", {"self_attn.q_b_proj", "self_attn.indexer.wq_b"});
      reads("self_attn.kv_a_layernorm", {"self_attn.kv_b_proj"});
    } else if (!a.fused.empty()) {
      reads(input, {a.fused});
    } else {
      reads(input, {a.query, a.key, a.value, a.gate});
    }
    if (!l.experts) {
      reads(middle, model.feed_forward.inputs());
      continue;
    }
    reads(middle, {e.router, e.shared_gate});
    const auto reads_block = [&](const std::string& prefix, const feed_forward_description& f) {
      std::vector<std::string> names = f.inputs();
      for (std::string& n : names) n.insert(0, prefix);
      reads(middle, names);
    };
    if (!e.shared.empty()) reads_block(e.shared, e.shared_block);
    if (e.scale_input) continue;  // what experts read is not the norm's output
    for (std::size_t i = 0; i < e.routing.experts; ++i) reads_block(numbered(e.expert, i), e.block);
  }
  out[model.final_norm].push_back(model.tied ? model.embedding : model.head);
  return out;
}

QLIB_INLINE errors simulated_activations::create(const weight_folder& folder, const simulated_contents& contents, const model_description& model,
                                                 std::size_t threads, simulated_activations& out) {
  errors found;
  out = {};
  out.threads_ = threads;
  out.where_ = folder.directory();
  for (const auto& [module, l] : contents.linears)
    if (!l.input.identity()) out.inputs_[module] = l.input;

  if (!contents.norm_bias.empty()) {
    const auto readers = readers_of_norms(model);
    for (const auto& [norm, tensor] : contents.norm_bias) {
      const std::vector<float> bias = stored_values(folder, *tensor);
      if (std::ranges::all_of(bias, [](float b) { return b == 0; })) continue;
      const auto to = readers.find(norm);
      const stored_tensor* gain = folder.find(norm + ".weight");
      if (to == readers.end() && (!detail::in_layers(model, norm) || contains_component(norm, "indexer")))
        continue;  // of a tower, of layers that are not run, or of an indexer: the float model's own
      if (to == readers.end() || !gain || gain->info.shape != tensor->info.shape || (model.experts.scale_input && to->second.empty()))
        found.push_back({.where = folder.directory() + "/" + folder.file_of(*tensor),
                         .subject = tensor->info.name,
                         .problem = "the bias of this norm is not simulated",
                         .remedy = "evaluate a checkpoint without asymmetric smoothing"});
      else
        for (const std::string& module : to->second) out.inputs_[module].shift = bias;
    }
  }

  std::map<std::string, bool> known;
  for (const layer_description& l : model.layers) {
    const std::string output = l.prefix + model.attention.output;
    if (!l.delta_net) known[output.substr(0, output.rfind('.'))] = false;
  }
  for (const auto& [module, a] : contents.attention) {
    // Fused projections keep the scales one level down.
    std::string name = module;
    while (!known.contains(name) && name.find('.') != std::string::npos) name.erase(name.rfind('.'));
    if (!known.contains(name) && !detail::in_layers(model, module)) continue;
    if (!known.contains(name)) {
      found.push_back({.where = folder.directory(),
                       .subject = module,
                       .problem = "has scales of keys and values, but is no attention module of this model",
                       .remedy = "give the config.json that belongs to these weights"});
      continue;
    }
    if (!model.attention.latent || a.computes) {
      out.attention_[name] = &a;
      // Absorbed into queries and outputs, kv_b_proj reads no input of its own that could be quantized.
      if (const auto absorbed = out.inputs_.find(name + ".kv_b_proj"); model.attention.latent && absorbed != out.inputs_.end())
        absorbed->second.type = activation_type::floating;
      continue;
    }
    // Latent attention caches the compressed vector, which kv_b_proj reads.
    activation_arithmetic& latent = out.inputs_[name + ".kv_b_proj"];
    if (latent.type != activation_type::floating || a.key.scales.size() != 1) continue;
    latent.type = a.type;
    latent.num_bits = a.num_bits;
    latent.scale = a.key.scales[0];
    if (!a.key.zero_points.empty()) latent.zero_point = a.key.zero_points[0];
  }
  return found;
}

QLIB_INLINE matrix_view<const float> simulated_activations::input(const linear_input& in, std::size_t i) {
  const auto at = inputs_.find(in.modules[i]);
  if (at == inputs_.end() || at->second.identity() || in.x.rows() == 0) return in.x;
  const activation_arithmetic& a = at->second;
  if ((!a.shift.empty() && a.shift.size() != in.x.cols()) || (!a.factors.empty() && a.factors.size() != in.x.cols())) {
    failure_ = error{.where = where_,
                     .subject = in.modules[i],
                     .problem = "reads " + std::to_string(in.x.cols()) + " channels, but the bias of its norm or its smoothing has others",
                     .remedy = "run `qlib verify` on the checkpoint"};
    return in.x;
  }
  room_.resize(in.x.size());
  const matrix_view<float> y{room_.data(), in.x.rows(), in.x.cols()};
  a.apply(in.x, y, threads_);
  return y;
}

QLIB_INLINE void simulated_activations::quantize(const cached_scales& by, const attention_arithmetic& a, const std::string& what,
                                                 matrix_view<float> x) {
  if (by.scales.empty()) return;
  const std::size_t n = by.scales.size();
  if (x.cols() % n != 0) {
    failure_ = error{.where = where_,
                     .subject = what,
                     .problem = std::to_string(n) + " scales for " + std::to_string(x.cols()) + " channels",
                     .remedy = "run `qlib verify` on the checkpoint"};
    return;
  }
  const std::size_t channels = x.cols() / n;
  parallel_for((x.rows() + 31) / 32, threads_, [&](std::size_t, std::size_t task) {
    for (std::size_t r = task * 32; r < std::min(x.rows(), (task + 1) * 32); ++r)
      for (std::size_t s = 0; s < n; ++s) {
        const float zero = by.zero_points.empty() ? 0.0f : by.zero_points[s];
        float* v = x.row(r) + s * channels;
        for (std::size_t c = 0; c < channels; ++c) v[c] = fake_quantize(v[c], by.scales[s], zero, a.type, a.num_bits);
      }
    return true;
  });
}

QLIB_INLINE void simulated_activations::attention_input(std::size_t, const std::string& attention_module, matrix_view<float> q, matrix_view<float> k,
                                                        matrix_view<float> v, std::span<const std::size_t>, std::size_t) {
  const auto at = attention_.find(attention_module);
  if (at == attention_.end()) return;
  quantize(at->second->query, *at->second, attention_module, q);
  quantize(at->second->key, *at->second, attention_module, k);
  quantize(at->second->value, *at->second, attention_module, v);
}

QLIB_INLINE latent_use simulated_activations::use_of_latent(const std::string& attention_module) {
  return attention_.contains(attention_module) ? latent_use::absorbed : latent_use::expanded;
}

QLIB_INLINE void simulated_activations::latent_input(const std::string& attention_module, const latent_operands& operands) {
  const attention_arithmetic& a = *attention_.at(attention_module);
  quantize(a.query, a, attention_module, operands.query);
  quantize(a.key, a, attention_module, operands.key);
  quantize(a.value, a, attention_module, operands.value);
}

QLIB_INLINE status simulated_activations::ok() {
  if (failure_) return *failure_;
  return {};
}

}  // namespace qlib::inline v0
