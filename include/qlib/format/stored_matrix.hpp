/// A quantized weight of any layout as the tensors that hold it, and its way back to f32.
#pragma once
#include <qlib/core/view.hpp>
#include <qlib/format/weight_folder.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace qlib::inline v0 {

/// How the codes of a matrix [rows, cols] lie in their tensor.
enum class code_layout {
  floating,        ///< F32, BF16 or F16, no codes
  bytes,           ///< I8 [rows, cols]
  e4m3,            ///< F8_E4M3 [rows, cols]
  nibble_rows,     ///< two rows a byte [rows / 2, cols], the even one low
  nibble_columns,  ///< two columns a byte [rows, cols / 2], the even one low
  words,           ///< bit stream in I32 words, code + 2^(b-1): compressed-tensors' pack-quantized
  e2m1,            ///< two columns a byte, sign and index into 0, .5, 1, 1.5, 2, 3, 4, 6
};

/// w = ((code - zero_point) * second_scale) * scale / global_scale. Null tensors are absent.
struct stored_matrix {
  std::size_t rows = 0, cols = 0;
  code_layout layout = code_layout::bytes;
  int num_bits = 8;
  const stored_tensor* codes = nullptr;
  const stored_tensor* scale = nullptr;       ///< of tiles [tile_rows, tile_cols]
  const stored_tensor* zero_point = nullptr;  ///< of the same tiles
  bool packed_zero_points = false;            ///< pack-quantized: fields of I32 words along the rows
  std::size_t tile_rows = 1, tile_cols = 1;
  const stored_tensor* second_scale = nullptr;  ///< of [1, second_cols]
  std::size_t second_cols = 1;
  const stored_tensor* group_index = nullptr;  ///< I32 [cols]: which tile column a column belongs to
  bool powers_of_two = false;                  ///< scales are bytes e that mean 2^(e - 127)
  float global_scale = 1;
  std::vector<float> row_scales = {};  ///< used when not empty, instead of `scale`
};

/// Element `at` of a tensor of any numeric dtype, as f32.
float stored_value(const weight_folder& folder, const stored_tensor& t, std::uint64_t at);

/// All elements.
std::vector<float> stored_values(const weight_folder& folder, const stored_tensor& t);

/// Rows [first_row, first_row + out.rows()) of the matrix. Its tensors have the dtypes and shapes that it says: whoever makes one checks.
void dequantize(const weight_folder& folder, const stored_matrix& m, std::size_t first_row, matrix_view<float> out, std::size_t threads);

/// The sum of the codes of each row; `layout` is bytes. Exact.
std::vector<std::int64_t> row_sums(const weight_folder& folder, const stored_matrix& m);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/format/stored_matrix.ipp>
#endif
