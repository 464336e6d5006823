/// config.json as the numbers and names that a decoder needs: one struct for every family, no class for any.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/model/activation_function.hpp>
#include <qlib/model/norm.hpp>
#include <qlib/model/rope.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// How one stored matrix holds query, key and value rows.
enum class fused_rows {
  none,          ///< three matrices
  concatenated,  ///< all query heads, all key heads, all value heads
  grouped,       ///< for each key head: its query heads, the key, the value
};

enum class query_key_norm {
  none,
  per_head,  ///< each head, weight [head_dim]
  own_head,  ///< each head, with gains of its own: weight [heads, head_dim]
  whole,     ///< all heads together, before RoPE, weight [heads * head_dim]
  l2,        ///< each head, without weight
};

/// Multi-head latent attention: queries and keys are [nope | rope] channels, keys and values come from a compressed vector.
struct latent_attention {
  std::size_t query_rank = 0;  ///< 0: q_proj instead of q_a_proj and q_b_proj
  std::size_t kv_rank = 0, nope_dim = 0;
  float eps = 1e-6f;     ///< of q_a_layernorm and kv_a_layernorm, whatever the config says
  bool indexer = false;  ///< a sparse indexer chooses keys: all of them up to longest_sample
};

struct attention_description {
  std::size_t heads = 0, kv_heads = 0;
  std::size_t head_dim = 0;   ///< of queries and keys
  std::size_t value_dim = 0;  ///< of values
  float scale = 0;            ///< of the scores
  std::optional<latent_attention> latent = {};
  std::string query, key, value, output, fused;  ///< below the layer's prefix, without ".weight"; `fused` is empty for three matrices
  fused_rows rows = fused_rows::none;
  query_key_norm norm = query_key_norm::none;
  bool norm_after_rope = false;
  std::string query_norm, key_norm;
  rope_style style = rope_style::half;
  std::vector<rope_description> ropes;  ///< a layer names the one it uses
  float softcap = 0;                    ///< c tanh(score / c) when not 0
  std::string sinks;                    ///< a tensor [heads]: one more score that takes probability and gives no value
  std::string gate;                     ///< a linear of the input whose sigmoid scales the outputs of heads; empty for none
  bool output_gate = false;             ///< the query matrix also gives, after each head's query, a gate for its output
  float clip = 0;                       ///< queries, keys and values are limited to ± this before heads are formed; 0: they are not
  /// q * (log1p(floor((position + floor_offset) / floor_scale)) * attn_scale + 1), in layers without RoPE, or in all.
  float floor_scale = 0, attn_scale = 0, floor_offset = 1;
  bool scale_all_layers = false;
};

/// Gated delta net: linear attention with a recurrent state [key_dim, value_dim] a value head.
struct delta_net_description {
  bool split = false;  ///< in_proj_qkv, _z, _b, _a with flat rows; else in_proj_qkvz and in_proj_ba with rows grouped by key head
  std::size_t key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0, kernel = 0;
  activation_function activation = activation_function::silu;  ///< behind the convolution: hidden_act
};

struct feed_forward_description {
  /// `fused` holds gate rows, then up rows; empty for two matrices. No gate either: down(f(up(x))). Widths are those of the file.
  std::string gate, up, down, fused;
  activation_function activation = activation_function::silu;
  std::string activation_constants = {};  ///< prefix of the tensors of xielu; empty for others

  bool gated() const { return !gate.empty() || !fused.empty(); }
  /// The linears that read the block's input.
  std::vector<std::string> inputs() const {
    if (!fused.empty()) return {fused};
    return gate.empty() ? std::vector<std::string>{up} : std::vector<std::string>{gate, up};
  }
};

enum class router_score {
  softmax,
  sigmoid,
  sqrt_softplus,
  top_k_softmax,  ///< softmax over the chosen logits
  top_k_sigmoid,  ///< sigmoid of the chosen logits
  sparse_mixer,   ///< two rounds, each a softmax over the logits near its largest one, without the first choice in the second
};

enum class group_score { largest, two_largest };

