/// What a checkpoint is made of, seen as modules: which tensors are weights of linear layers, however the file stores them.
#pragma once
#include <qlib/core/dtype.hpp>
#include <qlib/core/status.hpp>
#include <qlib/io/checkpoint.hpp>
#include <qlib/model/module_class.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace qlib::inline v0 {

enum class matrix_storage {
  plain,      ///< f32, bf16 or f16 elements
  block_fp8,  ///< e4m3 codes and a factor for each block: DeepSeek-V3's `weight_scale_inv`
  mxfp4,      ///< e2m1 codes, two a byte, and an exponent for each 32: gpt-oss' `_blocks` and `_scales`
};

/// A matrix inside a stored tensor: element (r, c) is at `offset + r * row_stride + c * col_stride`, counted in elements.
///
/// Plain weights are {0, in_features, 1}; one expert of a stacked [experts, 2 * intermediate, hidden] tensor, a transposed stack and
/// interleaved gate/up rows are the same thing with other numbers.
struct matrix_source {
  std::size_t tensor = 0;  ///< index into checkpoint::tensors()
  std::uint64_t offset = 0, row_stride = 0, col_stride = 1;
  matrix_storage storage = matrix_storage::plain;
  std::optional<std::size_t> scale = {};       ///< the tensor of its scales, unless it is plain
  std::size_t block_rows = 0, block_cols = 0;  ///< of block_fp8
};

/// A module that holds a matrix, or one that a stacked tensor holds many of.
struct matrix_module {
  std::string name;  ///< dotted path without ".weight"
  module_class kind = module_class::other;
  std::size_t rows = 0, cols = 0;  ///< out_features, in_features
  dtype type = dtype::f32;         ///< bf16, f16 or f32: what the weight is quantized from (block-fp8 and MXFP4 count as bf16)
  matrix_source weight = {};
  std::optional<matrix_source> bias = {};  ///< rows x 1
  bool stacked = false;                    ///< one of many in its tensor: `name` is not in the file
  std::string loaded = {};                 ///< its name in transformers (loaded_names.hpp); empty: the same
  bool transposed = false;                 ///< stored [in_features, out_features], as transformers' Conv1D: `rows` and `cols` are the stored extents
};

/// A tensor that no matrix module owns: norms, buffers, convolutions. Copied as it is.
struct model_layout {
  std::string model_type;
  bool known_family = false;
  bool tied_embeddings = false;
  dtype run_dtype = dtype::f32;         ///< config.json's torch_dtype or dtype; else of the weights
  std::vector<matrix_module> matrices;  ///< in model order
  std::vector<std::size_t> others;      ///< tensor indices, in model order
  std::vector<std::size_t> unread;      ///< of `others`: weights of linear layers in a dtype that is not read, e.g. int8
};

/// Reads config.json and the tensor names of `source`. Finds every matrix, unpacks stacked experts, pairs block-fp8 and
/// MXFP4 weights with their scales. All problems are returned together: no model_type, a source that is quantized in another way, missing scales.
errors read_model_layout(const checkpoint& source, model_layout& out);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/model/modules.ipp>
#endif
