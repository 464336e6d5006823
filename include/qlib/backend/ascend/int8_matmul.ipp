#pragma once
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/matmul_operation.hpp>
#include <qlib/backend/ascend/numeric_bounds.hpp>

#include <bit>
#include <cmath>
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

/// Columns [first, first + count) of out, as int32 sums: rows of the weight.
inline attempt run_whole(lane& l, path p, const work& a, std::size_t first, std::size_t count) {
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

/// A power of two that brings all sums over k into the range of f16, whose smaller multiples are exact: what f16 loses is its rounding alone.
inline int sum_exponent(std::size_t k) { return std::clamp(static_cast<int>(std::bit_width(k * 16384 - 1)) - 15, 0, 14); }

/// The same of a chip that has no int32 result: sums that the device rounds to f16. Its own scales are powers of two.
inline attempt run_half(lane& l, path p, const work& a, std::size_t first, std::size_t count) {
  const std::size_t m = a.x.rows(), k = a.x.cols();
  const bool wide = p == path::quant_matmul_v3_half;  // one 64-bit scale, and the weight as it is; else a scale a token, which wants FRACTAL_NZ
  const segments cut = segments::of(k, k);
  layout in;
  const std::size_t x_at = in.add(m * k), w_at = in.add(wide ? count * k : fractal_nz_bytes(count, k)), column_at = in.add(wide ? 8 : count * 4),
                    token_at = in.add(wide ? 0 : m * 4);
  if (failure f = l.reserve(in.bytes(), m * count * 2)) return f;
  const matrix_view<const std::int8_t> weight = a.w.strip(first, count);
  auto* const codes = reinterpret_cast<std::int8_t*>(l.pinned_in() + w_at);
  stage_codes(a.x, cut, reinterpret_cast<std::int8_t*>(l.pinned_in() + x_at));
  if (wide) stage_codes(weight, cut, codes);
  else stage_fractal_nz(weight, codes);
  const float down = std::ldexp(1.0f, -sum_exponent(k)), up = 1.0f / down;
  if (wide) {
    const std::uint64_t bits = std::bit_cast<std::uint32_t>(down) | std::uint64_t{1} << 46;  // a power of two has no bits that the format drops
    std::memcpy(l.pinned_in() + column_at, &bits, sizeof bits);
  } else {
    std::fill_n(reinterpret_cast<float*>(l.pinned_in() + column_at), count, down);
    std::fill_n(reinterpret_cast<float*>(l.pinned_in() + token_at), m, 1.0f);
  }
  if (failure f = l.upload(in.bytes())) return f;
  const auto rows = static_cast<std::int64_t>(m), inner = static_cast<std::int64_t>(k), cols = static_cast<std::int64_t>(count);
  std::byte* const d = l.device_in();
  const tensor x = l.make_tensor(d + x_at, dtype::i8, {rows, inner}), y = l.make_tensor(l.device_out(), dtype::f16, {rows, cols});
  const functions& api = l.api();
  if (wide) {
    const tensor w = l.make_tensor(d + w_at, dtype::i8, {cols, inner}), scale{l.dev(), d + column_at, type_uint64, {1}};
    op_call call{l.space(), "aclnnQuantMatmulV3"};
    if (failure f = call.plan(api.aclnnQuantMatmulV3GetWorkspaceSize(x.handle(), w.handle(), scale.handle(), nullptr, nullptr, false, true,
                                                                     y.handle(), call.bytes(), call.executor())))
      return f;
    if (failure f = l.launch(call, api.aclnnQuantMatmulV3)) return f;
  } else {
    const tensor w = tensor::fractal_nz(l.dev(), d + w_at, cols, inner), column = l.make_tensor(d + column_at, dtype::f32, {cols}),
                 token = l.make_tensor(d + token_at, dtype::f32, {rows});
    const bool fifth = p == path::quant_matmul_v5_half;
    op_call call{l.space(), fifth ? "aclnnQuantMatmulV5" : "aclnnQuantMatmulV4"};
    const std::int32_t code =
        fifth ? api.aclnnQuantMatmulV5GetWorkspaceSize(x.handle(), w.handle(), token.handle(), column.handle(), nullptr, nullptr, nullptr, nullptr,
                                                       nullptr, false, true, 0, y.handle(), call.bytes(), call.executor())
              : api.aclnnQuantMatmulV4GetWorkspaceSize(x.handle(), w.handle(), column.handle(), nullptr, token.handle(), nullptr, false, true,
                                                       y.handle(), call.bytes(), call.executor());
    if (failure f = call.plan(code)) return f;
    if (failure f = l.launch(call, fifth ? api.aclnnQuantMatmulV5 : api.aclnnQuantMatmulV4)) return f;
  }
  if (failure f = l.download(l.device_out(), m * count * 2)) return f;
  const auto* sums = reinterpret_cast<const f16*>(l.pinned_out());
  for (std::size_t i = 0; i < m * count; ++i)
    if (!std::isfinite(to_float(sums[i]))) return attempt::for_the_cpu();
  for (std::size_t r = 0; r < m; ++r)
    for (std::size_t c = 0; c < count; ++c) a.out(r, first + c) = to_float(sums[r * count + c]) * up * a.w_scales[first + c] * a.x_scales[r];
  return {};
}

inline bool to_half(path p) { return p == path::quant_matmul_v5_half || p == path::quant_matmul_v4_half || p == path::quant_matmul_v3_half; }

inline attempt run(lane& l, path p, const work& a, std::size_t first, std::size_t count) {
  return to_half(p) ? run_half(l, p, a, first, count) : run_whole(l, p, a, first, count);
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
  const float relative = to_half(p) ? int8_product_relative(soc_family::p310) : 0;
  equal = true;
  for (std::size_t i = 0; i < found.size(); ++i) equal = equal && std::fabs(found[i] - expected[i]) <= relative * std::fabs(expected[i]);
  return {};
}

inline constexpr path paths[] = {path::quant_matmul_v5,      path::quant_matmul_v4,      path::quant_matmul_v3,
                                 path::quant_matmul_v5_half, path::quant_matmul_v4_half, path::quant_matmul_v3_half};

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
        l, int8_product::product_chain().of_width(x.cols()), w.rows(), 1,
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
