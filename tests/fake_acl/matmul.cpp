#include "matmul.hpp"

namespace fake_acl {
namespace {

int64_t c0_of(int type) { return 32 * 8 / bits_of(type); }
int64_t tiles(int64_t n, int64_t by) { return (n + by - 1) / by; }

}  // namespace

matrix_size size_of(const tensor& t, bool packed) { return {t.dims[t.rank() - 2], t.dims[t.rank() - 1] * (packed ? 8 : 1)}; }

bool is_nz_storage(const tensor& t) {
  if (t.rank() != 2) return false;
  const int64_t c0 = c0_of(t.type);
  return t.storage == std::vector<int64_t>{tiles(t.dims[1], c0), tiles(t.dims[0], 16), 16, c0};
}

std::vector<float> load_matrix(const view& v, bool packed) {
  if (v.format == format::fractal_nz) {
    const int64_t c0 = c0_of(v.type);
    view blocks = v;
    blocks.dims = v.storage;
    blocks.strides = {v.storage[1] * v.storage[2] * v.storage[3], v.storage[2] * v.storage[3], v.storage[3], 1};
    blocks.offset = 0;
    blocks.format = format::nd;
    const auto stored = load_floats(blocks);
    std::vector<float> out(static_cast<size_t>(v.count()));
    for (int64_t r = 0; r < v.dims[0]; ++r) {
      for (int64_t c = 0; c < v.dims[1]; ++c) {
        const int64_t at = ((c / c0 * v.storage[1] + r / 16) * 16 + r % 16) * c0 + c % c0;
        out[static_cast<size_t>(r * v.dims[1] + c)] = stored[static_cast<size_t>(at)];
      }
    }
    return out;
  }
  if (!packed) return load_floats(v);
  const auto words = load_numbers(v);
  std::vector<float> out;
  out.reserve(words.size() * 8);
  for (const double word : words) {
    const auto bits = static_cast<uint32_t>(static_cast<int32_t>(word));
    for (unsigned j = 0; j < 8; ++j) out.push_back(static_cast<float>(static_cast<int>((bits >> (4 * j) & 15u) ^ 8u) - 8));
  }
  return out;
}

std::vector<float> transposed(const std::vector<float>& m, size_t rows, size_t columns) {
  std::vector<float> out(m.size());
  const size_t size = rows * columns;
  for (size_t start = 0; size > 0 && start < m.size(); start += size) {
    for (size_t r = 0; r < rows; ++r) {
      for (size_t c = 0; c < columns; ++c) out[start + c * rows + r] = m[start + r * columns + c];
    }
  }
  return out;
}

float dot(const float* a, const float* b, size_t begin, size_t end) {
  constexpr size_t lanes = 8;
  float sums[lanes] = {};
  size_t i = begin;
  for (; i + lanes <= end; i += lanes) {
    for (size_t l = 0; l < lanes; ++l) sums[l] += a[i + l] * b[i + l];
  }
  for (; i < end; ++i) sums[0] += a[i] * b[i];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace fake_acl
