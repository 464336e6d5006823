/// What of a model a recipe quantizes, rotates and rescales. Part of plan.ipp.
#pragma once
#include <qlib/linalg/hadamard.hpp>
#include <qlib/pipeline/planner.ipp>
#include <qlib/pipeline/rotation_file.hpp>
#include <qlib/recipe/policy_options.hpp>

#include <algorithm>
#include <map>

namespace qlib::inline v0::detail {

inline void planner::compile_stages() {
  const auto compile = [&](const std::vector<std::string>& targets, const std::vector<std::string>& ignore, pattern_syntax syntax,
                           const std::string& where, std::vector<compiled_stage>& out) {
    auto t = pattern_set::compile(targets, syntax, where), i = pattern_set::compile(ignore, syntax, where);
    if (!t) found_.push_back(t.error());
    if (!i) found_.push_back(i.error());
    if (t && i) out.push_back({*std::move(t), *std::move(i)});
  };
  const auto check_policy = [&](const auto& made) {
    if (!made) found_.push_back(made.error());
  };
  const auto say_all_samples = [&](const quantization_args& x, const std::string& where) {
    if (options_.follow != compat::llmcompressor && keeps_last_sample(x))
      plan_.warnings.push_back(where + ": observer memoryless_minmax: static ranges are those of all samples; LLM-Compressor keeps those of the " +
                               "last sample alone, which --compat llmcompressor repeats");
  };
  for (const stage& s : recipe_.stages) {
    if (s.scheme.input_activations) say_all_samples(*s.scheme.input_activations, s.where);
    compile(s.targets, s.ignore, s.syntax, s.where, stages_);
    check_policy(make_policy<registry::observers>(s.observer, s.where, "observer"));
    check_policy(make_policy<registry::observers>(s.input_observer, s.where, "observer"));
    check_policy(make_policy<registry::rounders>(s.rounder, s.where, "rounder"));
    if (options_.follow == compat::llmcompressor && s.observer.name == "mse")
      found_.push_back(
          {.where = s.where,
           .subject = "observer mse",
           .problem = "--compat llmcompressor is not built for it: that tool sums errors in the weight's dtype and stops its search early",
           .remedy = "leave --compat out: the search is then complete, and its sums are exact"});
  }
  for (const attention_stage& s : recipe_.attention) {
    say_all_samples(s.args, s.where);
    compile(s.targets, s.ignore, s.syntax, s.where, attention_stages_);
    check_policy(make_policy<registry::observers>(s.observer, s.where, "observer"));
    check_policy(make_policy<registry::observers>(s.value_observer, s.where, "observer"));
  }
  used_.resize(stages_.size());
}

inline void planner::choose_stages() {
  chosen_.resize(layout_.matrices.size());
  for (std::size_t i = 0; i < layout_.matrices.size(); ++i) {
    chosen_[i] = stage_of(layout_.matrices[i], recipe_, stages_, used_, rivals_);
    if (chosen_[i] && !recipe_.stages[*chosen_[i]].scheme.weights) chosen_[i].reset();
    if (chosen_[i] && !is_computed(layout_.matrices[i], recipe_.stages[*chosen_[i]].scheme)) {
      unseen_.push_back(layout_.matrices[i].name);
      chosen_[i].reset();
    }
    if (const matrix_source& w = layout_.matrices[i].weight; chosen_[i] || w.storage != matrix_storage::plain) unpacked_.insert(w.tensor);
  }
}

inline void planner::note_embeddings() {
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const stage& s = recipe_.stages[i];
    if (s.syntax == pattern_syntax::glob || !s.scheme.weights) continue;
    for (const matrix_module& m : layout_.matrices) {
      if (m.kind != module_class::embedding) continue;
      const std::string_view other = other_name_of(m, recipe_, s.syntax);
      const auto found = find_either(stages_[i].targets, m, other);
      if (!found || matches_either(stages_[i].ignore, m, other)) continue;
      used_[i].insert(found->index);
      embeddings_[s.where + ": target \"" + found->pattern + "\""].push_back(m.name);
    }
  }
}

inline void planner::note_tied_head() {
  if (!layout_.tied_embeddings) return;
  for (const matrix_module& m : layout_.matrices)
    if (m.kind == module_class::head) return;
  const matrix_module head{.name = "lm_head", .kind = module_class::head};
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const stage& s = recipe_.stages[i];
    if (recipe_.source == "flags" || s.syntax == pattern_syntax::glob || !s.scheme.weights) continue;
    const auto found = find_either(stages_[i].targets, head, {});
    if (!found || matches_either(stages_[i].ignore, head, {})) continue;
    used_[i].insert(found->index);
    tied_target_ = s.where + ": target \"" + found->pattern + "\"";
  }
}

