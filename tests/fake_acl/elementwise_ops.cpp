// Mul, Add, Abs, Round, Clamp, Cast, copies: any strides, broadcasting.
#include <algorithm>
#include <cmath>

#include "api.hpp"
#include "half.hpp"
#include "op.hpp"

namespace fake_acl {
namespace {

using dims_t = std::vector<int64_t>;

bool broadcast(const dims_t& a, const dims_t& b, dims_t& out) {
  const size_t rank = std::max(a.size(), b.size());
  out.assign(rank, 1);
  for (size_t d = 0; d < rank; ++d) {
    const int64_t x = d < a.size() ? a[a.size() - 1 - d] : 1;
    const int64_t y = d < b.size() ? b[b.size() - 1 - d] : 1;
    if (x != y && x != 1 && y != 1) return false;
    out[rank - 1 - d] = x == 1 ? y : x;
  }
  return true;
}

/// The values of a tensor, repeated to the shape `to`.
std::vector<double> load_as(const view& v, const dims_t& to) {
  view wide = v;
  wide.dims = to;
  wide.strides.assign(to.size(), 0);
  for (size_t d = 0; d < v.dims.size(); ++d) {
    if (v.dims[v.dims.size() - 1 - d] != 1) wide.strides[to.size() - 1 - d] = v.strides[v.dims.size() - 1 - d];
  }
  return load_numbers(wide);
}

int rank_of(int type) {
  switch (type) {
    case dtype::boolean:
      return 0;
    case dtype::u8:
    case dtype::i8:
      return 1;
    case dtype::i16:
      return 2;
    case dtype::i32:
      return 3;
    case dtype::i64:
      return 4;
    case dtype::f16:
    case dtype::bf16:
      return 5;
    case dtype::f32:
      return 6;
    case dtype::f64:
      return 7;
    default:
      return -1;
  }
}

int promote(int a, int b) {
  if (a == b) return a;
  if (is_half(a) && is_half(b)) return dtype::f32;
  return rank_of(a) >= rank_of(b) ? a : b;
}

double round_double(int type, double x) {
  if (type == dtype::f64 || rank_of(type) < 5) return x;
  return static_cast<double>(round_to(type, static_cast<float>(x)));
}

void require_elementwise(planning& p, const tensor& t) { p.require(rank_of(t.type) >= 0, "a dtype that elementwise ops do not take"); }

template <class F>
int plan_binary(planning& p, const void* a_, const void* b_, const void* out_, uint64_t* workspace, void** executor, F combine) {
  p.products(family::all);
  const tensor* a = p.in(a_, "self");
  const tensor* b = p.in(b_, "other");
  const tensor* out = p.out(out_, "out");
  if (const int c = p.failed()) return c;
  for (const tensor* t : {a, b, out}) require_elementwise(p, *t);
  dims_t dims;
  p.require(broadcast(a->dims, b->dims, dims) && dims == out->dims, "the shapes do not broadcast to that of out");
  const int type = promote(a->type, b->type);
  return p.finish(copy_workspace({a, b, out}), workspace, executor, [=](std::span<const view> v) {
    auto x = load_as(v[0], dims);
    const auto y = load_as(v[1], dims);
    for (size_t i = 0; i < x.size(); ++i) x[i] = round_double(type, combine(x[i], y[i]));
    store_numbers(v[2], x);
    return 0;
  });
}

template <class F>
int plan_unary(planning& p, const void* a_, const void* out_, uint64_t* workspace, void** executor, F change) {
  p.products(family::all);
  const tensor* a = p.in(a_, "self");
  const tensor* out = p.out(out_, "out");
  if (const int c = p.failed()) return c;
  for (const tensor* t : {a, out}) require_elementwise(p, *t);
  p.require(a->dims == out->dims, "out has not the shape of self");
  const int type = a->type;
  return p.finish(copy_workspace({a, out}), workspace, executor, [=](std::span<const view> v) {
    auto x = load_numbers(v[0]);
    for (double& value : x) value = round_double(type, change(value));
    store_numbers(v[1], x);
    return 0;
  });
}

/// int32 -> int8 goes through fp16, which wraps modulo 256 exactly within (-2048, 1920) and is wrong beyond.
double narrow_to_int8(double x) {
  const float half = round_f16(static_cast<float>(x));
  const float shifted = round_f16(half + 128.0f);
  if (!std::isfinite(shifted)) return 0;
  return static_cast<double>(shifted - 256.0f * std::floor(shifted / 256.0f) - 128.0f);
}

/// fp to integer: towards zero, NaN to 0; stores saturate.
double cast(int from, int to, double x) {
  const bool from_integer = rank_of(from) < 5;
  if (to == dtype::boolean) return x != 0 ? 1 : 0;
  if (rank_of(to) >= 5) return x;
  if (from_integer) return to == dtype::i8 && (from == dtype::i32 || from == dtype::i64) ? narrow_to_int8(x) : x;
  return std::isnan(x) ? 0 : std::trunc(x);
}

}  // namespace

namespace api {

int aclnnMul(tensor_t a, tensor_t b, tensor_t out, uint64_t* workspace, void** executor) {
  planning p{"aclnnMul"};
  return plan_binary(p, a, b, out, workspace, executor, [](double x, double y) { return x * y; });
}

int aclnnInplaceMul(tensor_t a, tensor_t b, uint64_t* workspace, void** executor) {
  planning p{"aclnnInplaceMul"};
  return plan_binary(p, a, b, a, workspace, executor, [](double x, double y) { return x * y; });
}

int aclnnMuls(tensor_t a, const void* b, tensor_t out, uint64_t* workspace, void** executor) {
  planning p{"aclnnMuls"};
  const scalar* factor = p.number(b, "other");
  if (const int c = p.failed()) return c;
  return plan_unary(p, a, out, workspace, executor, [f = factor->value](double x) { return x * f; });
}

int aclnnAdd(tensor_t a, tensor_t b, const void* alpha, tensor_t out, uint64_t* workspace, void** executor) {
  planning p{"aclnnAdd"};
  const scalar* factor = p.number(alpha, "alpha");
  if (const int c = p.failed()) return c;
  return plan_binary(p, a, b, out, workspace, executor, [f = factor->value](double x, double y) { return x + f * y; });
}

int aclnnAdds(tensor_t a, const void* b, const void* alpha, tensor_t out, uint64_t* workspace, void** executor) {
  planning p{"aclnnAdds"};
  const scalar* other = p.number(b, "other");
  const scalar* factor = p.number(alpha, "alpha");
  if (const int c = p.failed()) return c;
  return plan_unary(p, a, out, workspace, executor, [term = other->value * factor->value](double x) { return x + term; });
}

int aclnnAbs(tensor_t a, tensor_t out, uint64_t* workspace, void** executor) {
  planning p{"aclnnAbs"};
  return plan_unary(p, a, out, workspace, executor, [](double x) { return std::abs(x); });
}

int aclnnRound(tensor_t a, tensor_t out, uint64_t* workspace, void** executor) {
  planning p{"aclnnRound"};
  p.products(family::gen1 | family::a2 | family::a950);
  return plan_unary(p, a, out, workspace, executor, [](double x) { return std::nearbyint(x); });
}

int aclnnClamp(tensor_t a, const void* low, const void* high, tensor_t out, uint64_t* workspace, void** executor) {
  planning p{"aclnnClamp"};
  const double bottom = low == nullptr ? -HUGE_VAL : [&] {
    const scalar* s = p.number(low, "min");
    return s == nullptr ? 0.0 : s->value;
  }();
  const double top = high == nullptr ? HUGE_VAL : [&] {
    const scalar* s = p.number(high, "max");
    return s == nullptr ? 0.0 : s->value;
  }();
  if (p.failed() == 0 && low == nullptr && high == nullptr) p.fail(code::null_pointer, "min and max are null");
  if (const int c = p.failed()) return c;
  return plan_unary(p, a, out, workspace, executor, [=](double x) { return std::isnan(x) ? x : std::min(std::max(x, bottom), top); });
}

int aclnnCast(tensor_t a_, int type, tensor_t out_, uint64_t* workspace, void** executor) {
  planning p{"aclnnCast"};
  p.products(family::all);
  const tensor* a = p.in(a_, "self");
  const tensor* out = p.out(out_, "out");
  if (const int c = p.failed()) return c;
  for (const tensor* t : {a, out}) require_elementwise(p, *t);
  p.require(out->type == type && out->dims == a->dims, "out has not the dtype that is asked for, or not the shape of self");
  return p.finish(copy_workspace({a, out}), workspace, executor, [from = a->type, type](std::span<const view> v) {
    auto x = load_numbers(v[0]);
    for (double& value : x) value = cast(from, type, value);
    store_numbers(v[1], x);
    return 0;
  });
}

int aclnnInplaceCopy(tensor_t to_, tensor_t from_, uint64_t* workspace, void** executor) {
  planning p{"aclnnInplaceCopy"};
  p.products(family::all);
  const tensor* from = p.in(from_, "src");
  const tensor* to = p.out(to_, "selfRef");
  if (const int c = p.failed()) return c;
  for (const tensor* t : {from, to}) require_elementwise(p, *t);
  dims_t dims;
  p.require(broadcast(from->dims, to->dims, dims) && dims == to->dims, "src does not broadcast to selfRef");
  const auto compute = [source = from->type, target = to->type, dims](std::span<const view> v) {
    auto x = load_as(v[0], dims);
    for (double& value : x) value = cast(source, target, value);
    store_numbers(v[1], x);
    return 0;
  };
  return p.finish(copy_workspace({from, to}), workspace, executor, compute, false);
}

int aclnnPermute(tensor_t a_, const void* order_, tensor_t out_, uint64_t* workspace, void** executor) {
  planning p{"aclnnPermute"};
  p.products(family::all);
  const tensor* a = p.in(a_, "self");
  const int_array* order = p.array(order_, "dims");
  const tensor* out = p.out(out_, "out");
  if (const int c = p.failed()) return c;
  const auto rank = static_cast<int64_t>(a->rank());
  auto axes = order->values;
  dims_t dims;
  std::vector<bool> seen(a->rank(), false);
  p.require(static_cast<int64_t>(axes.size()) == rank, "dims does not name every axis");
  for (int64_t& axis : axes) {
    if (axis < 0) axis += rank;
    p.require(axis >= 0 && axis < rank && !seen[static_cast<size_t>(axis)], "dims is no permutation");
    if (const int c = p.failed()) return c;
    seen[static_cast<size_t>(axis)] = true;
    dims.push_back(a->dims[static_cast<size_t>(axis)]);
  }
  p.require(out->dims == dims && out->type == a->type, "out has not the permuted shape and the dtype of self");
  return p.finish(copy_workspace({out}), workspace, executor, [axes](std::span<const view> v) {
    view turned = v[0];
    for (size_t d = 0; d < axes.size(); ++d) {
      turned.dims[d] = v[0].dims[static_cast<size_t>(axes[d])];
      turned.strides[d] = v[0].strides[static_cast<size_t>(axes[d])];
    }
    store_numbers(v[1], load_numbers(turned));
    return 0;
  });
}

}  // namespace api
}  // namespace fake_acl
