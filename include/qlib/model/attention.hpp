/// Softmax attention: multi-head, grouped-query and latent.
#pragma once
#include <qlib/model/linear_group.hpp>
#include <qlib/model/rope.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// Which keys a query sees, and what its scores go through.
struct attention_rule {
  std::size_t heads = 0, kv_heads = 0, head_dim = 0, value_dim = 0;
  float scale = 0, softcap = 0;
  std::size_t window = 0, chunk = 0;
  std::span<const float> sinks = {};
};

/// out = softmax(q kᵀ) v for every head of every sample. q: [tokens, heads * head_dim], k: [tokens, kv_heads * head_dim],
/// v: [tokens, kv_heads * value_dim], out: [tokens, heads * value_dim]. Softmax sums are f64 in a fixed order.
status attend(const layer_context& context, const attention_rule& rule, matrix_view<const float> q, matrix_view<const float> k,
              matrix_view<const float> v, std::span<const std::size_t> rows_of_sample, matrix_view<float> out);

/// The attention of one layer with its weights.
class attention_block {
 public:
  status load(const layer_context& context);

  /// x: the normalized input [tokens, hidden_size]; out has its shape.
  status run(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x, matrix_view<float> out);

 private:
  status project(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x);
  status project_fused(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x);
  status project_latent(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x);
  status absorb_weights(const layer_context& context);
  status keep_latent(const layer_context& context, const sample_chunk& chunk);
  status show_latent(const layer_context& context, const sample_chunk& chunk);
  status attend_latent(const layer_context& context, const sample_chunk& chunk);
  attention_rule rule_of(const layer_context& context) const;
  static std::string module_of(const layer_context& context);
  void split_gate(const layer_context& context);
  void norm_heads(const layer_context& context);
  void encode_positions(const layer_context& context, const sample_chunk& chunk);
  const rope_table& table_for(const layer_context& context, std::size_t tokens);

  linear_group inputs_, second_, third_, output_;  // latent: second_ reads the query's compressed vector, third_ the keys'
  norm_weights query_norm_, key_norm_;
  std::vector<float> query_rank_gain_, kv_rank_gain_, sinks_;
  rope_table table_;
  std::size_t table_length_ = 0;
  activations q_, k_, v_, gate_, mixed_, scratch_, compressed_;

  // Absorbed latent attention: the key rows of kv_b_proj of all heads, transposed: [heads * kv_rank, nope_dim]; operands as in latent_operands.
  latent_use latent_ = latent_use::expanded;
  activations key_weights_, absorbed_, cached_keys_, cached_values_, joined_;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/model/attention.ipp>
#include <qlib/model/latent_attention.ipp>
#endif
