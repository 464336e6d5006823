/// What a description expects of a checkpoint.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/model/description.hpp>
#include <qlib/model/parameters.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// The names of a decoder that is part of a larger model: "model.language_model.layers.0." instead of "model.layers.0.", and the
/// other prefixes in use; whichever the source has.
void adopt_names(const parameter_source& source, model_description& model);

/// A tensor that a decoder reads.
struct required_tensor {
  std::string name;                       ///< with ".weight"
  std::vector<std::uint64_t> shape = {};  ///< 0 is an extent that the file chooses
  bool linear = false;                    ///< may have a bias
};

/// Everything that layer `layer` reads; `only_expert` restricts routed experts to one.
std::vector<required_tensor> required_tensors(const model_description& model, std::size_t layer, const parameter_source& source);

/// All that is missing, has a wrong shape or is unknown.
errors check_parameters(const model_description& model, const parameter_source& source);

/// The weights that the decoder cannot be without and that are not there; nothing of a source whose layers have other names than the family's.
/// Biases, sinks and other constants are left to `check_parameters`, and so is the head: models that make no text have none.
std::vector<std::string> absent_weights(const model_description& model, const parameter_source& source);

struct layer_sizes {
  std::uint64_t dense_weights = 0;       ///< elements of the linears that every token visits
  std::uint64_t expert_weights = 0;      ///< elements of the top_k experts that a token visits
  std::uint64_t resident_bytes = 0;      ///< of the linears that are held while chunks run
  std::uint64_t expert_bytes = 0;        ///< of one routed expert
  std::uint64_t activation_columns = 0;  ///< f32 values a row of a chunk
};
layer_sizes sizes_of_layer(const model_description& model, std::size_t layer, const parameter_source& source);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/model/parameter_check.ipp>
#endif
