/// Rotary position embeddings.
#pragma once
#include <qlib/core/view.hpp>

#include <cstddef>
#include <vector>

namespace qlib::inline v0 {

enum class rope_kind { plain, linear, dynamic, ntk_alpha, llama3, yarn, longrope };

/// Which channels form a pair: j and j + dim / 2, or 2 j and 2 j + 1.
enum class rope_style { half, interleaved };

/// The numbers of config.json's rope_scaling or rope_parameters.
struct rope_description {
  rope_kind kind = rope_kind::plain;
  std::size_t dim = 0;  ///< channels of a head that are rotated
  double theta = 10000;
  double factor = 1, alpha = 1;
  double low_freq_factor = 1, high_freq_factor = 4;  ///< llama3
  double beta_fast = 32, beta_slow = 1;              ///< yarn
  bool truncate = true;                              ///< yarn
  double original_length = 0, longest = 0;           ///< tokens: original_max_position_embeddings, max_position_embeddings
  double attention_factor = 1;                       ///< multiplies cos and sin
  double long_attention_factor = 1;                  ///< longrope: instead of it, where long_factor divides the frequencies
  std::vector<double> short_factor = {}, long_factor = {};
};

/// Cosines and sines of every position: row p, column j is pair j at position p.
struct rope_table {
  std::size_t pairs = 0;
  std::vector<float> cos, sin;
};

/// One frequency a pair. `tokens` is the length of the sequence: dynamic and longrope depend on it.
std::vector<float> rope_frequencies(const rope_description& rope, std::size_t tokens);

/// Two sequences of these lengths have different frequencies.
bool rope_depends_on_length(const rope_description& rope, std::size_t a, std::size_t b);

/// Positions 0 … tokens - 1.
rope_table make_rope_table(const rope_description& rope, std::size_t tokens);

/// Rotates the first 2 * pairs channels of every head of x, a row a position from `first_position` on.
/// x: [tokens, heads * head_dim], or a part of its columns; `head_dim` is the distance of heads.
void apply_rope(const rope_table& table, rope_style style, matrix_view<float> x, std::size_t head_dim, std::size_t first_position = 0);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/model/rope.ipp>
#endif
