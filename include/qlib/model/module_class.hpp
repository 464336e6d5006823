/// What kind of module a name stands for. Checkpoints hold no classes: planning and `qlib verify` both ask here.
#pragma once
#include <qlib/config.hpp>
#include <qlib/model/module_name.hpp>

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace qlib::inline v0 {

enum class module_class { linear, head, router, embedding, other };

/// The class name that recipes match against: linear layers and heads are "Linear".
constexpr std::string_view name_of(module_class c) {
  switch (c) {
    case module_class::linear:
    case module_class::head:
      return "Linear";
    case module_class::router:
      return "Router";
    case module_class::embedding:
      return "Embedding";
    default:
      return "Module";
  }
}

namespace detail {

/// "decoder.embed_tokens" of "decoder.embed_tokens.0", an entry of a list.
inline std::string_view without_numbers(std::string_view module) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  for (;;) {
    const std::size_t dot = module.rfind('.');
    if (dot == std::string_view::npos || dot + 1 == module.size() ||
        !std::all_of(module.begin() + static_cast<std::ptrdiff_t>(dot) + 1, module.end(), is_digit))
      return module;
    module = module.substr(0, dot);
  }
}

/// By the last component. Projections of embeddings ("embedding_projection", "embed_proj") are linear layers.
inline bool is_embedding_name(std::string_view last) {
  for (const std::string_view name : {"wte", "wpe", "shared", "relative_attention_bias", "emb"})
    if (last == name) return true;
  for (const std::string_view tail : {"embed", "embedding", "embeddings"})
    if (last.ends_with(tail)) return true;
  const bool projects = last.find("proj") != std::string_view::npos || last.find("dense") != std::string_view::npos ||
                        last.find("linear") != std::string_view::npos || last.find("norm") != std::string_view::npos;
  return last.starts_with("embed_") && !projects;
}

}  // namespace detail

/// Of a module that has a two-dimensional weight. The names are those of transformers' models and of the families' own releases: T5's `shared`,
/// GPT's `wte`, BERT's `token_type_embeddings`, Gemma 4's `embed_tokens_per_layer`, RWKV's `head`, LFM2's `feed_forward.gate`.
inline module_class class_by_name(std::string_view module) {
  for (const std::string_view head : {"lm_head", "output", "embed_out", "head", "output_projection"})
    if (module == head) return module_class::head;
  for (const std::string_view tail : {"lm_head", "output_layer", "shared_head.head"})
    if (ends_with_component(module, tail)) return module_class::head;
  const std::string_view listed = detail::without_numbers(module);
  if (detail::is_embedding_name(listed.substr(listed.rfind('.') + 1))) return module_class::embedding;
  const std::string_view last = module.substr(module.rfind('.') + 1);
  if (last.ends_with("norm") || contains_component(module, "conv1d")) return module_class::other;
  for (const std::string_view norm : {"norm1", "norm2", "ln_1", "ln_2", "ln_f", "ln_q"})
    if (last == norm) return module_class::other;
  for (const std::string_view tail : {"mlp.gate", "block_sparse_moe.gate", "feed_forward.gate", "ffn.gate", "moe.gate", "mlp.gate.wg", "router",
                                      "router.layer", "router.gate", "router.classifier"})
    if (ends_with_component(module, tail)) return module_class::router;
  return module_class::linear;
}

}  // namespace qlib::inline v0
