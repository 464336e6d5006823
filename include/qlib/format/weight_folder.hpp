#pragma once
#include <qlib/core/status.hpp>
#include <qlib/io/checkpoint.hpp>
#include <qlib/io/safetensors.hpp>
#include <qlib/model/loaded_names.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// A directory of weights as it lies there: every safetensors file, whatever its name, and however damaged its neighbours are.
///
/// `checkpoint` is the strict reader of float models that are about to be quantized; this one reads what any tool wrote, to talk
/// about it.
class weight_folder {
 public:
  weight_folder() = default;

  /// Lists the directory and maps its files. Reads headers only. Errors: the directory cannot be listed, or holds neither a
  /// safetensors file nor config.json. Files that do not open are `damage()`, not errors.
  static errors open(const std::string& directory, weight_folder& out);

  const std::string& directory() const { return directory_; }

  /// Names of the regular files, sorted.
  std::span<const std::string> files() const { return files_; }
  bool has_file(std::string_view name) const;

  /// The safetensors files that opened, in ascending order of their names; `file_of` gives the name without the directory.
  std::span<const safetensors_file> weights() const { return weights_; }
  const std::string& file_of(const stored_tensor& t) const { return names_[t.shard]; }
  std::span<const std::string> weight_names() const { return names_; }

  /// What is wrong with files that did not open.
  const errors& damage() const { return damage_; }

  /// All tensors, sorted by name; a name stored in two files occurs twice, in the order of the files.
  std::span<const stored_tensor> tensors() const { return tensors_; }

  /// Null when no file has such a tensor. O(log n).
  const stored_tensor* find(std::string_view name) const;

  /// The tensors whose names start with `prefix`.
  std::span<const stored_tensor> starting_with(std::string_view prefix) const;

  std::span<const std::byte> bytes(const stored_tensor& t) const { return weights_[t.shard].bytes(t.info); }
  void release(const stored_tensor& t) const { weights_[t.shard].release(t.info, 0, t.info.end - t.info.begin); }

  /// The content of config.json, or empty: absent or unreadable.
  const std::string& config_text() const { return config_text_; }

  /// The name of quant_model_description*.json, or empty. The exact name `quant_model_description.json` comes first.
  const std::string& description_file() const { return description_file_; }

 private:
  std::string directory_, config_text_, description_file_;
  std::vector<std::string> files_, names_;
  std::vector<safetensors_file> weights_;
  std::vector<stored_tensor> tensors_;
  errors damage_;
};

/// How a directory stores its weights: "float", "ascend_v1" ("mindie" when the description carries its type in its name),
/// or the `quant_method` of its quantization_config: "compressed_tensors", "gptq", "awq", "fp8", "w8a8", ...
std::string format_of(const weight_folder& folder);

/// What transformers calls the modules of this model.
loaded_names loaded_names_of(const weight_folder& folder);

/// Where a quantization_config was found, as JSON text: in config.json, its text model, quantize_config.json or quant_config.json.
struct found_config {
  std::string file, text;
};
found_config quantization_config_of(const weight_folder& folder);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/format/weight_folder.ipp>
#endif
