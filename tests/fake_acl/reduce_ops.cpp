// Aminmax, Amax, Amin, MaxDim, Histc.
#include <algorithm>
#include <cmath>

#include "api.hpp"
#include "op.hpp"

namespace fake_acl {
namespace {

using dims_t = std::vector<int64_t>;

struct reduction {
  dims_t kept;      ///< shape of the result
  dims_t collapse;  ///< for each axis of the input, the step in the result; 0: reduced
};

/// Axes from an int array; none: all.
reduction plan_axes(planning& p, const tensor& x, const dims_t& axes, bool keep) {
  const auto rank = static_cast<int64_t>(x.rank());
  std::vector<bool> reduced(x.rank(), axes.empty());
  for (int64_t a : axes) {
    p.require(a >= -rank && a < rank && !reduced[static_cast<size_t>(a < 0 ? a + rank : a)], "dims names no axis, or one twice");
    if (p.failed() != 0) return {};
    reduced[static_cast<size_t>(a < 0 ? a + rank : a)] = true;
  }
  reduction r;
  r.collapse.assign(x.rank(), 0);
  int64_t step = 1;
  for (size_t d = x.rank(); d-- > 0;) {
    if (!reduced[d]) {
      r.collapse[d] = step;
      step *= x.dims[d];
    }
  }
  for (size_t d = 0; d < x.rank(); ++d) {
    if (!reduced[d]) r.kept.push_back(x.dims[d]);
    if (reduced[d] && keep) r.kept.push_back(1);
  }
  return r;
}

/// The place in the result of each element of the input, in order.
template <class F>
void for_each_place(const dims_t& dims, const dims_t& steps, size_t count, F f) {
  dims_t at(dims.size(), 0);
  int64_t place = 0;
  for (size_t i = 0; i < count; ++i) {
    f(i, static_cast<size_t>(place));
    for (size_t d = dims.size(); d-- > 0;) {
      place += steps[d];
      if (++at[d] < dims[d]) break;
      place -= steps[d] * dims[d];
      at[d] = 0;
    }
  }
}

/// NaN wins.
std::vector<double> reduce(const view& x, const reduction& r, size_t results, bool smallest) {
  std::vector<double> out(results, smallest ? HUGE_VAL : -HUGE_VAL);
  const auto values = load_numbers(x);
  for_each_place(x.dims, r.collapse, values.size(), [&](size_t i, size_t place) {
    double& best = out[place];
    if (std::isnan(values[i]) || (smallest ? values[i] < best : values[i] > best)) best = std::isnan(best) ? best : values[i];
  });
  return out;
}

size_t product(const dims_t& dims) {
  size_t n = 1;
  for (const int64_t d : dims) n *= static_cast<size_t>(d);
  return n;
}

/// low, high: handles, or null where the op has no such result.
int plan_extremes(planning& p, const void* x_, const dims_t& axes, bool keep, const void* low_, const void* high_, bool wants_low, bool wants_high,
                  uint64_t* workspace, void** executor) {
  p.products(family::all);
  const tensor* x = p.in(x_, "self");
  const tensor* low = wants_low ? p.out(low_, "min") : nullptr;
  const tensor* high = wants_high ? p.out(high_, "max") : nullptr;
  if (const int c = p.failed()) return c;
  p.require(is_float(x->type), "self is not fp32, fp16 or bf16");
  p.require(x->count() > 0, "nothing to reduce");
  const reduction r = plan_axes(p, *x, axes, keep);
  if (const int c = p.failed()) return c;
  for (const tensor* t : {low, high}) {
    p.require(t == nullptr || (t->type == x->type && t->dims == r.kept), "a result has not the dtype of self and the reduced shape");
  }
  const size_t results = product(r.kept);
  return p.finish(32768 + copy_workspace({x}), workspace, executor, [=](std::span<const view> v) {
    size_t next = 1;
    if (wants_low) store_numbers(v[next++], reduce(v[0], r, results, true));
    if (wants_high) store_numbers(v[next], reduce(v[0], r, results, false));
    return 0;
  });
}

}  // namespace

namespace api {

int aclnnAminmax(tensor_t x, const void* dims, bool keep, tensor_t low, tensor_t high, uint64_t* workspace, void** executor) {
  planning p{"aclnnAminmax"};
  const int_array* axes = p.array(dims, "dim");
  if (const int c = p.failed()) return c;
  return plan_extremes(p, x, axes->values, keep, low, high, true, true, workspace, executor);
}

int aclnnAminmaxAll(tensor_t x, tensor_t low, tensor_t high, uint64_t* workspace, void** executor) {
  planning p{"aclnnAminmaxAll"};
  return plan_extremes(p, x, {}, false, low, high, true, true, workspace, executor);
}

int aclnnAmax(tensor_t x, const void* dims, bool keep, tensor_t out, uint64_t* workspace, void** executor) {
  planning p{"aclnnAmax"};
  const int_array* axes = p.array(dims, "dim");
  if (const int c = p.failed()) return c;
  return plan_extremes(p, x, axes->values, keep, nullptr, out, false, true, workspace, executor);
}

int aclnnAmin(tensor_t x, const void* dims, bool keep, tensor_t out, uint64_t* workspace, void** executor) {
  planning p{"aclnnAmin"};
  const int_array* axes = p.array(dims, "dim");
  if (const int c = p.failed()) return c;
  return plan_extremes(p, x, axes->values, keep, out, nullptr, true, false, workspace, executor);
}

int aclnnMaxDim(tensor_t x_, int64_t dim, bool keep, tensor_t out_, tensor_t index_, uint64_t* workspace, void** executor) {
  planning p{"aclnnMaxDim"};
  p.products(family::all);
  const tensor* x = p.in(x_, "self");
  const tensor* out = p.out(out_, "out");
  const tensor* index = p.out(index_, "indices");
  if (const int c = p.failed()) return c;
  p.require(is_float(x->type) && x->count() > 0, "self is not fp32, fp16 or bf16, or empty");
  const reduction r = plan_axes(p, *x, {dim}, keep);
  if (const int c = p.failed()) return c;
  p.require(out->type == x->type && out->dims == r.kept, "out has not the dtype of self and the reduced shape");
  p.require(is_one_of(index->type, {dtype::i64, dtype::i32}) && index->dims == r.kept, "indices is not int64 or int32 of the reduced shape");
  const size_t results = product(r.kept);
  const auto axis = static_cast<size_t>(dim < 0 ? dim + static_cast<int64_t>(x->rank()) : dim);
  return p.finish(32768 + copy_workspace({x}), workspace, executor, [=](std::span<const view> v) {
    const auto best = reduce(v[0], r, results, false);
    const auto values = load_numbers(v[0]);
    std::vector<double> where(results, -1);
    size_t inner = 1;
    for (size_t d = axis + 1; d < v[0].dims.size(); ++d) inner *= static_cast<size_t>(v[0].dims[d]);
    for_each_place(v[0].dims, r.collapse, values.size(), [&](size_t i, size_t place) {
      const bool same = values[i] == best[place] || (std::isnan(values[i]) && std::isnan(best[place]));
      if (same && where[place] < 0) where[place] = static_cast<double>(i / inner % static_cast<size_t>(v[0].dims[axis]));
    });
    store_numbers(v[1], best);
    store_numbers(v[2], where);
    return 0;
  });
}

/// Equal bins, both ends inclusive, outside and NaN ignored; equal ends: the range of the data. Counts are int32, then cast.
int aclnnHistc(tensor_t x_, int64_t bins, const void* low_, const void* high_, tensor_t out_, uint64_t* workspace, void** executor) {
  planning p{"aclnnHistc"};
  p.products(family::all);
  const tensor* x = p.in(x_, "self");
  const scalar* low = p.number(low_, "min");
  const scalar* high = p.number(high_, "max");
  const tensor* out = p.out(out_, "out");
  if (const int c = p.failed()) return c;
  p.require(is_one_of(x->type, {dtype::f32, dtype::f16, dtype::i32, dtype::i64, dtype::i16, dtype::i8, dtype::u8}),
            "self is not fp32, fp16 or an integer");
  p.require(bins > 0 && out->dims == dims_t{bins}, "bins is not positive, or out has not that many elements");
  p.require(is_one_of(out->type, {dtype::f32, dtype::f16, dtype::i32, dtype::i64, dtype::i16, dtype::i8, dtype::u8}),
            "out is not fp32, fp16 or an integer");
  p.require(low->value <= high->value, "min is above max");
  const bool torch = p.options().torch_histc;
  return p.finish(65536 + copy_workspace({x}), workspace, executor, [=, lo = low->value, hi = high->value](std::span<const view> v) {
    const auto values = load_numbers(v[0]);
    auto from = static_cast<float>(lo);
    auto to = static_cast<float>(hi);
    if (from == to && !values.empty()) {
      const auto [least, most] = std::minmax_element(values.begin(), values.end());
      from = static_cast<float>(*least);
      to = static_cast<float>(*most);
      if (from == to) from -= 1, to += 1;
    }
    std::vector<double> counts(static_cast<size_t>(bins), 0);
    for (const double value : values) {
      const auto at = static_cast<float>(value);
      if (!(at >= from && at <= to)) continue;
      const auto wide = static_cast<float>(bins);
      const auto bin = static_cast<int64_t>(torch ? (at - from) * wide / (to - from) : (at - from) / (to - from) * wide);
      counts[static_cast<size_t>(std::min(bin, bins - 1))] += 1;
    }
    store_numbers(v[1], counts);
    return 0;
  });
}

}  // namespace api
}  // namespace fake_acl
