#pragma once
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/hold_operation.hpp>
#include <qlib/backend/ascend/quantize_operation.hpp>
#include <qlib/backend/ascend/range_operation.hpp>
#include <qlib/backend/ascend/test_matrices.hpp>
#include <qlib/backend/ascend/token_operation.hpp>
#include <qlib/backend/native.hpp>

#include <algorithm>
#include <vector>

namespace qlib::inline v0::ascend {

namespace token_wise {

inline constexpr quant_spec spec{};  // int8, symmetric, one scale a row, the ascend rule

inline attempt run(lane& l, path p, const host_matrix& x, std::size_t first, std::size_t count, matrix_view<std::int8_t> codes,
                   std::span<float> scales) {
  // Filled up by each row's last value, which changes no extreme.
  const segments cut = segments::of(x.cols, has_32_wide_tokens(l.known().family()) ? (x.cols + 31) / 32 * 32 : x.cols);
  const std::size_t elements = count * cut.width, element = x.element_bytes();
  layout out;
  const std::size_t codes_at = out.add(elements), scales_at = out.add(count * 4);
  if (failure f = l.reserve(elements * element, out.bytes())) return f;
  if (!stage_elements(x.strip(first, count), cut, l.pinned_in())) return attempt::for_the_cpu();
  if (failure f = l.upload(elements * element)) return f;
  const auto rows = static_cast<std::int64_t>(count), width = static_cast<std::int64_t>(cut.width);
  const tensor in = l.make_tensor(l.device_in(), x.type, {rows, width}), y = l.make_tensor(l.device_out() + codes_at, dtype::i8, {rows, width}),
               scale = l.make_tensor(l.device_out() + scales_at, dtype::f32, {rows});
  const functions& api = l.api();
  const bool second = p == path::dynamic_quant_v2;
  op_call call{l.space(), second ? "aclnnDynamicQuantV2" : "aclnnDynamicQuant"};
  const std::int32_t code =
      second ? api.aclnnDynamicQuantV2GetWorkspaceSize(in.handle(), nullptr, nullptr, type_int8, y.handle(), scale.handle(), nullptr, call.bytes(),
                                                       call.executor())
             : api.aclnnDynamicQuantGetWorkspaceSize(in.handle(), nullptr, y.handle(), scale.handle(), call.bytes(), call.executor());
  if (failure f = call.plan(code)) return f;
  if (failure f = l.launch(call, second ? api.aclnnDynamicQuantV2 : api.aclnnDynamicQuant)) return f;
  if (failure f = l.download(l.device_out(), out.bytes())) return f;
  unstage(reinterpret_cast<const std::int8_t*>(l.pinned_out() + codes_at), cut, codes.strip(first, count));
  std::memcpy(scales.data() + first, l.pinned_out() + scales_at, count * 4);
  // Rows of zeros have scale 0 there, or NaN; the smallest scale is ours alone; and where 127 / absmax is an f16, it must be a finite one.
  const float least = quantizes_in_f16(l.known().family()) ? 1.01f / 65504 : 0x1p-23f;
  for (std::size_t r = first; r < first + count; ++r) {
    if (scales[r] >= least) continue;
    quantize_per_token_on_host(x.strip(r, 1), codes.strip(r, 1), scales.subspan(r, 1));
  }
  return {};
}

inline attempt test(lane& l, path p, dtype type, bool& equal) {
  const auto compare = [&](auto x) -> attempt {
    std::fill_n(x.values.begin() + 3 * static_cast<std::ptrdiff_t>(x.cols), x.cols, typename decltype(x.values)::value_type{});
    std::vector<std::int8_t> found(x.size()), expected(x.size());
    std::vector<float> scales(x.rows), right(x.rows);
    const host_matrix m{x.view()};
    const attempt a = run(l, p, m, 0, x.rows, {found.data(), x.rows, x.cols}, scales);
    if (!a.done()) return a;
    quantize_per_token_on_host(m, {expected.data(), x.rows, x.cols}, right);
    const numeric_bounds bounds = bounds_of(l.known().family(), type);
    equal = codes_agree(found, expected, bounds, bounds.dynamic_rate);
    for (std::size_t r = 0; r < x.rows; ++r) equal = equal && std::fabs(scales[r] - right[r]) <= bounds.scale_relative * right[r];
    return {};
  };
  return type == dtype::bf16 ? compare(test_matrix<bf16>{5}) : compare(test_matrix<f16>{5});
}

inline constexpr path paths[] = {path::dynamic_quant, path::dynamic_quant_v2};

inline chain token_chain(dtype type) { return {operation::quantize_per_token, type, paths, test}; }

}  // namespace token_wise

QLIB_INLINE void quantize_per_token_on_host(const host_matrix& x, matrix_view<std::int8_t> codes, std::span<float> scales) {
  visit_floats(x, [&](auto view) {
    for (std::size_t r = 0; r < x.rows; ++r) {
      const auto row = view.strip(r, 1);
      range seen = range::empty();
      native_backend{}.ranges(row, tile::per_channel(), std::span{&seen, 1});
      if (!seen.defined()) {  // no scale: codes of nothing
        scales[r] = seen.min;
        std::memset(codes.row(r), 0, x.cols);
        continue;
      }
      scales[r] = solve_qparams(seen, token_wise::spec).scale;
      native_backend{}.quantize(row, token_wise::spec, const_qparams_view{{1, 1}, scales.subspan(r, 1), {}}, codes.strip(r, 1));
    }
  });
}

QLIB_INLINE void quantize_per_token(lane& l, const host_matrix& x, matrix_view<std::int8_t> codes, std::span<float> scales) {
  if (l.lost() || x.rows == 0 || x.cols == 0) return;
  const auto in_two_steps = [&](std::size_t first, std::size_t count) {
    const host_matrix strip = x.strip(first, count);
    const grid g = grid_of(tile::per_channel(), count, x.cols);
    std::vector<range> seen(count, range::empty());
    const hold_scope held{&l, strip};
    ranges(l, strip, tile::per_channel(), seen);
    if (l.lost()) return path::cpu;
    if (!std::all_of(seen.begin(), seen.end(), [](const range& r) { return r.defined(); })) {
      quantize_per_token_on_host(strip, codes.strip(first, count), scales.subspan(first, count));
      return path::cpu;
    }
    solve_qparams(seen, token_wise::spec, {g, scales.subspan(first, count), {}});
    quantize(l, strip, token_wise::spec, {g, scales.subspan(first, count), {}}, codes.strip(first, count));
    return path::in_two_steps;
  };
  run_chain(
      l, token_wise::token_chain(x.type).of_width(x.cols), x.rows, 1, x.cols * x.element_bytes(),
      [&](path p, std::size_t first, std::size_t count) { return token_wise::run(l, p, x, first, count, codes, scales); }, in_two_steps);
}

}  // namespace qlib::inline v0::ascend
