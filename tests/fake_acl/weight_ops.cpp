// WeightQuantBatchMatmul, the fp matmul, and int4 packing.
#include <atomic>
#include <cmath>

#include "api.hpp"
#include "half.hpp"
#include "ledger.hpp"
#include "matmul.hpp"

namespace fake_acl {
namespace {

constexpr int64_t longest_dim = 65535;

/// Flips at every matmul whose order of summation nobody fixed.
std::atomic<bool> other_order{false};

std::vector<float> multiply(const std::vector<float>& a, const std::vector<float>& b_turned, size_t m, size_t k, size_t n, size_t split) {
  std::vector<float> out(m * n);
  for (size_t r = 0; r < m; ++r) {
    for (size_t c = 0; c < n; ++c) {
      const float* const left = a.data() + r * k;
      const float* const right = b_turned.data() + c * k;
      out[r * n + c] = dot(left, right, split, k) + dot(left, right, 0, split);
    }
  }
  return out;
}

/// [1], [1, 1], [n], [1, n], or with groups [ceil(k / group), n].
bool fits_weight(const tensor& t, int64_t k, int64_t n, int64_t group) {
  using dims_t = std::vector<int64_t>;
  if (group > 0) return t.dims == dims_t{(k + group - 1) / group, n};
  return t.dims == dims_t{1} || t.dims == dims_t{1, 1} || t.dims == dims_t{n} || t.dims == dims_t{1, n};
}

int plan_weight_matmul(planning& p, const void* x_, const void* w_, const void* scale_, const void* offset_, const void* sq, const void* oq,
                       const void* bias_, int group, int precise, const void* y_, uint64_t* workspace, void** executor) {
  const tensor* x = p.in(x_, "x");
  const tensor* w = p.in(w_, "weight");
  const tensor* scale = p.in(scale_, "antiquantScale");
  const tensor* offset = p.optional(offset_, "antiquantOffset");
  const tensor* bias = p.optional(bias_, "bias");
  const tensor* y = p.out(y_, "y");
  if (const int c = p.failed()) return c;
  const bool old = p.soc().family == family::p310;
  const bool packed = w->type == dtype::i32;
  p.require(sq == nullptr && oq == nullptr, "the fake has no quantized output");
  p.require(is_half(x->type) && y->type == x->type, "x is not fp16 or bf16, or y has another dtype");
  p.require(w->type == dtype::i8 || (!old && (w->type == dtype::i4 || packed)), "weight is not int8, or int4 where the SoC has it");
  p.require(scale->type == x->type && (offset == nullptr || (offset->type == x->type && offset->dims == scale->dims)),
            "antiquantScale or antiquantOffset has not the dtype of x");
  p.require(bias == nullptr || bias->type == x->type || bias->type == dtype::f32, "bias has neither the dtype of x nor fp32");
  p.require(x->rank() == 2 && w->rank() == 2, "x or weight is no matrix");
  if (const int c = p.failed()) return c;
  const matrix_size size = size_of(*w, packed);
  const int64_t m = x->dims[0];
  const int64_t k = size.rows;
  const int64_t n = size.columns;
  p.require(x->dims[1] == k && y->dims == std::vector<int64_t>{m, n}, "the inner dims differ, or y has not the shape of the product");
  p.require(group == 0 || (group >= 32 && group < k && group % 32 == 0), "group " + std::to_string(group));
  p.require(k <= longest_dim && n <= longest_dim, "k or n is above 65535");
  p.require(precise == 0 || (precise == 1 && group > 0 && m <= 16 && w->format == format::fractal_nz),
            "innerPrecise 1 wants groups, m <= 16 and FRACTAL_NZ");
  p.require(w->format != format::fractal_nz || is_nz_storage(*w), "the storage of weight is not that of FRACTAL_NZ");
  p.require(is_matrix_layout(*x) && (packed ? is_contiguous(*w) : is_matrix_layout(*w)), "a matrix is neither contiguous nor has its axes swapped");
  p.require(fits_weight(*scale, k, n, group), "antiquantScale has not one value, one a column, or one a group and column");
  p.require(bias == nullptr || bias->dims == std::vector<int64_t>{n} || bias->dims == std::vector<int64_t>{1, n}, "bias has not one value a column");
  const int type = x->type;
  const bool ordered = p.deterministic() || p.soc().family == family::a950;
  return p.finish(16384, workspace, executor, [=](std::span<const view> v) {
    const auto left = load_floats(v[0]);
    auto weights = load_matrix(v[1], packed);
    const auto scales = load_floats(v[2]);
    const auto offsets = v[3].base == nullptr ? std::vector<float>(scales.size(), 0.0f) : load_floats(v[3]);
    const auto columns = static_cast<size_t>(n);
    const auto inner = static_cast<size_t>(k);
    for (size_t i = 0; i < weights.size(); ++i) {
      const size_t row = group > 0 ? i / columns / static_cast<size_t>(group) : 0;
      const size_t at = scales.size() == 1 ? 0 : row * columns + i % columns;
      weights[i] = round_to(type, round_f16(weights[i] + round_f16(offsets[at])) * scales[at]);  // offset in fp16, scale in fp32
    }
    const size_t split = ordered || !other_order.exchange(!other_order.load()) ? 0 : inner / 2;
    auto out = multiply(left, transposed(weights, inner, columns), static_cast<size_t>(m), inner, columns, split);
    if (v[4].base != nullptr) {
      const auto biases = load_floats(v[4]);
      for (size_t i = 0; i < out.size(); ++i) out[i] += biases[i % columns];
    }
    store_floats(v[5], out);
    return 0;
  });
}

/// What the cube unit makes of an fp32 operand: 1 and 3 HF32 (11 bits of mantissa) or, on old cores, fp16; 2 fp16.
float cube_operand(int cube, bool old, float x) {
  if (cube == 2 || (cube == 1 && old)) return round_f16(x);
  if (cube != 1 && cube != 3) return x;
  const uint32_t u = bits_of_float(x);
  if ((u & 0x7F800000u) == 0x7F800000u) return x;
  return float_of_bits((u + 0x7FFu + (u >> 12 & 1u)) & ~0xFFFu);
}

}  // namespace

namespace api {

int aclnnWeightQuantBatchMatmulV2(tensor_t x, tensor_t w, tensor_t scale, tensor_t offset, tensor_t sq, tensor_t oq, tensor_t bias, int32_t group,
                                  tensor_t y, uint64_t* workspace, void** executor) {
  planning p{"aclnnWeightQuantBatchMatmulV2"};
  p.products(family::usual);
  return plan_weight_matmul(p, x, w, scale, offset, sq, oq, bias, group, 0, y, workspace, executor);
}

int aclnnWeightQuantBatchMatmulV3(tensor_t x, tensor_t w, tensor_t scale, tensor_t offset, tensor_t sq, tensor_t oq, tensor_t bias, int32_t group,
                                  int32_t precise, tensor_t y, uint64_t* workspace, void** executor) {
  planning p{"aclnnWeightQuantBatchMatmulV3"};
  p.products(family::a2 | family::a950);
  return plan_weight_matmul(p, x, w, scale, offset, sq, oq, bias, group, precise, y, workspace, executor);
}

int aclnnMm(tensor_t a_, tensor_t b_, tensor_t out_, int8_t cube, uint64_t* workspace, void** executor) {
  planning p{"aclnnMm"};
  p.products(family::all);
  const tensor* a = p.in(a_, "self");
  const tensor* b = p.in(b_, "mat2");
  const tensor* out = p.out(out_, "out");
  if (const int c = p.failed()) return c;
  const bool old = p.soc().old_numerics();
  p.require(a->rank() == 2 && b->rank() == 2, "self or mat2 is no matrix");
  p.require(is_float(a->type) && b->type == a->type && out->type == a->type, "the dtypes differ, or are not fp32, fp16 or bf16");
  p.require(cube >= 0 && cube <= 4, "cubeMathType " + std::to_string(cube));
  p.require(!(old && a->type == dtype::f32 && (cube == 0 || cube == 3)), "fp32 wants cubeMathType 1 or 2 on " + p.soc().name);
  if (const int c = p.failed()) return c;
  p.require(is_matrix_layout(*a) && is_matrix_layout(*b), "a matrix is neither contiguous nor has its axes swapped");
  p.require(a->dims[1] == b->dims[0] && out->dims == std::vector<int64_t>{a->dims[0], b->dims[1]}, "the shapes do not multiply to that of out");
  p.require(b->format != format::fractal_nz || is_nz_storage(*b), "the storage of mat2 is not that of FRACTAL_NZ");
  const auto m = static_cast<size_t>(a->dims[0]);
  const auto k = static_cast<size_t>(a->dims[1]);
  const auto n = static_cast<size_t>(b->dims[1]);
  const int kind = a->type == dtype::f32 ? cube : 0;
  return p.finish(8192, workspace, executor, [=](std::span<const view> v) {
    auto left = load_floats(v[0]);
    auto right = transposed(load_matrix(v[1], false), k, n);
    for (auto* operand : {&left, &right}) {
      for (float& x : *operand) x = cube_operand(kind, old, x);
    }
    store_floats(v[2], multiply(left, right, m, k, n, 0));
    return 0;
  });
}

/// All of it in phase 1, on the CPU, without a stream: the caller gets neither a workspace size nor an executor.
int aclnnConvertWeightToINT4Pack(tensor_t weight_, tensor_t packed_, uint64_t*, void**) {
  planning p{"aclnnConvertWeightToINT4Pack"};
  p.products(family::a2 | family::a950);
  const tensor* weight = p.in(weight_, "weight");
  const tensor* packed = p.out(packed_, "weightInt4Pack");
  if (const int c = p.failed()) return c;
  p.require(weight->type == dtype::i32 && weight->rank() >= 1, "weight is not int32");
  p.require(is_one_of(packed->type, {dtype::i4, dtype::i32}) && packed->format != format::fractal_nz, "the result is not int4 or int32 in ND");
  if (const int c = p.failed()) return c;
  const int64_t per = packed->type == dtype::i4 ? 2 : 8;
  auto dims = weight->dims;
  p.require(dims.back() % per == 0, "the last dim is no multiple of " + std::to_string(per));
  if (packed->type == dtype::i32) dims.back() /= 8;
  p.require(packed->dims == dims && is_contiguous(*packed), "the result has not the packed shape, or is not contiguous");
  if (const int c = p.failed()) return c;
  std::vector<use> uses;
  view from, to;
  world& w = p.everything();
  if (const int c = resolve(w, *weight, p.device(), false, from, uses)) return c;
  if (const int c = resolve(w, *packed, p.device(), true, to, uses)) return c;
  for (const use& u : uses) {
    if (const auto other = conflicting_task(w, u, nullptr); !other.empty()) {
      return violate("aclnnConvertWeightToINT4Pack copies in phase 1 and does not wait for " + other);
    }
  }
  const auto values = load_numbers(from);
  for (const double v : values) p.require(v >= -8 && v <= 7, "a weight is outside [-8, 7]");
  if (const int c = p.failed()) return c;
  to.type = dtype::i4;
  to.dims = {static_cast<int64_t>(values.size())};
  to.strides = {1};
  to.offset = packed->type == dtype::i32 ? packed->offset * 8 : packed->offset;
  store_numbers(to, values);
  return 0;
}

}  // namespace api
}  // namespace fake_acl
