/// Gated delta net: linear attention with a decaying state, corrected by what it already knows of a key.
#pragma once
#include <qlib/model/linear_group.hpp>

#include <vector>

namespace qlib::inline v0 {

/// The delta net of one layer with its weights. The recurrence runs token by token, each value head of each sample by itself.
class delta_net_block {
 public:
  status load(const layer_context& context);

  /// x: the normalized input [tokens, hidden_size]; out has its shape.
  status run(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x, matrix_view<float> out);

 private:
  status project(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x);
  void convolve(const layer_context& context, const sample_chunk& chunk);
  void recur(const layer_context& context, const sample_chunk& chunk);

  linear_group inputs_, output_;
  std::vector<float> kernel_, a_log_, dt_bias_, gain_;
  activations qkv_, mixed_, gate_, beta_, decay_, scratch_, scratch2_;  // beta_ and decay_: [tokens, value heads]
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/model/delta_net.ipp>
#endif
