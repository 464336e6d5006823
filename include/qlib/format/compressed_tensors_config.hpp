/// The `quantization_config` of compressed-tensors, read for checking and describing: what it asks for, module by module.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/model/loaded_names.hpp>
#include <qlib/recipe/match.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// QuantizationArgs as a file states them; absent keys have compressed-tensors' defaults.
struct stored_arguments {
  std::uint64_t num_bits = 8;
  bool floating = false, symmetric = true;
  std::string strategy;          ///< "tensor", "channel", "group", "block", "token", "tensor_group", "attn_head"; inferred if absent
  std::uint64_t group_size = 0;  ///< 0: none
  std::array<std::uint64_t, 2> block{};
  bool dynamic = false, local = false;  ///< local: dynamic is "local"
  std::string actorder, scale_dtype;
};

struct stored_scheme {
  std::string name, format;  ///< key in config_groups; "int-quantized" and so on, the model's when the group has none
  std::vector<std::string> targets;
  std::optional<stored_arguments> weights, input, output;
  bool unknown = false;  ///< the name of a preset that this version does not know: nothing is said about its modules
};

struct stored_config {
  std::string format, status;
  std::vector<stored_scheme> groups;
  std::vector<std::string> ignore;
  std::optional<stored_arguments> kv_cache;
  std::optional<std::uint64_t> group_size;  ///< a top-level key that vLLM-Ascend reads and LLM-Compressor does not write

  /// The scheme of a module: the group whose target matches best (match.hpp), unless it is ignored. Null: stays float.
  const stored_scheme* scheme_of(std::string_view module, std::string_view class_name = "Linear") const;
  bool ignored(std::string_view module) const;

  loaded_names names;  ///< of the checkpoint that it is of: patterns may speak of modules as transformers calls them
  pattern_set ignore_patterns;
  std::vector<pattern_set> group_patterns;
  std::vector<std::string> ignore_tails;  ///< plain names without leading "model." and "language_model.", sorted
};

/// One thing wrong with the document: the key, dotted, and why.
struct config_fault {
  std::string rule, key, message;
};

/// Reads `text`, a JSON object. Faults: unknown keys (compressed-tensors forbids them in schemes and arguments), wrong types and
/// values, combinations that its validators refuse, patterns that do not compile. What could be read is in `out` either way; `out.names` stays.
std::vector<config_fault> read_compressed_tensors_config(const std::string& text, stored_config& out);

/// "W8A8_DYNAMIC", "W4A16 g128", "FP8_DYNAMIC", "NVFP4A16": the words of this program for a scheme.
std::string type_text(const stored_scheme& s);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/format/compressed_tensors_config.ipp>
#endif
