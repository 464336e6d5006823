#pragma once
#include <qlib/format/format.hpp>

namespace qlib::inline v0 {

/// msModelSlim's AscendV1: `quant_model_weights-0000i-of-0000N.safetensors`, an index, and `quant_model_description.json` with the
/// type of every tensor. Read by vLLM-Ascend and MindIE (docs/formats.md).
struct ascend_v1_format {
  static constexpr std::string_view name = "ascend_v1";
  static constexpr std::uint64_t default_part_bytes = std::uint64_t{4} << 30;
  static constexpr bool stores_norm_bias = true;
  static constexpr bool stores_tied_head = true;  ///< the description must name lm_head.weight, so tied models store it too
  /// One tensor, `global_rotation`. Not beside the weights, where engines would load it with them.
  static constexpr std::string_view rotation_file = "optional/quarot.safetensors";

  static result<linear_encoding> encode(const matrix_module& m, const scheme& s, dtype run_dtype, compat follow);

  /// Operands of one attention module under a stage. `run`: dtype of the model.
  static result<std::vector<attention_encoding>> encode_attention(const attention_module& m, const attention_stage& s, dtype run, compat follow);

  /// `part` counts from 0.
  static std::string file_name(std::size_t part, std::size_t parts);
  static std::vector<std::pair<std::string, std::string>> metadata() { return {}; }

  /// config.json, the index and the description.
  static std::vector<document> documents(const manifest& m);
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/format/ascend_v1.ipp>
#endif
