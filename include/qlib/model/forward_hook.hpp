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
  /// changed in place. Latent attention gives its expanded heads, with kv heads = heads and keys [nope | rope]; its compressed cache
  /// is the input of kv_b_proj.
  virtual void attention_input(std::size_t layer, const std::string& attention_module, matrix_view<float> q, matrix_view<float> k,
                               matrix_view<float> v, std::span<const std::size_t> rows_of_sample, std::size_t first_sample) {
    (void)layer, (void)attention_module, (void)q, (void)k, (void)v, (void)rows_of_sample, (void)first_sample;
  }

  /// Asked after each layer: an error stops the run.
  virtual status ok() { return {}; }
};

}  // namespace qlib::inline v0
