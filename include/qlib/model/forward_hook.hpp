/// What observers and simulated quantization see of a forward pass.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/core/view.hpp>

#include <cstddef>
#include <span>
#include <string>

namespace qlib::inline v0 {

/// Linear layers that read the same rows.
struct linear_input {
  std::span<const std::string> modules;         ///< names on disk without ".weight"; experts of a stacked tensor as matrix_module::name
  matrix_view<const float> x;                   ///< [rows, in_features]
  std::span<const std::size_t> rows_of_sample;  ///< first row of each sample of this chunk, then x.rows(); samples of an expert may be empty
  std::size_t first_sample = 0;                 ///< the sample that rows_of_sample[0] belongs to
};

/// What a hook asks of latent attention.
enum class latent_use {
  expanded,  ///< nothing: attention computes on the heads of kv_b_proj, which attention_input shows
  observed,  ///< attention computes on them, but latent_input shows the absorbed operands: heads * nope_dim * kv_rank more products a token
  absorbed,  ///< attention computes on what latent_input leaves in them, as engines decode
};

/// The operands of latent attention in absorbed form. Rotary channels are beside them and are not shown.
struct latent_operands {
  matrix_view<float> query;  ///< [tokens, heads * kv_rank]: each head's query, times the key rows of kv_b_proj
  matrix_view<float> key;    ///< [tokens, kv_rank]: the normalized compressed vector that engines cache, as scores see it
  matrix_view<float> value;  ///< [tokens, kv_rank]: the same as probabilities see it
  std::span<const std::size_t> rows_of_sample;
  std::size_t first_sample = 0;
};

/// Is called by the decoder, from one thread, in order of samples within each group of linears.
class forward_hook {
 public:
  virtual ~forward_hook() = default;

  /// What linear `modules[i]` computes on: x itself, or another matrix of its shape that lives until the next call. Once a chunk
  /// for each i in ascending order. Routers are linears too, and so are the linears of a sparse indexer, whose products are not needed.
  virtual matrix_view<const float> input(const linear_input& in, std::size_t i) {
    (void)i;
    return in.x;
  }

  /// Queries, keys and values of a layer before attention reads them, after their norms and RoPE: [tokens, heads * head_dim], to be
  /// changed in place. Latent attention gives its expanded heads, with kv heads = heads and keys [nope | rope], unless use_of_latent asks
  /// for something else; its compressed cache is the input of kv_b_proj.
  virtual void attention_input(std::size_t layer, const std::string& attention_module, matrix_view<float> q, matrix_view<float> k,
                               matrix_view<float> v, std::span<const std::size_t> rows_of_sample, std::size_t first_sample) {
    (void)layer, (void)attention_module, (void)q, (void)k, (void)v, (void)rows_of_sample, (void)first_sample;
  }

  /// Asked once a layer of latent attention, before it runs.
  virtual latent_use use_of_latent(const std::string& attention_module) {
    (void)attention_module;
    return latent_use::expanded;
  }

  /// Instead of attention_input, where use_of_latent asked for it. `operands` may be changed for latent_use::absorbed, and only then.
  virtual void latent_input(const std::string& attention_module, const latent_operands& operands) { (void)attention_module, (void)operands; }

  /// Asked after each layer: an error stops the run.
  virtual status ok() { return {}; }
};

}  // namespace qlib::inline v0
