#pragma once
#include <qlib/format/weight_folder.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// A matrix of a checkpoint, quantized or not, as an engine sees it.
struct stored_layer {
  std::string name;                  ///< dotted path without ".weight"
  std::string quant_type;            ///< "W8A8_DYNAMIC", "W4A16 g128", "GPTQ W4A16 g128"; "FLOAT"
  std::string dtype;                 ///< of the stored weight: "I8", "BF16"
  std::vector<std::uint64_t> shape;  ///< [out_features, in_features]; float experts that lie in one tensor have three extents
  std::uint64_t weights = 0;         ///< the product of `shape`
  std::uint64_t bytes = 0;           ///< of all tensors of the module, scales and biases too

  bool quantized() const { return quant_type != "FLOAT"; }
};

/// Every matrix, in model order. Best effort: a damaged or unknown checkpoint gives what its names and shapes say.
std::vector<stored_layer> stored_layers(const weight_folder& folder);

/// Layers that differ in the numbers of their names alone: "model.layers.*.mlp.down_proj".
struct layer_group {
  std::string pattern, quant_type, dtype;
  std::vector<std::uint64_t> shape;
  std::size_t count = 0;
  std::uint64_t weights = 0, bytes = 0;
};
std::vector<layer_group> layer_groups(const std::vector<stored_layer>& layers);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/format/stored_layers.ipp>
#endif