inline void planner::check_complete() {
  if (!model_) return;
  const std::vector<std::string> absent = absent_weights(*model_, *parameters_);
  constexpr std::size_t most = 8;
  for (std::size_t i = 0; i < absent.size() && i < most; ++i)
    found_.push_back({.where = source_.directory(),
                      .subject = absent[i],
                      .problem = "missing: " + model_->model_type + " with the " + std::to_string(model_->layers.size()) +
                                 " layers of config.json needs it" +
                                 (i + 1 == most && absent.size() > most ? "; so are " + std::to_string(absent.size() - most) + " more tensors" : ""),
                      .remedy = "give the complete checkpoint, with the config.json that belongs to it"});
}

inline bool planner::is_computed(const matrix_module& m, const scheme& s) const {
  if (!s.input_activations || s.input_activations->dynamic || !model_ || m.kind == module_class::head) return true;
  const auto& layers = model_->layers;
  return std::any_of(layers.begin(), layers.end(), [&](const layer_description& l) { return m.name.starts_with(l.prefix); });
}

inline void planner::choose_attention() {
  if (attention_stages_.empty()) return;
  if (!model_) {
    found_.push_back({.where = recipe_.attention.front().where,
                      .problem = "model_type \"" + layout_.model_type + "\" is not known, and its attention must be to be quantized",
                      .remedy = "leave attention out"});
    return;
  }
  const model_description& m = *model_;
  for (const layer_description& layer : m.layers) {
    if (layer.delta_net) continue;
    const std::string module = layer.prefix + m.attention.output.substr(0, m.attention.output.rfind('.'));
    for (std::size_t i = 0; i < attention_stages_.size(); ++i) {
      const auto hit = attention_stages_[i].targets.find(module, "Attention");
      if (!hit || !*hit || attention_stages_[i].ignore.matches(module, "Attention")) continue;
      attention_module described{module, m.attention.heads, m.attention.kv_heads, m.attention.head_dim, m.attention.value_dim};
      if (const auto& latent = m.attention.latent) described = {module, m.attention.heads, 1, latent->kv_rank, latent->kv_rank, true};
      auto encoded = std::visit(
          [&](const auto& f) { return f.encode_attention(described, recipe_.attention[i], layout_.run_dtype, options_.follow); }, options_.format);
      if (!encoded) found_.push_back(std::move(encoded).error());
      else attention_.push_back({std::move(described), i, *std::move(encoded)});
      break;
    }
  }
  if (attention_.empty() && found_.empty()) plan_.warnings.push_back(recipe_.attention.front().where + ": matches no attention module");
}

/// Heads are rotated whole, each by one Hadamard matrix.
inline status check_heads(const residual_stream& stream, const rotation_stage& how) {
  const auto refuse = [&](std::string problem, std::string remedy) {
    return error{.where = how.where, .subject = how.name, .problem = std::move(problem), .remedy = std::move(remedy)};
  };
  for (const residual_stream::values& v : stream.heads) {
    const std::string channels = std::to_string(v.head_dim) + " channels of a head, which R2 rotates";
    if (!has_hadamard(v.head_dim)) return refuse("no Hadamard matrix is known for the " + channels, "give rotations: [R1]");
    if (how.block_size && v.head_dim % how.block_size != 0)
      return refuse("transform_block_size " + std::to_string(how.block_size) + " does not divide the " + channels,
                    "give one that divides them, or rotations: [R1]");
  }
  return {};
}

