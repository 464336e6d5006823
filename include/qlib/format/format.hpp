/// What every checkpoint format has to say: how a quantized linear is laid out, and which documents describe the whole.
#pragma once
#include <qlib/concepts.hpp>
#include <qlib/model/modules.hpp>
#include <qlib/recipe/recipe.hpp>
#include <qlib/registry.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qlib::inline v0 {

/// Whose arithmetic and rules are followed where ours differ (docs/rounding.md).
enum class compat { none, llmcompressor, msmodelslim };

/// What the bytes of an output tensor are made from.
enum class slot_role {
  copy,                 ///< a source tensor or a float matrix, converted to the slot's dtype
  codes,                ///< the packed weight
  scales,               ///< one a tile
  zero_points,          ///< one a tile, as numbers of the slot's dtype
  packed_zero_points,   ///< compressed-tensors' int32 words along the output channels
  weight_shape,         ///< compressed-tensors' [rows, cols], int64
  zeros,                ///< AscendV1's weight_offset of symmetric weights
  operand_scales,       ///< of a calibrated operand: a linear's input, keys, values, queries
  operand_zero_points,  ///< of the same, as numbers of the slot's dtype
  deq_scales,           ///< AscendV1's static W8A8: input scale times weight scale, f32, or its bits sign-extended to i64
  quant_bias,           ///< AscendV1's static W8A8: what the kernel adds to the sums of products, i32
};

/// One tensor of the output. `name` is a suffix of the module in an encoding, the whole name in a plan.
struct output_tensor {
  std::string name;
  dtype type = dtype::u8;
  std::vector<std::uint64_t> shape;
  slot_role role = slot_role::copy;
};

/// How a format stores a linear layer under a scheme.
struct linear_encoding {
  quant_spec spec;
  registry::packers::any packer{int8_packer{}};
  std::optional<quant_spec> input = {};  ///< of static inputs: they need calibration
  std::string quant_type;                ///< "W8A8_DYNAMIC": what the description and the report call it
  std::vector<output_tensor> tensors;    ///< without the bias
  dtype bias_type = dtype::f32;          ///< dtype the bias is stored in
};

/// A calibrated operand of attention, and how it is stored.
struct attention_encoding {
  /// One of "query", "key", "value".
  std::string operand;
  quant_spec spec;  ///< of [tokens, heads * head_dim]
  std::string quant_type;
  std::vector<output_tensor> tensors;  ///< names are whole
};

/// What a format needs to know of an attention module. Latent attention is described in absorbed form: one head of keys and values, as wide as
/// its compressed vector, and queries of that width.
struct attention_module {
  std::string name;  ///< "model.layers.0.self_attn"
  std::size_t heads = 0, kv_heads = 0, head_dim = 0, value_dim = 0;
  bool latent = false;  ///< multi-head latent attention: there is no k_proj, and keys and values are one cached vector
};

/// Everything that a format's documents are made from.
struct manifest {
  struct linear {
    std::string name;
    std::string loaded;             ///< in transformers, where it is another one
    std::string quant_type;         ///< empty: float
    std::size_t stage = 0;          ///< index into recipe::stages, if quantized
    bool listed_in_ignore = false;  ///< of class Linear or Router, and float
  };
  struct attention {
    std::string name, quant_type;
    std::size_t stage = 0;  ///< index into recipe::attention
  };
  struct tensor {
    std::string name, quant_type;  ///< quant_type as the description has it ("FLOAT", "W8A16", ...)
  };
  std::string config_text;  ///< the source's config.json
  const qlib::recipe* recipe = nullptr;
  std::vector<linear> linears;                                    ///< in model order
  std::vector<attention> attentions;                              ///< quantized ones, in model order
  std::vector<tensor> tensors;                                    ///< in model order
  std::vector<std::pair<std::string, std::string>> tensor_files;  ///< tensor name, file name
  std::uint64_t total_bytes = 0;
  std::size_t group_size = 0;  ///< of the last grouped linear; 0 if none
  std::string rotation_file;   ///< what the residual stream was multiplied by; empty: not stored
  bool untied = false;         ///< the source's head is its embedding, the result's is not
  compat follow = compat::none;
};

/// A text file of the output.
struct document {
  std::string name, text;
};

}  // namespace qlib::inline v0
