#pragma once
#include <qlib/core/status.hpp>
#include <qlib/io/safetensors.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// A tensor and the shard that holds it.
struct stored_tensor {
  tensor_info info;
  std::size_t shard = 0;  ///< index into `checkpoint::shards()`
};

/// A model directory as Hugging Face lays it out: config.json, one or many safetensors files, and files that are no weights.
class checkpoint {
 public:
  checkpoint() = default;

  /// Maps the weights and checks them against their index. Reads headers only.
  ///
  /// Returns all errors of the directory at once; `out` changes only when there is none. `model.safetensors` is taken when it
  /// exists, else the shards of `model.safetensors.index.json`; other safetensors files and folders are ignored.
  static errors open(const std::string& directory, checkpoint& out);

  const std::string& directory() const { return directory_; }

  /// The shards in ascending order of their file names.
  std::span<const safetensors_file> shards() const { return shards_; }

  /// All tensors in model file order: by shard, then by offset.
  std::span<const stored_tensor> tensors() const { return tensors_; }

  /// Null when the model has no such tensor. O(log n).
  const stored_tensor* find(std::string_view name) const;

  /// The bytes of a tensor, row-major, not aligned: load elements with memcpy.
  std::span<const std::byte> bytes(const stored_tensor& tensor) const { return shards_[tensor.shard].bytes(tensor.info); }

  /// Gives back the resident pages of bytes [offset, offset + length) of a tensor.
  void release(const stored_tensor& tensor, std::uint64_t offset, std::uint64_t length) const {
    shards_[tensor.shard].release(tensor.info, offset, length);
  }

  /// Asks for bytes [offset, offset + length) of a tensor to be read ahead.
  void will_need(const stored_tensor& tensor, std::uint64_t offset, std::uint64_t length) const {
    shards_[tensor.shard].will_need(tensor.info, offset, length);
  }

  /// Bytes of all tensors.
  std::uint64_t total_bytes() const;

  /// The content of config.json, a JSON object.
  const std::string& config_text() const { return config_text_; }

  /// Names of the files to copy to an output: tokenizer, generation config, Python code, templates, also those of the folder
  /// `additional_chat_templates`. Without weights of any framework, their indices, config.json (it is rewritten) and hidden files. Links to nothing
  /// are among them: who copies must look. Sorted.
  std::span<const std::string> other_files() const { return other_files_; }

 private:
  std::string directory_, config_text_;
  std::vector<safetensors_file> shards_;
  std::vector<stored_tensor> tensors_;
  std::vector<std::size_t> by_name_;  // indices into tensors_
  std::vector<std::string> other_files_;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/io/checkpoint.ipp>
#endif
