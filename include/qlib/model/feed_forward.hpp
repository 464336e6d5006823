/// Feed-forward blocks: dense ones, shared experts and routed experts.
#pragma once
#include <qlib/model/linear_group.hpp>
#include <qlib/model/router.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// down(f(gate(x)) * up(x)), or down(f(up(x))), with its weights.
class feed_forward_block {
 public:
  /// Names of `f` are below `prefix`, which is below the layer's. `others` read the same input: see `other`.
  status load(const layer_context& context, const feed_forward_description& f, const std::string& prefix,
              const std::vector<std::string>& others = {});

  status run(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x, matrix_view<float> out);

  /// The product of x and the i-th of `others`, and the hook of its input. Call in ascending order, before `run`.
  status other(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x, std::size_t i, activations& y);

 private:
  linear_group inputs_, down_;
  activation_function activation_ = activation_function::silu;
  xielu_constants xielu_;
  std::size_t others_ = 0;
  bool fused_ = false, gated_ = true;
  activations gate_, up_;
};

/// Router, shared expert and routed experts of one layer. One expert's weights are resident at a time.
class experts_block {
 public:
  status load(const layer_context& context, std::size_t tokens);

  /// Routes the rows of a chunk; out gets the shared expert, or zeros. x: the normalized input.
  status route_chunk(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x, matrix_view<float> out);

  /// Gives the weights of router and shared expert back.
  void release_shared();

  /// Adds every expert to `out`, in ascending order. `hidden` are the rows before this norm.
  status run_experts(const layer_context& context, std::span<const std::size_t> rows_of_sample, std::size_t chunk_tokens,
                     matrix_view<const float> hidden, const norm_weights& norm, matrix_view<float> out);

 private:
  feed_forward_block shared_;
  linear_group alone_;  // router without a shared expert
  std::vector<float> bias_;
  std::vector<std::uint32_t> chosen_;  // [tokens, top_k]
  std::vector<float> weights_;         // [tokens, top_k]
  activations logits_, gate_, rows_, results_;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/model/feed_forward.ipp>
#endif
