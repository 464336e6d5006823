/// Everything that writes to or reads from the residual stream of a model: where its basis may be changed.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/model/description.hpp>
#include <qlib/model/parameters.hpp>
#include <qlib/model/subgraph.hpp>

#include <cstddef>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// Names of modules, without ".weight".
struct residual_stream {
  struct norm {
    std::string name;
    bool one_plus = false;  ///< the stored gain is g - 1
    std::vector<std::string> readers;
  };
  /// Heads whose values may be rotated: the channels are rows of `graph.source` and columns of its target.
  struct values {
    subgraph graph;
    std::size_t head_dim = 0;
  };

  std::size_t width = 0;
  std::string embedding;
  std::vector<norm> norms;           ///< in the order of the forward pass; the last is the final norm, read by the head
  std::vector<std::string> writers;  ///< linears whose outputs are added
  std::vector<values> heads;         ///< none for layers whose attention output is gated channel by channel
};

/// An error where the basis cannot be changed, with the reason: a norm that subtracts the mean, or stands behind a branch, or something beside the
/// decoder reads or writes hidden states (vision towers, multi-token prediction). A tied head is a reader of its own: behind a change of basis it is
/// no longer the embedding. Where engines have no other head (always_tied) it is refused.
result<residual_stream> residual_stream_of(const model_description& model, const parameter_source& source);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/model/residual_stream.ipp>
#endif
