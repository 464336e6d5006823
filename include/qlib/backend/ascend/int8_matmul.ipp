#pragma once
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/matmul_operation.hpp>

#include <vector>

namespace qlib::inline v0::ascend {

namespace int8_product {

struct work {
  matrix_view<const std::int8_t> x;
  std::span<const float> x_scales;
  matrix_view<const std::int8_t> w;
  std::span<const float> w_scales;
  matrix_view<float> out;
};

/// Columns [first, first + count) of out: rows of the weight.
inline attempt run(lane& l, path p, const work& a, std::size_t first, std::size_t count) {
  const std::size_t m = a.x.rows(), k = a.x.cols();
  const segments cut = segments::of(k, k);
  layout in;
  const std::size_t x_at = in.add(m * k), w_at = in.add(count * k), scale_at = in.add(count * 4);
  if (failure f = l.reserve(in.bytes(), m * count * 4)) return f;
  stage_codes(a.x, cut, reinterpret_cast<std::int8_t*>(l.pinned_in() + x_at));
  stage_codes(a.w.strip(first, count), cut, reinterpret_cast<std::int8_t*>(l.pinned_in() + w_at));
  std::memcpy(l.pinned_in() + scale_at, a.w_scales.data() + first, count * 4);
  if (failure f = l.upload(in.bytes())) return f;
  const auto rows = static_cast<std::int64_t>(m), inner = static_cast<std::int64_t>(k), cols = static_cast<std::int64_t>(count);
  // The scale is an operand that must be there; an int32 result does not use it.
  const tensor x = l.make_tensor(l.device_in() + x_at, dtype::i8, {rows, inner}), w = l.make_tensor(l.device_in() + w_at, dtype::i8, {cols, inner}),
               scale = l.make_tensor(l.device_in() + scale_at, dtype::f32, {cols}), y = l.make_tensor(l.device_out(), dtype::i32, {rows, cols});
  const functions& api = l.api();
  if (p == path::quant_matmul_v5) {
    op_call call{l.space(), "aclnnQuantMatmulV5"};
    if (failure f = call.plan(api.aclnnQuantMatmulV5GetWorkspaceSize(x.handle(), w.handle(), nullptr, scale.handle(), nullptr, nullptr, nullptr,
                                                                     nullptr, nullptr, false, true, 0, y.handle(), call.bytes(), call.executor())))
      return f;
    if (failure f = l.launch(call, api.aclnnQuantMatmulV5)) return f;
  } else if (p == path::quant_matmul_v4) {
    op_call call{l.space(), "aclnnQuantMatmulV4"};
    if (failure f = call.plan(api.aclnnQuantMatmulV4GetWorkspaceSize(x.handle(), w.handle(), scale.handle(), nullptr, nullptr, nullptr, false, true,
                                                                     y.handle(), call.bytes(), call.executor())))
      return f;
    if (failure f = l.launch(call, api.aclnnQuantMatmulV4)) return f;
  } else {
    op_call call{l.space(), "aclnnQuantMatmulV3"};
    if (failure f = call.plan(api.aclnnQuantMatmulV3GetWorkspaceSize(x.handle(), w.handle(), scale.handle(), nullptr, nullptr, false, true,
                                                                     y.handle(), call.bytes(), call.executor())))
      return f;
    if (failure f = l.launch(call, api.aclnnQuantMatmulV3)) return f;
  }
  if (failure f = l.download(l.device_out(), m * count * 4)) return f;
  const auto* sums = reinterpret_cast<const std::int32_t*>(l.pinned_out());
  for (std::size_t r = 0; r < m; ++r)
    for (std::size_t c = 0; c < count; ++c) a.out(r, first + c) = static_cast<float>(sums[r * count + c]) * a.w_scales[first + c] * a.x_scales[r];
  return {};
}

inline attempt test(lane& l, path p, dtype, bool& equal) {
  constexpr std::size_t m = 16, k = 64, n = 32;
  std::vector<std::int8_t> x(m * k), w(n * k);
  std::vector<float> xs(m), ws(n), found(m * n), expected(m * n);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::int8_t>(i * 89 % 255 - 127);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<std::int8_t>(i * 57 % 255 - 127);
  for (std::size_t i = 0; i < m; ++i) xs[i] = 0.01f + 0.003f * static_cast<float>(i);
  for (std::size_t i = 0; i < n; ++i) ws[i] = 0.02f + 0.001f * static_cast<float>(i);
  const attempt a = run(l, p, {{x.data(), m, k}, xs, {w.data(), n, k}, ws, {found.data(), m, n}}, 0, n);
  if (!a.done()) return a;
  int8_matmul_on_host({x.data(), m, k}, xs, {w.data(), n, k}, ws, {expected.data(), m, n});
  equal = found == expected;
  return {};
}

inline constexpr path paths[] = {path::quant_matmul_v5, path::quant_matmul_v4, path::quant_matmul_v3};

inline chain product_chain() { return {operation::int8_matmul, dtype::i8, paths, test}; }

}  // namespace int8_product

QLIB_INLINE void int8_matmul_on_host(matrix_view<const std::int8_t> x, std::span<const float> x_scales, matrix_view<const std::int8_t> w,
                                     std::span<const float> w_scales, matrix_view<float> out) {
  for (std::size_t r = 0; r < x.rows(); ++r)
    for (std::size_t c = 0; c < w.rows(); ++c) {
      std::int32_t sum = 0;
      const std::int8_t *a = x.row(r), *b = w.row(c);
      for (std::size_t k = 0; k < x.cols(); ++k) sum += a[k] * b[k];
      out(r, c) = static_cast<float>(sum) * w_scales[c] * x_scales[r];
    }
}

QLIB_INLINE void int8_matmul(lane& l, matrix_view<const std::int8_t> x, std::span<const float> x_scales, matrix_view<const std::int8_t> w,
                             std::span<const float> w_scales, matrix_view<float> out) {
  if (l.lost() || x.rows() == 0 || w.rows() == 0) return;
  if (x.cols() == 0 || x.cols() > 65535) {
    l.record().note(operation::int8_matmul, path::cpu);
    return int8_matmul_on_host(x, x_scales, w, w_scales, out);
  }
  // Tokens in blocks as large as a chunk, and for each of them the weight's rows in chunks.
  for (std::size_t begin = 0; begin < x.rows();) {
    const std::size_t rows = std::min(x.rows() - begin, std::max<std::size_t>(1, l.chunk_bytes() / x.cols()));
    const matrix_view<const std::int8_t> tokens = x.strip(begin, rows);
    const int8_product::work a{tokens, x_scales.subspan(begin, rows), w, w_scales, out.strip(begin, rows)};
    run_chain(
        l, int8_product::product_chain(), w.rows(), 1,
        std::max(x.cols() + rows * 4, l.chunk_bytes() / 65535 + 1),  // no more rows than the ops' longest dimension
        [&](path p, std::size_t first, std::size_t count) { return int8_product::run(l, p, a, first, count); },
        [&](std::size_t first, std::size_t count) {
          const matrix_view<float> part{a.out.data() + first, rows, count, out.stride()};
          int8_matmul_on_host(tokens, a.x_scales, w.strip(first, count), w_scales.subspan(first, count), part);
        });
    if (l.lost()) return;
    begin += rows;
  }
}

}  // namespace qlib::inline v0::ascend
