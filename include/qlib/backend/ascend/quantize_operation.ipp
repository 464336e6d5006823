#pragma once
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/numeric_bounds.hpp>
#include <qlib/backend/ascend/quantize_operation.hpp>
#include <qlib/backend/ascend/test_matrices.hpp>
#include <qlib/backend/ascend/tile_scales.hpp>
#include <qlib/backend/native.hpp>
#include <qlib/backend/scalar.hpp>

#include <vector>

namespace qlib::inline v0::ascend {

namespace quantizing {

struct work {
  host_matrix x;
  const quant_spec& spec;
  tile_scales scales;
  matrix_view<std::int8_t> codes;
};

using dims = std::initializer_list<std::int64_t>;

/// Where the operands are in the device's buffers.
struct operands {
  std::byte *x, *scale, *offset, *y;  ///< offset: null for symmetric codes
  std::int64_t rows, width, scales;
};

/// AscendQuantV3 or AscendQuant: y = round(x * scale + offset), saturated to int8.
inline failure call_quant(lane& l, path p, const operands& o) {
  const bool transposed = p == path::quant_v3_transposed || p == path::quant_transposed;
  const auto make = [&](std::byte* data, dtype type) {
    return transposed ? l.make_transposed(data, type, static_cast<std::size_t>(o.rows), static_cast<std::size_t>(o.width))
                      : l.make_tensor(data, type, {o.rows, o.width});
  };
  const tensor x = make(o.x, dtype::f32), y = make(o.y, dtype::i8), scale = l.make_tensor(o.scale, dtype::f32, {o.scales});
  const tensor offset = l.make_tensor(o.offset ? o.offset : o.scale, dtype::f32, {o.scales});
  void* const with_offset = o.offset ? offset.handle() : nullptr;
  const functions& api = l.api();
  if (p == path::quant_transposed || p == path::quant_columns) {
    op_call call{l.space(), "aclnnAscendQuant"};
    if (failure f = call.plan(api.aclnnAscendQuantGetWorkspaceSize(x.handle(), scale.handle(), with_offset, false, "round", type_int8, y.handle(),
                                                                   call.bytes(), call.executor())))
      return f;
    return l.launch(call, api.aclnnAscendQuant);
  }
  op_call call{l.space(), "aclnnAscendQuantV3"};
  if (failure f = call.plan(api.aclnnAscendQuantV3GetWorkspaceSize(x.handle(), scale.handle(), with_offset, false, "round", type_int8,
                                                                   p == path::quant_v3 ? -2 : -1, y.handle(), call.bytes(), call.executor())))
    return f;
  return l.launch(call, api.aclnnAscendQuantV3);
}

/// The same by elementwise ops. Between two scratch matrices; clamped before the cast, which is exact on small integers alone.
inline failure call_elementwise(lane& l, const operands& o, bool by_column, const quant_spec& spec, std::byte* a, std::byte* b) {
  const functions& api = l.api();
  const std::int64_t s0 = by_column ? 1 : o.scales, s1 = by_column ? o.scales : 1;
  const tensor x = l.make_tensor(o.x, dtype::f32, {o.rows, o.width}), ta = l.make_tensor(a, dtype::f32, {o.rows, o.width}),
               tb = l.make_tensor(b, dtype::f32, {o.rows, o.width}), y = l.make_tensor(o.y, dtype::i8, {o.rows, o.width}),
               scale = l.make_tensor(o.scale, dtype::f32, {s0, s1}), offset = l.make_tensor(o.offset ? o.offset : o.scale, dtype::f32, {s0, s1});
  const scalar one{l.dev(), 1.0f}, low{l.dev(), static_cast<float>(spec.qmin())}, high{l.dev(), static_cast<float>(spec.qmax())};
  op_call mul{l.space(), "aclnnMul"}, add{l.space(), "aclnnAdd"}, round{l.space(), "aclnnRound"}, clamp{l.space(), "aclnnClamp"},
      cast{l.space(), "aclnnCast"};
  if (failure f = mul.plan(api.aclnnMulGetWorkspaceSize(x.handle(), scale.handle(), ta.handle(), mul.bytes(), mul.executor()))) return f;
  if (failure f = l.launch(mul, api.aclnnMul)) return f;
  const tensor *from = &ta, *to = &tb;
  if (o.offset) {
    if (failure f = add.plan(api.aclnnAddGetWorkspaceSize(from->handle(), offset.handle(), one.handle(), to->handle(), add.bytes(), add.executor())))
      return f;
    if (failure f = l.launch(add, api.aclnnAdd)) return f;
    std::swap(from, to);
  }
  if (failure f = round.plan(api.aclnnRoundGetWorkspaceSize(from->handle(), to->handle(), round.bytes(), round.executor()))) return f;
  if (failure f = l.launch(round, api.aclnnRound)) return f;
  std::swap(from, to);
  if (failure f =
          clamp.plan(api.aclnnClampGetWorkspaceSize(from->handle(), low.handle(), high.handle(), to->handle(), clamp.bytes(), clamp.executor())))
    return f;
  if (failure f = l.launch(clamp, api.aclnnClamp)) return f;
  if (failure f = cast.plan(api.aclnnCastGetWorkspaceSize(to->handle(), type_int8, y.handle(), cast.bytes(), cast.executor()))) return f;
  return l.launch(cast, api.aclnnCast);
}

inline attempt run(lane& l, path p, const work& w, std::size_t first, std::size_t count) {
  const segments cut = w.scales.cut;
  const std::size_t elements = count * cut.row_elements(), scales = w.scales.count(count);
  const bool offsets = !w.spec.symmetric && w.scales.has_zero_points(), elementwise = p == path::quant_elementwise;
  layout in, scratch;
  const host_matrix strip = w.x.strip(first, count);
  std::byte* const held = cut.row_elements() == w.x.cols ? l.held(strip) : nullptr;
  const std::size_t x_at = in.add(held ? 0 : elements * 4), scale_at = in.add(scales * 4), offset_at = in.add(offsets ? scales * 4 : 0);
  const std::size_t a_at = scratch.add(elements * 4), b_at = scratch.add(elements * 4);
  if (failure f = l.reserve(in.bytes(), elements, elementwise ? scratch.bytes() : 0)) return f;
  const auto floats = [&](std::size_t at) { return reinterpret_cast<float*>(l.pinned_in() + at); };
  if (!held && !stage_floats(strip, cut, floats(x_at))) return attempt::for_the_cpu();
  w.scales.fill(first, count, floats(scale_at), [](float s, std::int32_t) { return 1.0f / s; });
  if (offsets) w.scales.fill(first, count, floats(offset_at), [](float, std::int32_t z) { return static_cast<float>(z); });
  if (failure f = l.upload(in.bytes())) return f;
  std::byte* const d = l.device_in();
  const operands o{held ? held : d + x_at,
                   d + scale_at,
                   offsets ? d + offset_at : nullptr,
                   l.device_out(),
                   static_cast<std::int64_t>(count * cut.per_row),
                   static_cast<std::int64_t>(cut.width),
                   static_cast<std::int64_t>(scales)};
  if (failure f = elementwise ? call_elementwise(l, o, w.scales.by_column, w.spec, l.scratch() + a_at, l.scratch() + b_at) : call_quant(l, p, o))
    return f;
  if (failure f = l.download(l.device_out(), elements)) return f;
  const auto* q = reinterpret_cast<const std::int8_t*>(l.pinned_out());
  const matrix_view<std::int8_t> codes = w.codes.strip(first, count);
  unstage(q, cut, codes);
  if (w.spec.num_bits < 8) {  // the device saturates to int8
    const auto low = static_cast<std::int8_t>(w.spec.qmin()), high = static_cast<std::int8_t>(w.spec.qmax());
    for (std::size_t r = 0; r < count; ++r)
      for (std::size_t c = 0; c < codes.cols(); ++c) codes(r, c) = std::clamp(codes(r, c), low, high);
  }
  return {};
}

/// Symmetric and asymmetric codes of a small matrix whose values lie in and beyond the range of codes.
inline attempt test(lane& l, path p, dtype, bool& equal) {
  const test_matrix<float> x{};
  const bool by_column = p == path::quant_v3_columns || p == path::quant_columns;
  const std::size_t scales = by_column ? x.cols : x.rows;
  std::vector<float> s(scales);
  std::vector<std::int32_t> z(scales);
  for (std::size_t i = 0; i < scales; ++i) {
    s[i] = 0.001f + 0.0003f * static_cast<float>(i);
    z[i] = static_cast<std::int32_t>(i % 50) - 20;
  }
  equal = true;
  for (const bool symmetric : {true, false}) {
    const quant_spec spec{.symmetric = symmetric, .granularity = by_column ? tile{0, 1} : tile::per_channel()};
    const const_qparams_view q{grid_of(spec.granularity, x.rows, x.cols), s, symmetric ? std::span<std::int32_t>{} : std::span{z}};
    std::vector<std::int8_t> found(x.size()), expected(x.size());
    const attempt a =
        run(l, p, {host_matrix{x.view()}, spec, tile_scales::of(spec.granularity, q, x.rows, x.cols), {found.data(), x.rows, x.cols}}, 0, x.rows);
    if (!a.done()) return a;
    scalar_backend{}.quantize(x.view(), spec, q, {expected.data(), x.rows, x.cols});
    const numeric_bounds bounds = bounds_of(l.known().family(), dtype::f32);
    equal = equal && codes_agree(found, expected, bounds, bounds.static_rate);
  }
  return {};
}

inline constexpr path row_paths[] = {path::quant_v3, path::quant_v3_transposed, path::quant_transposed, path::quant_elementwise};
inline constexpr path column_paths[] = {path::quant_v3_columns, path::quant_columns, path::quant_elementwise};

inline chain quantize_chain(bool by_column) {
  return {operation::quantize, dtype::f32, by_column ? std::span<const path>{column_paths} : std::span<const path>{row_paths}, test};
}

struct back_work {
  matrix_view<const std::int8_t> codes;
  tile_scales scales;
  matrix_view<float> out;
};

inline attempt run_back(lane& l, path, const back_work& w, std::size_t first, std::size_t count) {
  const segments cut = w.scales.cut;
  const std::size_t elements = count * cut.row_elements(), scales = w.scales.count(count);
  const bool offsets = w.scales.has_zero_points();
  layout in, scratch;
  const std::size_t q_at = in.add(elements), scale_at = in.add(scales * 4), offset_at = in.add(offsets ? scales * 4 : 0);
  const std::size_t a_at = scratch.add(elements * 4), b_at = scratch.add(offsets ? elements * 4 : 0);
  if (failure f = l.reserve(in.bytes(), elements * 4, scratch.bytes())) return f;
  const auto floats = [&](std::size_t at) { return reinterpret_cast<float*>(l.pinned_in() + at); };
  stage_codes(w.codes.strip(first, count), cut, reinterpret_cast<std::int8_t*>(l.pinned_in() + q_at));
  w.scales.fill(first, count, floats(scale_at), [](float s, std::int32_t) { return s; });
  if (offsets) w.scales.fill(first, count, floats(offset_at), [](float, std::int32_t z) { return -static_cast<float>(z); });
  if (failure f = l.upload(in.bytes())) return f;
  const auto rows = static_cast<std::int64_t>(count * cut.per_row), width = static_cast<std::int64_t>(cut.width);
  const std::int64_t s0 = w.scales.by_column ? 1 : rows, s1 = w.scales.by_column ? width : 1;
  const functions& api = l.api();
  const tensor q = l.make_tensor(l.device_in() + q_at, dtype::i8, {rows, width}), a = l.make_tensor(l.scratch() + a_at, dtype::f32, {rows, width}),
               b = l.make_tensor(l.scratch() + (offsets ? b_at : a_at), dtype::f32, {rows, width}),
               scale = l.make_tensor(l.device_in() + scale_at, dtype::f32, {s0, s1}),
               offset = l.make_tensor(l.device_in() + (offsets ? offset_at : scale_at), dtype::f32, {s0, s1}),
               y = l.make_tensor(l.device_out(), dtype::f32, {rows, width});
  const scalar one{l.dev(), 1.0f};
  op_call cast{l.space(), "aclnnCast"}, add{l.space(), "aclnnAdd"}, mul{l.space(), "aclnnMul"};
  if (failure f = cast.plan(api.aclnnCastGetWorkspaceSize(q.handle(), type_float, a.handle(), cast.bytes(), cast.executor()))) return f;
  if (failure f = l.launch(cast, api.aclnnCast)) return f;
  if (offsets) {
    if (failure f = add.plan(api.aclnnAddGetWorkspaceSize(a.handle(), offset.handle(), one.handle(), b.handle(), add.bytes(), add.executor())))
      return f;
    if (failure f = l.launch(add, api.aclnnAdd)) return f;
  }
  if (failure f = mul.plan(api.aclnnMulGetWorkspaceSize(b.handle(), scale.handle(), y.handle(), mul.bytes(), mul.executor()))) return f;
  if (failure f = l.launch(mul, api.aclnnMul)) return f;
  if (failure f = l.download(l.device_out(), elements * 4)) return f;
  unstage(reinterpret_cast<const float*>(l.pinned_out()), cut, w.out.strip(first, count));
  return {};
}

inline attempt test_back(lane& l, path p, dtype, bool& equal) {
  const test_matrix<float> x{};
  std::vector<std::int8_t> codes(x.size());
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::int8_t>(i * 37 % 256 - 128);
  std::vector<float> s(x.rows);
  std::vector<std::int32_t> z(x.rows);
  for (std::size_t i = 0; i < x.rows; ++i) {
    s[i] = 0.001f + 0.0003f * static_cast<float>(i);
    z[i] = static_cast<std::int32_t>(i) * 9 - 70;
  }
  equal = true;
  for (const bool symmetric : {true, false}) {
    const quant_spec spec{.symmetric = symmetric};
    const const_qparams_view q{grid_of(spec.granularity, x.rows, x.cols), s, symmetric ? std::span<std::int32_t>{} : std::span{z}};
    const matrix_view<const std::int8_t> view{codes.data(), x.rows, x.cols};
    std::vector<float> found(x.size()), expected(x.size());
    const attempt a = run_back(l, p, {view, tile_scales::of(spec.granularity, q, x.rows, x.cols), {found.data(), x.rows, x.cols}}, 0, x.rows);
    if (!a.done()) return a;
    scalar_backend{}.dequantize(view, spec, q, {expected.data(), x.rows, x.cols});
    equal = equal && found == expected;
  }
  return {};
}

inline constexpr path back_paths[] = {path::cast_mul};

inline chain dequantize_chain() { return {operation::dequantize, dtype::i8, back_paths, test_back}; }

/// The parameters of rows [first, first + count), which begin and end as in_tile_rows says.
inline const_qparams_view rows_of(const_qparams_view q, tile shape, std::size_t first, std::size_t count) {
  return q.strip(first / shape.rows * shape.rows, count, shape.rows);
}

/// Calls part(first row, rows) for the whole matrix, or for each row of tiles one column wide. False where those are too low.
template <class Part>
bool in_parts(const tile_scales& scales, std::size_t rows, Part part) {
  if (!scales.by_column) {
    part(0, rows);
    return true;
  }
  if (std::min(scales.shape.rows, rows) < least_column_rows) return false;
  for (std::size_t r = 0; r < rows; r += scales.shape.rows) part(r, std::min(scales.shape.rows, rows - r));
  return true;
}

}  // namespace quantizing

QLIB_INLINE void quantize(lane& l, const host_matrix& x, const quant_spec& spec, const_qparams_view q, matrix_view<std::int8_t> codes) {
  if (l.lost() || x.rows == 0 || x.cols == 0) return;
  const tile_scales scales = tile_scales::of(spec.granularity, q, x.rows, x.cols);
  const auto on_host = [&](std::size_t first, std::size_t count) {
    in_tile_rows(scales.shape, first, count, [&](std::size_t r, std::size_t n, std::size_t tile_rows) {
      quant_spec part = spec;
      part.granularity = {tile_rows, scales.shape.cols};
      visit_floats(x.strip(r, n),
                   [&](auto view) { native_backend{}.quantize(view, part, quantizing::rows_of(q, scales.shape, r, n), codes.strip(r, n)); });
    });
  };
  const quantizing::work w{x, spec, scales, codes};
  const bool fit = spec.type == number::integer && arithmetic_of_codes(spec) == dtype::f32 && have_reciprocals(q.scales.first(q.grid.tiles())) &&
                   (!may_quantize_in_f16(l.known().family()) || fit_f16(q));
  const chain c = quantizing::quantize_chain(scales.by_column).of_width(scales.cut.width);
  const bool done = fit && quantizing::in_parts(scales, x.rows, [&](std::size_t begin, std::size_t rows) {
                      run_chain(
                          l, c, rows, 1, scales.cut.row_elements() * 4,
                          [&](path p, std::size_t first, std::size_t count) { return quantizing::run(l, p, w, begin + first, count); },
                          [&](std::size_t first, std::size_t count) { on_host(begin + first, count); });
                    });
  if (done) return;
  l.record().note(operation::quantize, path::cpu);
  visit_floats(x, [&](auto view) { native_backend{}.quantize(view, spec, q, codes); });
}

QLIB_INLINE void dequantize(lane& l, matrix_view<const std::int8_t> codes, const quant_spec& spec, const_qparams_view q, matrix_view<float> out) {
  if (l.lost() || codes.rows() == 0 || codes.cols() == 0) return;
  const tile_scales scales = tile_scales::of(spec.granularity, q, codes.rows(), codes.cols());
  const quantizing::back_work w{codes, scales, out};
  const auto on_host = [&](std::size_t first, std::size_t count) {
    in_tile_rows(scales.shape, first, count, [&](std::size_t r, std::size_t n, std::size_t tile_rows) {
      quant_spec part = spec;
      part.granularity = {tile_rows, scales.shape.cols};
      native_backend{}.dequantize(codes.strip(r, n), part, quantizing::rows_of(q, scales.shape, r, n), out.strip(r, n));
    });
  };
  const chain c = quantizing::dequantize_chain().of_width(scales.cut.width);
  const bool done = spec.type == number::integer && quantizing::in_parts(scales, codes.rows(), [&](std::size_t begin, std::size_t rows) {
                      run_chain(
                          l, c, rows, 1, scales.cut.row_elements() * 4,
                          [&](path p, std::size_t first, std::size_t count) { return quantizing::run_back(l, p, w, begin + first, count); },
                          [&](std::size_t first, std::size_t count) { on_host(begin + first, count); });
                    });
  if (done) return;
  l.record().note(operation::dequantize, path::cpu);
  native_backend{}.dequantize(codes, spec, q, out);
}

}  // namespace qlib::inline v0::ascend
