#pragma once
#include <qlib/backend/ascend/scale_operation.hpp>
#include <qlib/backend/ascend/test_matrices.hpp>

#include <vector>

namespace qlib::inline v0::ascend {

namespace scaling {

struct work {
  matrix_view<float> x;
  std::span<const float> factors;
  bool by_column;
};

inline attempt run(lane& l, path p, const work& w, std::size_t first, std::size_t count) {
  const std::size_t cols = w.x.cols(), elements = count * cols;
  const std::span<const float> factors = w.by_column ? w.factors.first(cols) : w.factors.subspan(first, count);
  layout in;
  const std::size_t x_at = in.add(elements * 4), factors_at = in.add(factors.size() * 4);
  if (failure f = l.reserve(in.bytes(), elements * 4)) return f;
  const matrix_view<float> strip = w.x.strip(first, count);
  if (!stage_floats(host_matrix{matrix_view<const float>{strip}}, segments::of(cols, cols), reinterpret_cast<float*>(l.pinned_in() + x_at)))
    return attempt::for_the_cpu();
  std::memcpy(l.pinned_in() + factors_at, factors.data(), factors.size_bytes());
  if (failure f = l.upload(in.bytes())) return f;
  const auto rows = static_cast<std::int64_t>(count), width = static_cast<std::int64_t>(cols);
  const tensor x = l.make_tensor(l.device_in() + x_at, dtype::f32, {rows, width}),
               factor = l.make_tensor(l.device_in() + factors_at, dtype::f32, {w.by_column ? 1 : rows, w.by_column ? width : 1}),
               y = l.make_tensor(l.device_out(), dtype::f32, {rows, width});
  const functions& api = l.api();
  const bool in_place = p == path::inplace_mul;
  op_call call{l.space(), in_place ? "aclnnInplaceMul" : "aclnnMul"};
  const std::int32_t code = in_place ? api.aclnnInplaceMulGetWorkspaceSize(x.handle(), factor.handle(), call.bytes(), call.executor())
                                     : api.aclnnMulGetWorkspaceSize(x.handle(), factor.handle(), y.handle(), call.bytes(), call.executor());
  if (failure f = call.plan(code)) return f;
  if (failure f = l.launch(call, in_place ? api.aclnnInplaceMul : api.aclnnMul)) return f;
  if (failure f = l.download(in_place ? l.device_in() + x_at : l.device_out(), elements * 4)) return f;
  unstage(reinterpret_cast<const float*>(l.pinned_out()), segments::of(cols, cols), strip);
  return {};
}

inline attempt test(lane& l, path p, dtype, bool& equal) {
  equal = true;
  for (const bool by_column : {false, true}) {
    test_matrix<float> x{3}, expected{3};
    std::vector<float> factors(by_column ? x.cols : x.rows);
    for (std::size_t i = 0; i < factors.size(); ++i) factors[i] = 0.3f + 0.17f * static_cast<float>(i);
    const attempt a = run(l, p, {{x.values.data(), x.rows, x.cols}, factors, by_column}, 0, x.rows);
    if (!a.done()) return a;
    for (std::size_t i = 0; i < x.size(); ++i) expected.values[i] *= factors[by_column ? i % x.cols : i / x.cols];
    equal = equal && x.values == expected.values;
  }
  return {};
}

inline constexpr path paths[] = {path::inplace_mul, path::mul};

inline chain scale_chain() { return {operation::scale, dtype::f32, paths, test}; }

inline void scale(lane& l, const work& w) {
  if (l.lost() || w.x.rows() == 0 || w.x.cols() == 0) return;
  run_chain(
      l, scale_chain().of_width(w.x.cols()), w.x.rows(), 1, w.x.cols() * 4,
      [&](path p, std::size_t first, std::size_t count) { return run(l, p, w, first, count); },
      [&](std::size_t first, std::size_t count) {
        for (std::size_t r = first; r < first + count; ++r)
          for (std::size_t c = 0; c < w.x.cols(); ++c) w.x(r, c) *= w.factors[w.by_column ? c : r];
      });
}

}  // namespace scaling

QLIB_INLINE void scale_rows(lane& l, matrix_view<float> x, std::span<const float> factors) { scaling::scale(l, {x, factors, false}); }

QLIB_INLINE void scale_columns(lane& l, matrix_view<float> x, std::span<const float> factors) { scaling::scale(l, {x, factors, true}); }

}  // namespace qlib::inline v0::ascend
