// AscendQuant, AscendAntiQuant, DynamicQuant: fp to codes and back.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "api.hpp"
#include "half.hpp"
#include "op.hpp"

namespace fake_acl {
namespace {

enum class rounding { even, away, down, up, zero };

float round_by(rounding how, float x) {
  switch (how) {
    case rounding::even:
      return std::nearbyint(x);
    case rounding::away:
      return std::round(x);
    case rounding::down:
      return std::floor(x);
    case rounding::up:
      return std::ceil(x);
    default:
      return std::trunc(x);
  }
}

/// fp32 -> int32 -> fp16 -> code, as the vector unit goes: NaN becomes 0, everything saturates, int32 beyond 2048 loses bits on the way.
float through_half(rounding how, float x, int low, int high) {
  const float whole = round_by(how, x);
  const float as_int32 = std::isnan(whole) ? 0.0f : std::clamp(whole, -2147483648.0f, 2147483648.0f);
  return std::clamp(round_f16(as_int32), static_cast<float>(low), static_cast<float>(high));
}

int top_of(int type) { return type == dtype::i8 ? 127 : 7; }

/// Codes of a row-major tensor; int32 holds eight nibbles, the first in the low bits.
void store_codes(const view& y, const std::vector<float>& codes) {
  if (y.type != dtype::i32) return store_floats(y, codes);
  std::vector<double> words(codes.size() / 8);
  for (size_t i = 0; i < words.size(); ++i) {
    uint32_t word = 0;
    for (size_t j = 0; j < 8; ++j) word |= (static_cast<uint32_t>(static_cast<int>(codes[8 * i + j])) & 15u) << (4 * j);
    words[i] = static_cast<double>(static_cast<int32_t>(word));
  }
  store_numbers(y, words);
}

/// y has the shape of x; its last dim is an eighth if it is int32, which holds eight nibbles.
void require_code_shape(planning& p, const tensor& x, const tensor& y) {
  auto dims = x.dims;
  if (y.type == dtype::i4) p.require(!dims.empty() && dims.back() % 2 == 0, "the last dim of x is odd and y is int4");
  if (y.type == dtype::i32) {
    p.require(!dims.empty() && dims.back() % 8 == 0, "the last dim of x is no multiple of 8 and y is int32");
    if (!dims.empty()) dims.back() /= 8;
  }
  p.require(y.dims == dims, "y has not the shape of x");
}

bool read_mode(const char* text, rounding& mode) {
  if (std::strcmp(text, "round") == 0) return mode = rounding::even, true;
  if (std::strcmp(text, "floor") == 0) return mode = rounding::down, true;
  if (std::strcmp(text, "ceil") == 0) return mode = rounding::up, true;
  if (std::strcmp(text, "trunc") == 0) return mode = rounding::zero, true;
  return false;
}

/// Length 1, or the length of the axis counted from the end.
bool fits_axis(const tensor& t, const tensor& x, int axis) {
  if (t.rank() != 1) return false;
  if (t.dims[0] == 1) return true;
  const auto from_end = static_cast<size_t>(-axis);
  return from_end <= x.rank() && t.dims[0] == x.dims[x.rank() - from_end];
}

/// For each element of x, its place in a per-axis operand.
size_t along_axis(const view& x, int axis, size_t element, size_t length) {
  if (length == 1) return 0;
  const auto inner = axis == -1 ? size_t{1} : static_cast<size_t>(x.dims.back());
  return element / inner % length;
}

int plan_quant(planning& p, const void* x_, const void* scale_, const void* offset_, bool root, const char* mode_, int type, int axis, const void* y_,
               uint64_t* workspace, void** executor) {
  const tensor* x = p.in(x_, "x");
  const tensor* scale = p.in(scale_, "scale");
  const tensor* offset = p.optional(offset_, "offset");
  const tensor* y = p.out(y_, "y");
  if (p.failed() == 0 && mode_ == nullptr) p.fail(code::null_pointer, "roundMode is null");
  if (const int c = p.failed()) return c;
  const bool small = p.soc().old_numerics();
  rounding mode = rounding::even;
  p.require(is_float(x->type), "x is not fp32, fp16 or bf16");
  p.require(x->rank() >= 1 && x->rank() <= 8, "x has no dims, or more than 8");
  p.require(scale->type == x->type && (offset == nullptr || offset->type == x->type), "scale and offset have not the dtype of x");
  p.require(read_mode(mode_, mode), std::string("roundMode ") + mode_);
  p.require(type == y->type, "dstType is not the dtype of y");
  p.require(type == dtype::i8 || (!small && (type == dtype::i4 || type == dtype::i32)), "y is not int8, or int4 or int32 where the SoC has them");
  p.require(axis == -1 || (axis == -2 && !small && x->rank() >= 2), "axis " + std::to_string(axis));
  if (const int c = p.failed()) return c;
  p.require(fits_axis(*scale, *x, axis) && (offset == nullptr || offset->dims == scale->dims),
            "scale or offset has not one value, or one for each place of the axis");
  require_code_shape(p, *x, *y);
  if (const int c = p.failed()) return c;
  const int top = top_of(type);
  const bool halves = p.options().static_f16;
  return p.finish(copy_workspace({x, y}), workspace, executor, [=](std::span<const view> v) {
    const auto from = load_floats(v[0]);
    const auto scales = load_floats(v[1]);
    const auto offsets = v[2].base == nullptr ? std::vector<float>(scales.size(), 0.0f) : load_floats(v[2]);
    std::vector<float> codes(from.size());
    if (halves) {
      const rounding how = mode == rounding::even ? rounding::away : mode;
      for (size_t i = 0; i < from.size(); ++i) {
        const size_t at = along_axis(v[0], axis, i, scales.size());
        const float factor = saturate_f16(scales[at]);
        float q = saturate_f16(saturate_f16(from[i]) * factor);
        if (root) q = saturate_f16(q * factor);
        codes[i] = through_half(how, saturate_f16(q + saturate_f16(offsets[at])), -top - 1, top);
      }
      store_codes(v[3], codes);
      return 0;
    }
    for (size_t i = 0; i < from.size(); ++i) {
      const size_t at = along_axis(v[0], axis, i, scales.size());
      float q = from[i] * scales[at];
      if (root) q *= scales[at];
      codes[i] = through_half(mode, q + offsets[at], -top - 1, top);
    }
    store_codes(v[3], codes);
    return 0;
  });
}

struct row_codes {
  float scale = 0;
  float offset = 0;
};

/// A2: factor top/amax in fp32, half to even. The scale is the factor's reciprocal in one kernel and amax/top in another; here rows of a
/// multiple of 64 take the first.
row_codes symmetric_a2(std::span<const float> x, int top, std::span<float> codes) {
  float largest = 0;
  for (const float v : x) largest = std::max(largest, std::abs(v));
  const float factor = static_cast<float>(top) / largest;
  for (size_t i = 0; i < x.size(); ++i) codes[i] = through_half(rounding::even, x[i] * factor, -top - 1, top);
  return {x.size() % 64 == 0 ? 1.0f / factor : largest * (1.0f / static_cast<float>(top)), 0};
}

/// 310P: factor, product and scale in fp16, half away from zero; a row of zeros is caught.
row_codes symmetric_310p(std::span<const float> x, int top, std::span<float> codes) {
  float largest = 0;
  for (const float v : x) largest = std::max(largest, std::abs(v));
  const float factor = largest == 0 ? 0.0f : saturate_f16(static_cast<float>(top) / largest);
  for (size_t i = 0; i < x.size(); ++i) codes[i] = through_half(rounding::away, saturate_f16(x[i] * factor), -top - 1, top);
  return {saturate_f16(largest / static_cast<float>(top)), 0};
}

row_codes asymmetric(std::span<const float> x, int top, bool old_numerics, std::span<float> codes) {
  float low = x.empty() ? 0.0f : x[0];
  float high = low;
  for (const float v : x) low = std::min(low, v), high = std::max(high, v);
  const auto levels = static_cast<float>(2 * top + 1);
  row_codes r;
  if (old_numerics) {
    r.scale = (high - low) / levels;
    r.offset = r.scale == 0 ? 0.0f : -(high + low) / 2 * levels / (high - low);
    const float factor = r.scale == 0 ? 0.0f : saturate_f16(levels / (high - low));
    for (size_t i = 0; i < x.size(); ++i) {
      codes[i] = through_half(rounding::away, saturate_f16(saturate_f16(x[i] * factor) + r.offset), -top - 1, top);
    }
    return r;
  }
  r.scale = std::max((high - low) / levels, 1e-12f);
  r.offset = static_cast<float>(top) - high / r.scale;
  for (size_t i = 0; i < x.size(); ++i) codes[i] = through_half(rounding::even, x[i] / r.scale + r.offset, -top - 1, top);
  return r;
}

int plan_dynamic(planning& p, const void* x_, const void* smooth_, const void* groups_, int type, const void* y_, const void* scale_,
                 const void* offset_, uint64_t* workspace, void** executor) {
  p.products(family::all);
  const tensor* x = p.in(x_, "x");
  const tensor* smooth = p.optional(smooth_, "smooth");
  const tensor* groups = p.optional(groups_, "groupIndex");
  const tensor* y = p.out(y_, "y");
  const tensor* scale = p.out(scale_, "scale");
  const tensor* offset = nullptr;
  if (offset_ != nullptr) offset = p.out(offset_, "offset");
  if (const int c = p.failed()) return c;
  const bool small = p.soc().old_numerics();
  p.require(is_half(x->type), "x is not fp16 or bf16");
  p.require(x->rank() >= 2 && x->rank() <= 8, "x has not 2 to 8 dims");
  p.require(y->type == type, "dstType is not the dtype of y");
  p.require(y->type == dtype::i8 || (!small && (y->type == dtype::i4 || y->type == dtype::i32)),
            "y is not int8, or int4 or int32 where the SoC has them");
  if (const int c = p.failed()) return c;
  const std::vector<int64_t> rows(x->dims.begin(), x->dims.end() - 1);
  p.require(scale->type == dtype::f32 && scale->dims == rows, "scale is not fp32 of the shape of x without the last dim");
  p.require(offset == nullptr || (offset->type == dtype::f32 && offset->dims == rows), "offset is not fp32 of the shape of x without the last dim");
  require_code_shape(p, *x, *y);
  if (small && x->last() % 32 != 0) p.fail(code::tiling_failed, "the last dim of x is no multiple of 32 on " + p.soc().name);
  if (smooth != nullptr) {
    const auto wanted = groups == nullptr ? std::vector<int64_t>{x->last()} : std::vector<int64_t>{groups->count(), x->last()};
    p.require(smooth->type == x->type && smooth->dims == wanted, "smooth has not the dtype of x and one value a column (and group)");
  }
  p.require(groups == nullptr || (groups->type == dtype::i32 && groups->rank() == 1 && smooth != nullptr), "groupIndex is not int32 with smooth");
  if (const int c = p.failed()) return c;
  const int top = top_of(type);
  const bool symmetric = offset == nullptr;
  return p.finish(copy_workspace({x, smooth, y, scale, offset}), workspace, executor, [=](std::span<const view> v) {
    auto from = load_floats(v[0]);
    const auto columns = static_cast<size_t>(v[0].dims.back());
    const size_t count = columns == 0 ? 0 : from.size() / columns;
    if (v[1].base != nullptr && !small) {
      const auto factors = load_floats(v[1]);
      const auto ends = v[2].base == nullptr ? std::vector<float>{static_cast<float>(count)} : load_floats(v[2]);
      for (size_t r = 0, g = 0; r < count; ++r) {
        while (g + 1 < ends.size() && static_cast<float>(r) >= ends[g]) ++g;
        for (size_t c = 0; c < columns; ++c) from[r * columns + c] *= factors[g * columns + c];
      }
    }
    std::vector<float> codes(from.size()), scales(count), offsets(count);
    for (size_t r = 0; r < count; ++r) {
      const std::span row = std::span(from).subspan(r * columns, columns);
      const std::span to = std::span(codes).subspan(r * columns, columns);
      const row_codes found = !symmetric ? asymmetric(row, top, small, to) : small ? symmetric_310p(row, top, to) : symmetric_a2(row, top, to);
      scales[r] = found.scale;
      offsets[r] = found.offset;
    }
    store_codes(v[3], codes);
    store_floats(v[4], scales);
    if (!symmetric) store_floats(v[5], offsets);
    return 0;
  });
}

}  // namespace

namespace api {

int aclnnAscendQuant(tensor_t x, tensor_t scale, tensor_t offset, bool root, const char* mode, int32_t type, tensor_t y, uint64_t* workspace,
                     void** executor) {
  planning p{"aclnnAscendQuant"};
  p.products(family::p310 | family::a2);
  return plan_quant(p, x, scale, offset, root, mode, type, -1, y, workspace, executor);
}

int aclnnAscendQuantV3(tensor_t x, tensor_t scale, tensor_t offset, bool root, const char* mode, int32_t type, int32_t axis, tensor_t y,
                       uint64_t* workspace, void** executor) {
  planning p{"aclnnAscendQuantV3"};
  p.products(family::usual);
  return plan_quant(p, x, scale, offset, root, mode, type, axis, y, workspace, executor);
}

int aclnnDynamicQuant(tensor_t x, tensor_t smooth, tensor_t y, tensor_t scale, uint64_t* workspace, void** executor) {
  planning p{"aclnnDynamicQuant"};
  int type = -1;
  if (const auto t = p.everything().find<tensor>(y)) type = t->type;
  return plan_dynamic(p, x, smooth, nullptr, type, y, scale, nullptr, workspace, executor);
}

int aclnnDynamicQuantV2(tensor_t x, tensor_t smooth, tensor_t groups, int64_t type, tensor_t y, tensor_t scale, tensor_t offset, uint64_t* workspace,
                        void** executor) {
  planning p{"aclnnDynamicQuantV2"};
  return plan_dynamic(p, x, smooth, groups, static_cast<int>(type), y, scale, offset, workspace, executor);
}

int aclnnAscendAntiQuant(tensor_t x_, tensor_t scale_, tensor_t offset_, int64_t type, bool root, tensor_t y_, uint64_t* workspace, void** executor) {
  planning p{"aclnnAscendAntiQuant"};
  p.products(family::p310 | family::a2);
  const tensor* x = p.in(x_, "x");
  const tensor* scale = p.in(scale_, "scale");
  const tensor* offset = p.optional(offset_, "offset");
  const tensor* y = p.out(y_, "y");
  if (const int c = p.failed()) return c;
  p.require(x->type == dtype::i8 || (x->type == dtype::i4 && !p.soc().old_numerics()), "x is not int8, or int4 where the SoC has it");
  p.require(scale->type == dtype::f32 || (scale->type == dtype::bf16 && !p.soc().old_numerics()), "scale is not fp32, or bf16 where the SoC has it");
  p.require(offset == nullptr || (offset->type == scale->type && offset->dims == scale->dims), "offset is not like scale");
  p.require(is_half(y->type) && y->type == type && y->dims == x->dims, "y is not fp16 or bf16 of the shape of x and of dstType");
  if (const int c = p.failed()) return c;
  p.require(fits_axis(*scale, *x, -1), "scale has not one value, or one a column");
  return p.finish(copy_workspace({x, y}), workspace, executor, [=](std::span<const view> v) {
    auto values = load_floats(v[0]);
    const auto scales = load_floats(v[1]);
    const auto offsets = v[2].base == nullptr ? std::vector<float>(scales.size(), 0.0f) : load_floats(v[2]);
    for (size_t i = 0; i < values.size(); ++i) {
      const size_t at = i % scales.size();
      values[i] = (values[i] + offsets[at]) * scales[at];
      if (root) values[i] *= scales[at];
    }
    store_floats(v[3], values);
    return 0;
  });
}

}  // namespace api
}  // namespace fake_acl
