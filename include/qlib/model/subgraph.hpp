/// Where a layer may be rescaled without changing what it computes: sources whose channels are divided, and all that read them.
#pragma once
#include <qlib/model/description.hpp>
#include <qlib/model/parameters.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

enum class subgraph_kind {
  norm_linear,  ///< a norm's gain, and every linear that reads its output, float ones (routers, indexers, gates) included
  ov,           ///< the value projection, and the attention output projection
  up_down,      ///< the up projection, and the down projection behind the product with the gate
  query_key,    ///< keys, which are divided, and queries, which are multiplied: rows of both projections, or gains of both norms
};

constexpr std::string_view name_of(subgraph_kind k) {
  switch (k) {
    case subgraph_kind::norm_linear:
      return "norm-linear";
    case subgraph_kind::ov:
      return "ov";
    case subgraph_kind::up_down:
      return "up-down";
    default:
      return "query-key";
  }
}

/// Rows of the source that hold channels: `count` runs of `rows` rows, the first at `first`, `stride` apart.
struct row_runs {
  std::size_t first = 0, rows = 0, count = 1, stride = 0;

  std::size_t channels() const { return rows * count; }
  /// The source row of channel c.
  std::size_t row(std::size_t c) const { return first + c / rows * stride + c % rows; }
};

struct subgraph {
  subgraph_kind kind = subgraph_kind::norm_linear;
  std::string source;                ///< module without ".weight": a norm, or a linear whose rows are divided; its bias with it
  std::vector<std::string> targets;  ///< linears whose columns are multiplied
  row_runs channels;                 ///< which rows of the source; of a norm, all its gains
  bool one_plus = false;             ///< the stored gain is g - 1
  bool latent = false;               ///< source or target is kv_b_proj of latent attention, whose operands are in absorbed form
  /// Grouped-query attention: consecutive blocks of `repeat_width` target columns are read from one channel block `repeats` times.
  /// Target column c belongs to channel c / (repeat_width * repeats) * repeat_width + c % repeat_width.
  std::size_t repeats = 1, repeat_width = 1;

  // Of query_key: the target's rows instead of its columns, and channels of a head that RoPE mixes and that need one scale.
  row_runs target_rows = {};
  bool norms = false;  ///< source and target are norms; one gain a channel of a head then serves all heads, unless channels are all of them
  std::size_t heads = 0, head_dim = 0, rotary = 0;  ///< key heads; the first `rotary` channels of each are mixed in pairs
  rope_style style = rope_style::half;

  /// The channel of a key head that is rotated together with channel c of it; c itself where there is none.
  std::size_t partner_of(std::size_t c) const {
    if (c >= rotary) return c;
    if (style == rope_style::interleaved) return c ^ 1;
    return c < rotary / 2 ? c + rotary / 2 : c - rotary / 2;
  }

  std::size_t channel_of_column(std::size_t c) const { return c / (repeat_width * repeats) * repeat_width + c % repeat_width; }
};

/// All of a layer, in the order of its forward pass. `source` tells the widths of feed-forward blocks.
///
/// A norm before experts is one sub-graph over every expert: legal, but one scale for all. An up projection that is clamped or
/// shifted before the product (gpt-oss) has no up_down. Latent attention, and norms without gains behind RoPE, have no query_key. A norm behind a
/// branch (sandwich norms) feeds the residual stream: none.
std::vector<subgraph> subgraphs(const model_description& model, std::size_t layer, const parameter_source& source);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/model/subgraph.ipp>
#endif
