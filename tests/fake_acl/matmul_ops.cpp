// QuantMatmul, and the 64-bit scales that it wants.
#include <cmath>

#include "api.hpp"
#include "half.hpp"
#include "matmul.hpp"

namespace fake_acl {
namespace {

constexpr int64_t longest_dim = 65535;

struct quant_matmul {
  const void *x1, *x2, *scale1, *scale2, *y_offset, *bias;
  bool transpose1, transpose2;
  const void* out;
};

bool is_wide(int type) { return type == dtype::u64 || type == dtype::i64; }

/// The rows of the dtype table of A2 and A3: which scales and bias give which output.
bool is_in_table(bool four_bits, int s1, int s2, int bias, int out) {
  const bool no_bias = bias == -1;
  const bool whole_bias = no_bias || bias == dtype::i32;
  if (is_wide(s2)) return s1 == -1 && whole_bias && (out == dtype::f16 || (out == dtype::i8 && !four_bits));
  if (s2 != dtype::f32 && s2 != dtype::bf16) return false;
  if (s1 != -1 && s1 != dtype::f32) return false;
  const bool any_bias = four_bits ? whole_bias : whole_bias || bias == dtype::f32;
  if (out == dtype::bf16) return (any_bias || (!four_bits && bias == dtype::bf16)) && (!four_bits || s1 != -1);
  if (out == dtype::f16) return s1 != -1 && s2 == dtype::f32 && (any_bias || (!four_bits && bias == dtype::f16));
  if (out == dtype::i32) return s1 == -1 && whole_bias && !four_bits;
  return false;
}

struct wide_scale {
  float scale;
  float offset;
};

/// The low word's upper 19 bits are the scale; bits 37 to 45 a signed offset.
wide_scale read_wide(uint64_t bits) {
  const auto nine = static_cast<int>(bits >> 37 & 0x1FFu);
  return {float_of_bits(static_cast<uint32_t>(bits) & 0xFFFFE000u), static_cast<float>(nine >= 256 ? nine - 512 : nine)};
}

int32_t dot_codes(const int16_t* a, const int16_t* b, size_t count) {
  uint32_t sum = 0;
  for (size_t i = 0; i < count; ++i) sum += static_cast<uint32_t>(static_cast<int32_t>(a[i]) * static_cast<int32_t>(b[i]));
  return static_cast<int32_t>(sum);
}

std::vector<int16_t> codes_of(const view& v, bool packed, bool turn, size_t rows, size_t columns) {
  auto values = load_matrix(v, packed);
  if (turn) values = transposed(values, rows, columns);
  return {values.begin(), values.end()};
}

int plan_quant_matmul(planning& p, const quant_matmul& q, uint64_t* workspace, void** executor) {
  p.products(family::usual);
  const tensor* x1 = p.in(q.x1, "x1");
  const tensor* x2 = p.in(q.x2, "x2");
  const tensor* s1 = p.optional(q.scale1, "x1Scale");
  const tensor* s2 = p.in(q.scale2, "x2Scale");
  const tensor* oy = p.optional(q.y_offset, "offset");
  const tensor* bias = p.optional(q.bias, "bias");
  const tensor* out = p.out(q.out, "out");
  if (const int c = p.failed()) return c;
  const bool old = p.soc().family == family::p310;
  const bool packed1 = x1->type == dtype::i32;
  const bool packed2 = x2->type == dtype::i32;
  const bool eight_bits = x1->type == dtype::i8 && x2->type == dtype::i8;
  const bool four_bits = (x1->type == dtype::i4 || packed1) && (x2->type == dtype::i4 || packed2);
  p.require(eight_bits || (four_bits && !old), "x1 and x2 are not both int8, or both int4 where the SoC has it");
  p.require(is_in_table(four_bits, s1 ? s1->type : -1, s2->type, bias ? bias->type : -1, out->type), "no row of the dtype table fits");
  p.require(oy == nullptr || (out->type == dtype::i8 && oy->type == dtype::f32), "an offset wants fp32 and int8 out");
  p.require(x1->rank() >= 2 && x1->rank() <= 6 && (x2->rank() == 2 || x2->rank() == x1->rank()), "ranks");
  if (const int c = p.failed()) return c;
  p.require(x1->format != format::fractal_nz, "x1 is FRACTAL_NZ");
  p.require(x2->format == format::fractal_nz ? is_nz_storage(*x2) : true, "the storage of x2 is not that of FRACTAL_NZ");
  p.require(!old || out->type == dtype::f16, "out is not fp16 on 310P");
  p.require(!old || s1 == nullptr || (x2->format == format::fractal_nz && q.transpose2), "x2 is not FRACTAL_NZ and transposed, with x1Scale on 310P");
  for (const tensor* t : {x1, x2}) {
    p.require(packed1 || packed2 ? is_contiguous(*t) : is_matrix_layout(*t), "a matrix is neither contiguous nor has its last two axes swapped");
    const bool excepted = !old && s2->type == dtype::f32 && s2->rank() == 1;
    p.require(excepted || t->last() <= longest_dim, "a last dim is above 65535");
  }
  const matrix_size a = size_of(*x1, packed1);
  const matrix_size b = size_of(*x2, packed2);
  const int64_t m = q.transpose1 ? a.columns : a.rows;
  const int64_t k = q.transpose1 ? a.rows : a.columns;
  const int64_t n = q.transpose2 ? b.rows : b.columns;
  p.require(k == (q.transpose2 ? b.columns : b.rows), "the inner dims of x1 and x2 differ");
  p.require(!four_bits || (a.columns % 2 == 0 && b.columns % 2 == 0), "a last dim of int4 is odd");
  std::vector<int64_t> wanted(x1->dims.begin(), x1->dims.end() - 2);
  const bool same_batch = x2->rank() == 2 || std::equal(wanted.begin(), wanted.end(), x2->dims.begin());
  wanted.insert(wanted.end(), {m, n});
  p.require(same_batch && out->dims == wanted, "out has not the shape of the product, or the batches differ");
  p.require(s2->rank() == 1 && (s2->dims[0] == 1 || s2->dims[0] == n), "x2Scale has not one value, or one a column");
  p.require(s1 == nullptr || (x1->rank() == 2 && s1->dims == std::vector<int64_t>{m}), "x1Scale has not one value a row");
  p.require(bias == nullptr || bias->dims == std::vector<int64_t>{n}, "bias has not one value a column");
  p.require(oy == nullptr || oy->dims == std::vector<int64_t>{1} || oy->dims == std::vector<int64_t>{n}, "offset has not one value, or one a column");
  const auto rows = static_cast<size_t>(m);
  const auto inner = static_cast<size_t>(k);
  const auto columns = static_cast<size_t>(n);
  return p.finish(16384, workspace, executor, [=, turn1 = q.transpose1, turn2 = !q.transpose2](std::span<const view> v) {
    const auto left = codes_of(v[0], packed1, turn1, inner, rows);      // [rows, inner]
    const auto right = codes_of(v[1], packed2, turn2, inner, columns);  // [columns, inner]
    const auto per_row = v[2].base == nullptr ? std::vector<float>{} : load_floats(v[2]);
    const bool wide = is_wide(v[3].type);
    std::vector<wide_scale> per_column;
    if (wide) {
      for (const uint64_t bits : load_bits64(v[3])) per_column.push_back(read_wide(bits));
    } else {
      for (const float s : load_floats(v[3])) per_column.push_back({s, 0});
    }
    const auto offsets = v[4].base == nullptr ? std::vector<float>{} : load_floats(v[4]);
    const bool whole_bias = v[5].type == dtype::i32;
    const auto biases = v[5].base == nullptr ? std::vector<double>{} : load_numbers(v[5]);
    const size_t batch = rows * inner == 0 ? 0 : left.size() / (rows * inner);
    const size_t step = right.size() == columns * inner ? 0 : columns * inner;
    std::vector<float> result(batch * rows * columns);
    std::vector<double> raw(v[6].type == dtype::i32 ? result.size() : 0);
    for (size_t i = 0; i < result.size(); ++i) {
      const size_t r = i / columns;
      const size_t c = i % columns;
      int32_t sum = dot_codes(left.data() + r * inner, right.data() + r / rows * step + c * inner, inner);
      if (whole_bias) sum = static_cast<int32_t>(static_cast<uint32_t>(sum) + static_cast<uint32_t>(static_cast<int32_t>(biases[c])));
      if (!raw.empty()) {
        raw[i] = sum;
        continue;
      }
      const wide_scale& s = per_column[per_column.size() == 1 ? 0 : c];
      float value = static_cast<float>(sum) * s.scale;
      if (!per_row.empty()) value *= per_row[r];
      if (!whole_bias && !biases.empty()) value += static_cast<float>(biases[c]);
      if (v[6].type == dtype::i8) {
        value += s.offset + (offsets.empty() ? 0.0f : offsets[offsets.size() == 1 ? 0 : c]);
        value = std::isnan(value) ? 0.0f : std::clamp(std::nearbyint(value), -128.0f, 127.0f);
      }
      result[i] = value;
    }
    if (raw.empty()) {
      store_floats(v[6], result);
    } else {
      store_numbers(v[6], raw);
    }
    return 0;
  });
}

}  // namespace

namespace api {

int aclnnQuantMatmulV3(tensor_t x1, tensor_t x2, tensor_t scale, tensor_t offset, tensor_t bias, bool t1, bool t2, tensor_t out, uint64_t* workspace,
                       void** executor) {
  planning p{"aclnnQuantMatmulV3"};
  return plan_quant_matmul(p, {x1, x2, nullptr, scale, offset, bias, t1, t2, out}, workspace, executor);
}

int aclnnQuantMatmulV4(tensor_t x1, tensor_t x2, tensor_t scale, tensor_t offset, tensor_t token, tensor_t bias, bool t1, bool t2, tensor_t out,
                       uint64_t* workspace, void** executor) {
  planning p{"aclnnQuantMatmulV4"};
  return plan_quant_matmul(p, {x1, x2, token, scale, offset, bias, t1, t2, out}, workspace, executor);
}

int aclnnQuantMatmulV5(tensor_t x1, tensor_t x2, tensor_t s1, tensor_t s2, tensor_t sy, tensor_t o1, tensor_t o2, tensor_t oy, tensor_t bias, bool t1,
                       bool t2, int64_t group, tensor_t out, uint64_t* workspace, void** executor) {
  planning p{"aclnnQuantMatmulV5"};
  p.require(sy == nullptr && o1 == nullptr && o2 == nullptr, "yScale and x1Offset are reserved, x2Offset wants groups");
  p.require(group == 0, "the fake has no grouped QuantMatmul");
  return plan_quant_matmul(p, {x1, x2, s1, s2, oy, bias, t1, t2, out}, workspace, executor);
}

/// u64 = fp32 bits without the lowest 13 | 1 << 46 | int9(offset) << 37.
int aclnnTransQuantParamV2(tensor_t scale_, tensor_t offset_, tensor_t out_, uint64_t* workspace, void** executor) {
  planning p{"aclnnTransQuantParamV2"};
  p.products(family::usual);
  const tensor* scale = p.in(scale_, "scale");
  const tensor* offset = p.optional(offset_, "offset");
  const tensor* out = p.out(out_, "out");
  if (const int c = p.failed()) return c;
  p.require(scale->type == dtype::f32 && scale->rank() == 1, "scale is not fp32 of one dim");
  p.require(offset == nullptr || (offset->type == dtype::f32 && offset->dims == scale->dims), "offset is not like scale");
  p.require(is_wide(out->type) && out->dims == scale->dims, "out is not uint64 or int64 of the shape of scale");
  return p.finish(0, workspace, executor, [](std::span<const view> v) {
    const auto scales = load_floats(v[0]);
    const auto offsets = v[1].base == nullptr ? std::vector<float>{} : load_floats(v[1]);
    std::vector<uint64_t> bits(scales.size());
    for (size_t i = 0; i < bits.size(); ++i) {
      bits[i] = (bits_of_float(scales[i]) & 0xFFFFE000u) | 1ull << 46;
      if (offsets.empty()) continue;
      const auto nine = static_cast<int>(std::clamp(std::nearbyint(offsets[i]), -256.0f, 255.0f));
      bits[i] |= static_cast<uint64_t>(static_cast<unsigned>(nine) & 0x1FFu) << 37;
    }
    store_bits64(v[2], bits);
    return 0;
  });
}

}  // namespace api
}  // namespace fake_acl
