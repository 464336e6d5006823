/// Quantized linears that an engine holds as one matrix, and that therefore keep one type.
#pragma once
#include <qlib/model/description.hpp>
#include <qlib/pipeline/plan.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// q, k and v; gate and up; all experts of a layer; the compressed projections of latent attention; any other linear alone.
struct fused_layers {
  std::string name;                   ///< "model.layers.3.self_attn.{q_proj,k_proj,v_proj}", "model.layers.3.mlp.experts.*"
  std::vector<std::string> patterns;  ///< what `--disable_names` takes: exact names, or one glob for experts
  std::size_t layer = 0;              ///< of the decoder; the number of layers for the head
  std::vector<std::size_t> items;     ///< indices into quantization_plan::items, in model order
  std::string quant_type;             ///< of its items; different ones joined by '/'
  std::uint64_t float_bytes = 0;      ///< of the weights as the float result stores them
  std::uint64_t quantized_bytes = 0;  ///< of all tensors that the plan makes of them

  /// What the result grows by when these layers stay float.
  std::uint64_t added_bytes() const { return float_bytes > quantized_bytes ? float_bytes - quantized_bytes : 0; }
};

/// Every quantized linear that `model` computes, in model order, layer by layer. `model` has the names of the checkpoint (decoder::description()).
/// Names of those it does not compute (other towers, layers behind the last) are appended to `outside`.
std::vector<fused_layers> fused_layers_of(const quantization_plan& plan, const model_description& model, std::vector<std::string>& outside);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/fused_layers.ipp>
#endif
