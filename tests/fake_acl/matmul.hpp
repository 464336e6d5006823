#pragma once
// Matrices as the cube unit sees them.
#include <algorithm>

#include "op.hpp"

namespace fake_acl {

/// Logical size of a matrix operand's last two dims; an int32 that packs int4 counts eight a word.
struct matrix_size {
  int64_t rows = 0, columns = 0;
};
matrix_size size_of(const tensor& t, bool packed);

/// Whether storage dims are those of FRACTAL_NZ for this view: [ceil(columns / c0), ceil(rows / 16), 16, c0] with c0 = 32 bytes.
bool is_nz_storage(const tensor& t);

/// Row-major values of a batch of matrices; nibbles unpacked, FRACTAL_NZ put in order.
std::vector<float> load_matrix(const view& v, bool packed);

/// [rows, columns] -> [columns, rows], for each matrix of a batch.
std::vector<float> transposed(const std::vector<float>& m, size_t rows, size_t columns);

/// Sum of a[i] * b[i] over [begin, end) in fp32, in eight lanes.
float dot(const float* a, const float* b, size_t begin, size_t end);

}  // namespace fake_acl