inline void planner::choose_rotation() {
  if (!recipe_.rotation) return;
  const rotation_stage& how = *recipe_.rotation;
  if (!model_)
    return found_.push_back({.where = how.where,
                             .problem = "model_type \"" + layout_.model_type + "\" is not known, and a rotation must know what reads what",
                             .remedy = "leave it out"});
  auto stream = residual_stream_of(*model_, *parameters_);
  if (!stream) return found_.push_back(std::move(stream).error());
  if (!how.residual && !how.heads) return plan_.warnings.push_back(how.where + ": " + how.name + ": rotations is empty: nothing is rotated");
  if (!how.residual && stream->heads.empty())
    return plan_.warnings.push_back(how.where + ": " + how.name + ": channels of attention outputs are gated one by one: nothing is rotated");
  const std::size_t block = how.block_size ? how.block_size : stream->width;
  if (how.residual && (stream->width % block != 0 || !has_hadamard(block)))
    return found_.push_back(
        {.where = how.where,
         .problem = "no Hadamard matrix is known for " + std::to_string(block) + " of the hidden size " + std::to_string(stream->width),
         .remedy = "give a block_size that is a power of two and divides it"});
  if (how.heads && how.strict_heads)
    if (status s = check_heads(*stream, how); !s) return found_.push_back(std::move(s).error());
  const auto stays = [](const residual_stream::values& v) { return !has_hadamard(v.head_dim); };
  if (const std::size_t odd = std::erase_if(stream->heads, stays); how.heads && odd > 0)
    plan_.warnings.push_back(how.where + ": values of " + std::to_string(odd) +
                             " layers are not rotated: no Hadamard matrix is known for their heads");
  if (how.residual) {
    folded_.matrices.insert(stream->embedding);
    for (const residual_stream::norm& n : stream->norms) {
      folded_.vectors.insert(n.name + ".weight");
      folded_.matrices.insert(n.readers.begin(), n.readers.end());
    }
  }
  const auto outputs = [&](const std::string& module) {
    folded_.matrices.insert(module);
    whole_rows_.insert(module);
    if (parameters_->contains(module + ".bias")) folded_.vectors.insert(module + ".bias");
  };
  if (how.residual)
    for (const std::string& writer : stream->writers) outputs(writer);
  if (how.heads)
    for (const residual_stream::values& v : stream->heads) {
      outputs(v.graph.source);
      folded_.matrices.insert(v.graph.targets.begin(), v.graph.targets.end());
    }
  if (const auto name = std::visit([](const auto& f) { return f.rotation_file; }, options_.format); how.residual && how.stored && !name.empty()) {
    auto file = plan_rotation_file(std::string{name}, stream->width);
    if (!file) return found_.push_back(std::move(file).error());
    about_.rotation_file = name;
    plan_.rotation_file = *std::move(file);
  }
  if (how.residual && model_->tied) untie();
  plan_.rotation = planned_rotation{*std::move(stream), how};
  unpack_folded();
}

inline void planner::untie() {
  about_.untied = true;
  const auto named = [&](const std::string& name) {
    const auto at = std::find_if(layout_.matrices.begin(), layout_.matrices.end(), [&](const matrix_module& m) { return m.name == name; });
    return at == layout_.matrices.end() ? nullptr : &*at;
  };
  const matrix_module *stored = named(model_->head), *embedding = named(model_->embedding);
  if (!stored || !embedding) return;
  untied_head_ = *stored;
  untied_head_->weight = embedding->weight;
  untied_head_->type = embedding->type;
}

inline void planner::unpack_folded() {
  for (const matrix_module& m : layout_.matrices)
    if (folded_.matrices.contains(m.name)) unpacked_.insert(m.weight.tensor);
}

inline void planner::choose_suppressions() {
  if (recipe_.suppression.empty()) return;
  if (!model_) {
    found_.push_back({.where = recipe_.suppression.front().where,
                      .problem = "model_type \"" + layout_.model_type + "\" is not known, and outlier suppression must know what reads what",
                      .remedy = "leave it out"});
    return;
  }
  std::map<std::string_view, const scheme*> quantized;
  for (std::size_t i = 0; i < layout_.matrices.size(); ++i)
    if (chosen_[i]) quantized.emplace(layout_.matrices[i].name, &recipe_.stages[*chosen_[i]].scheme);
  const auto scheme_of = [&](const std::string& module) {
    const auto at = quantized.find(module);
    return at == quantized.end() ? nullptr : at->second;
  };
  errors bad = plan_suppressions(recipe_, *model_, *parameters_, scheme_of, plan_, folded_);
  found_.insert(found_.end(), bad.begin(), bad.end());
  check_made_biases();
  unpack_folded();
}

/// A shift gives norms and linears biases that the model does not have. Who loads compressed-tensors drops them; for AscendV1 a norm's is known, and
/// a linear's is part of quant_bias where its input is static.
inline void planner::check_made_biases() {
  const bool known = std::visit([](const auto& f) { return f.stores_norm_bias; }, options_.format);
  std::map<std::string_view, std::size_t> modules;
  for (std::size_t i = 0; i < layout_.matrices.size(); ++i) modules.emplace(layout_.matrices[i].name, i);
  std::size_t loose = 0;
  for (const auto& [name, length] : folded_.made) {
    if (!known)
      return found_.push_back({.where = plan_.suppressions.front().where,
                               .subject = name,
                               .problem = "a shift needs a bias here, which the model does not have and readers of " + plan_.format + " drop",
                               .remedy = "set symmetric: true"});
    const auto at = modules.find(std::string_view{name}.substr(0, name.rfind('.')));
    if (at == modules.end() || !chosen_[at->second]) continue;
    const auto& inputs = recipe_.stages[*chosen_[at->second]].scheme.input_activations;
    loose += !inputs || inputs->dynamic;
  }
  if (loose > 0)
    plan_.warnings.push_back(
        std::to_string(loose) +
        " linears without a bias get one from a shift, which engines drop where the model has none: set symmetric: true, or use w8a8");
}

}  // namespace qlib::inline v0::detail
