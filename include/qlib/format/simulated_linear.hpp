/// What the tensors of a quantized folder mean to the engine that loads it.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/format/activation_arithmetic.hpp>
#include <qlib/format/stored_matrix.hpp>
#include <qlib/format/weight_folder.hpp>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// Which half of AscendV1's W8A8_MIX computes: the static one where tokens are decoded, the dynamic one where prompts are filled in.
enum class inference_phase { decode, prefill };

/// Static W8A8 of AscendV1: y = (sum of xq * wq + quant_bias) * deq_scale, in integers up to the last product.
struct folded_linear {
  const stored_tensor* deq_scale = nullptr;   ///< F32, or I64 with the bits of an f32; [out_features] or [1]
  const stored_tensor* quant_bias = nullptr;  ///< I32 [out_features]
};

/// A linear layer: its weight as numbers, and what happens to its input.
struct simulated_linear {
  stored_matrix weight;
  const stored_tensor* bias = nullptr;
  std::optional<folded_linear> folded = {};  ///< has its own bias and row scales
  activation_arithmetic input = {};
};

/// Scales of queries, keys or values before attention: one, one a head, or one a channel of all heads. Empty: not quantized.
struct cached_scales {
  std::vector<float> scales, zero_points;  ///< zero_points as many, or empty
};
struct attention_arithmetic {
  activation_type type = activation_type::integer;
  int num_bits = 8;
  bool computes = false;  ///< attention computes on the codes (FAQuant): of latent attention they are the absorbed operands'
  cached_scales query, key, value;
};

/// A whole folder.
struct simulated_contents {
  std::map<std::string, simulated_linear> linears;        ///< by module name, without ".weight"; float ones only where their input changes
  std::map<std::string, attention_arithmetic> attention;  ///< by attention module
  std::map<std::string, const stored_tensor*> floats;     ///< every other tensor, by name
  std::map<std::string, const stored_tensor*> norm_bias;  ///< by the norm's module name
};

/// AscendV1 (and its older namesake files): quant_model_description.json names the type of each tensor. All problems are returned together:
/// types that are not simulated, missing tensors, wrong shapes and dtypes.
errors read_simulated_ascend_v1(const weight_folder& folder, inference_phase phase, simulated_contents& out);

/// compressed-tensors: config.json's quantization_config says what each module is. Errors likewise.
errors read_simulated_compressed_tensors(const weight_folder& folder, simulated_contents& out);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/format/simulated_ascend_v1.ipp>
#include <qlib/format/simulated_compressed_tensors.ipp>
#endif