struct router_description {
  std::size_t experts = 0, top_k = 0;
  router_score score = router_score::softmax;
  std::size_t groups = 1, top_groups = 1;  ///< only experts of the best groups may be chosen
  group_score by = group_score::two_largest;
  bool normalize = true;  ///< chosen weights are divided by their sum
  float scale = 1;        ///< and multiplied by this
  float jitter = 0;       ///< sparse_mixer: logits further than 2 jitter below the largest, relative to the larger of it and |logit|, are left out
};

struct experts_description {
  router_description routing;
  std::string router, correction_bias;         ///< the bias is added to scores for choosing, not to weights; empty for none
  std::string expert;                          ///< prefix of one expert, with {} for its number
  feed_forward_description block;              ///< below it
  std::string shared, shared_gate;             ///< prefix of the shared expert, and the linear whose sigmoid scales it; empty for none
  feed_forward_description shared_block = {};  ///< below `shared`
  bool scale_input = false;                    ///< the weight multiplies the expert's input instead of its output
};

struct layer_description {
  std::string prefix;  ///< "model.layers.3."
  bool delta_net = false, experts = false;
  std::optional<std::size_t> rope = std::size_t{0};  ///< index into attention.ropes; none: positions are not encoded
  std::size_t window = 0;                            ///< keys in (position - window, position] are visible; 0: all
  std::size_t chunk = 0;                             ///< only keys of the query's chunk are visible; 0: all
};

/// Names are tensors' without ".weight"; an empty one is absent from the family.
struct model_description {
  std::string model_type;
  std::string embedding, final_norm, head;
  bool tied = false;             ///< the head is the embedding
  bool part_of_a_model = false;  ///< config.json has a text_config: other towers stand beside the decoder
  std::size_t hidden_size = 0, vocabulary = 0;
  float eps = 1e-6f;
  norm_gain gain = norm_gain::weight;
  norm_kind norm = norm_kind::rms;
  bool norm_biases = false;  ///< every norm has one
  bool norm_weights = true;  ///< false: norms multiply by nothing and have no tensors; their names are steps only
  bool parallel = false;     ///< x + attention(norm x) + feed_forward(norm' x); without a feed_forward_norm both read the input_norm
  std::string input_norm, attention_output_norm, feed_forward_norm, feed_forward_output_norm;
  std::string positions;           ///< an embedding of positions, added to that of tokens; empty for none
  std::size_t first_position = 0;  ///< its row of position 0
  double embedding_scale = 1;      ///< in a bf16 forward rounded to the embedding's dtype
  double residual_scale = 1;       ///< of what a block adds
  float logit_scale = 1;
  float final_softcap = 0;
  std::size_t longest_sample = 0;  ///< tokens beyond which this decoder is not the model; 0: none
  std::string longest_sample_key;  ///< the key of config.json that says so
  attention_description attention;
  delta_net_description delta_net;
  feed_forward_description feed_forward;
  experts_description experts;
  std::vector<layer_description> layers;

  /// Tokens of the longest sample that it is made for: the smaller of max_position_embeddings and longest_sample; 0: config.json does not say, or
  /// the frequencies stretch with the sample.
  std::size_t max_tokens() const {
    const bool fixed = !attention.ropes.empty() && attention.ropes.front().kind != rope_kind::dynamic;
    const auto positions = fixed ? static_cast<std::size_t>(attention.ropes.front().longest) : std::size_t{0};
    return positions == 0 || (longest_sample != 0 && longest_sample < positions) ? longest_sample : positions;
  }
};

namespace detail {
inline constexpr std::size_t most_layers = 10'000;  ///< of a config.json that is not damaged
}

/// Families that read_model_description knows, sorted.
std::vector<std::string_view> described_model_types();

/// Whether the head is the embedding where config.json does not say.
bool tied_by_default(std::string_view model_type);

/// Whether engines have no head for this family and multiply by the embedding, whatever config.json and the tensors say (vLLM's Gemma, Cohere).
bool always_tied(std::string_view model_type);

/// Reads a config.json. Absent keys have the value that transformers gives them. All problems are returned together, with `where` as
/// their file: an unknown model_type or rope_type, a missing or senseless number.
errors read_model_description(std::string_view config_text, const std::string& where, model_description& out);

/// "experts.{}." with 3: "experts.3.".
std::string numbered(std::string_view pattern, std::size_t number);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/model/description.ipp>
#endif
