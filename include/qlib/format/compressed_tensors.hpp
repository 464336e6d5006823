#pragma once
#include <qlib/format/format.hpp>

namespace qlib::inline v0 {

/// LLM-Compressor's compressed-tensors: `model.safetensors` (or shards with an index) and a `quantization_config` in config.json.
/// Read by vLLM, vLLM-Ascend, vLLM-GCU, SGLang and transformers (docs/formats.md).
struct compressed_tensors_format {
  static constexpr std::string_view name = "compressed_tensors";
  static constexpr std::uint64_t default_part_bytes = 5'000'000'000;
  static constexpr bool stores_norm_bias = false;
  static constexpr bool stores_tied_head = false;
  static constexpr std::string_view rotation_file = "";  ///< has none

  static result<linear_encoding> encode(const matrix_module& m, const scheme& s, dtype run_dtype, compat follow);

  /// Operands of one attention module under a stage. `run`: dtype of the model.
  static result<std::vector<attention_encoding>> encode_attention(const attention_module& m, const attention_stage& s, dtype run, compat follow);

  /// `part` counts from 0.
  static std::string file_name(std::size_t part, std::size_t parts);
  static std::vector<std::pair<std::string, std::string>> metadata() { return {{"format", "pt"}}; }

  /// config.json, and the index when there are several parts.
  static std::vector<document> documents(const manifest& m);

  /// The container that compressed-tensors infers for a scheme: "int-quantized", "pack-quantized", "float-quantized" or
  /// "naive-quantized"; for fewer than 8 bits with integer activations "pack-quantized" where the scheme asks for it.
  static std::string container(const scheme& s);
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/format/compressed_tensors.ipp>
#endif
