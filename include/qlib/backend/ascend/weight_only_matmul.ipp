#pragma once
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/element_type.hpp>
#include <qlib/backend/ascend/matmul_operation.hpp>
#include <qlib/backend/ascend/numeric_bounds.hpp>
#include <qlib/backend/ascend/test_matrices.hpp>
#include <qlib/backend/ascend/tile_scales.hpp>
#include <qlib/backend/native.hpp>

#include <vector>

namespace qlib::inline v0::ascend {

namespace weight_only {

struct work {
  host_matrix x;
  matrix_view<const std::int8_t> w;
  tile_scales scales;  ///< of w; one a row, or a group
  dtype type;          ///< f16 or bf16: what the device computes with
  matrix_view<float> out;
};

inline void store(dtype type, float v, std::byte* out, std::size_t i) {
  if (type == dtype::f32) reinterpret_cast<float*>(out)[i] = v;
  else reinterpret_cast<std::uint16_t*>(out)[i] = type == dtype::bf16 ? to_bf16(v).bits : to_f16(v).bits;
}

/// AscendAntiQuant takes scales in f32, and in bf16 where the chip has that; the products those of x.
inline dtype scale_type(bool two_ops, dtype type) { return two_ops && type == dtype::f16 ? dtype::f32 : type; }

/// The scales of rows [first, first + count) of w as `type`; [row, group], or [group, row].
inline void stage_scales(const work& a, std::size_t first, std::size_t count, bool group_major, dtype type, std::byte* scales, std::byte* offsets) {
  const std::size_t groups = a.scales.cut.per_row;
  std::vector<float> s(count * groups), z(count * groups);
  a.scales.fill(first, count, s.data(), [](float scale, std::int32_t) { return scale; });
  a.scales.fill(first, count, z.data(), [](float, std::int32_t zero) { return -static_cast<float>(zero); });  // the device adds its offset
  for (std::size_t r = 0; r < count; ++r)
    for (std::size_t g = 0; g < groups; ++g) {
      const std::size_t to = group_major ? g * count + r : r * groups + g;
      store(type, s[r * groups + g], scales, to);
      if (offsets) store(type, z[r * groups + g], offsets, to);
    }
}

/// Columns [first, first + count) of out: rows of the weight.
inline attempt run(lane& l, path p, const work& a, std::size_t first, std::size_t count) {
  const std::size_t m = a.x.rows, k = a.x.cols, groups = a.scales.cut.per_row;
  const bool grouped = groups > 1, two_ops = p == path::anti_quant_mm, offsets = a.scales.has_zero_points();
  const std::size_t scales = count * groups;
  const dtype scaled_by = scale_type(two_ops, a.type);
  const std::size_t scale_bytes = scales * bits_of(scaled_by) / 8;
  layout in, scratch;
  const std::size_t x_at = in.add(m * k * 2), w_at = in.add(count * k), scale_at = in.add(scale_bytes), offset_at = in.add(offsets ? scale_bytes : 0);
  const std::size_t wide_at = scratch.add(two_ops ? count * k * 2 : 0);
  if (failure f = l.reserve(in.bytes(), m * count * 2, two_ops ? scratch.bytes() : 0)) return f;
  if (!stage_rounded(a.x, a.type, reinterpret_cast<std::uint16_t*>(l.pinned_in() + x_at))) return attempt::for_the_cpu();
  auto* codes = reinterpret_cast<std::int8_t*>(l.pinned_in() + w_at);
  const bool transposed_copy = grouped && !two_ops;  // per group the op wants [k, n] as it lies in memory
  if (transposed_copy) {
    for (std::size_t r = 0; r < count; ++r)
      for (std::size_t c = 0; c < k; ++c) codes[c * count + r] = a.w(first + r, c);
  } else {
    stage_codes(a.w.strip(first, count), segments::of(k, k), codes);
  }
  stage_scales(a, first, count, transposed_copy, scaled_by, l.pinned_in() + scale_at, offsets ? l.pinned_in() + offset_at : nullptr);
  if (failure f = l.upload(in.bytes())) return f;

  const auto rows = static_cast<std::int64_t>(m), inner = static_cast<std::int64_t>(k), cols = static_cast<std::int64_t>(count);
  const auto group = static_cast<std::int64_t>(a.scales.cut.width), per_row = static_cast<std::int64_t>(groups);
  std::byte* const d = l.device_in();
  const functions& api = l.api();
  const tensor x = l.make_tensor(d + x_at, a.type, {rows, inner}), y = l.make_tensor(l.device_out(), a.type, {rows, cols});
  if (two_ops) {
    // Each group of each row as a column: one scale a column of the transposed view.
    const tensor q = l.make_transposed(d + w_at, dtype::i8, scales, a.scales.cut.width),
                 wide = l.make_transposed(l.scratch() + wide_at, a.type, scales, a.scales.cut.width),
                 w = l.make_transposed(l.scratch() + wide_at, a.type, count, k), scale = l.make_tensor(d + scale_at, scaled_by, {cols * per_row}),
                 offset = l.make_tensor(d + (offsets ? offset_at : scale_at), scaled_by, {cols * per_row});
    op_call widen{l.space(), "aclnnAscendAntiQuant"}, mm{l.space(), "aclnnMm"};
    if (failure f = widen.plan(api.aclnnAscendAntiQuantGetWorkspaceSize(q.handle(), scale.handle(), offsets ? offset.handle() : nullptr,
                                                                        type_of(a.type), false, wide.handle(), widen.bytes(), widen.executor())))
      return f;
    if (failure f = l.launch(widen, api.aclnnAscendAntiQuant)) return f;
    if (failure f = mm.plan(api.aclnnMmGetWorkspaceSize(x.handle(), w.handle(), y.handle(), 0, mm.bytes(), mm.executor()))) return f;
    if (failure f = l.launch(mm, api.aclnnMm)) return f;
  } else {
    const tensor w = grouped ? l.make_tensor(d + w_at, dtype::i8, {inner, cols}) : l.make_transposed(d + w_at, dtype::i8, count, k);
    const auto make = [&](std::size_t at) {
      return grouped ? l.make_tensor(d + at, a.type, {per_row, cols}) : l.make_tensor(d + at, a.type, {cols});
    };
    const tensor scale = make(scale_at), offset = make(offsets ? offset_at : scale_at);
    void* const with_offset = offsets ? offset.handle() : nullptr;
    const std::int32_t group_size = grouped ? static_cast<std::int32_t>(group) : 0;
    const bool third = p == path::weight_quant_v3;
    op_call call{l.space(), third ? "aclnnWeightQuantBatchMatmulV3" : "aclnnWeightQuantBatchMatmulV2"};
    const std::int32_t code =
        third ? api.aclnnWeightQuantBatchMatmulV3GetWorkspaceSize(x.handle(), w.handle(), scale.handle(), with_offset, nullptr, nullptr, nullptr,
                                                                  group_size, 0, y.handle(), call.bytes(), call.executor())
              : api.aclnnWeightQuantBatchMatmulV2GetWorkspaceSize(x.handle(), w.handle(), scale.handle(), with_offset, nullptr, nullptr, nullptr,
                                                                  group_size, y.handle(), call.bytes(), call.executor());
    if (failure f = call.plan(code)) return f;
    if (failure f = l.launch(call, third ? api.aclnnWeightQuantBatchMatmulV3 : api.aclnnWeightQuantBatchMatmulV2)) return f;
  }
  if (failure f = l.download(l.device_out(), m * count * 2)) return f;
  const auto* found = reinterpret_cast<const std::uint16_t*>(l.pinned_out());
  for (std::size_t r = 0; r < m; ++r)
    for (std::size_t c = 0; c < count; ++c) {
      const std::uint16_t bits = found[r * count + c];
      a.out(r, first + c) = a.type == dtype::bf16 ? to_float(bf16{bits}) : to_float(f16{bits});
    }
  return {};
}

/// Per row and per group, with and without zero points.
inline attempt test(lane& l, path p, dtype type, bool& equal) {
  constexpr std::size_t k = 64, n = 32;
  const test_matrix<float> x{11};
  std::vector<std::int8_t> w(n * k);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<std::int8_t>(i * 57 % 255 - 127);
  equal = true;
  for (const tile t : {tile::per_channel(), tile::per_group(32)})
    for (const bool symmetric : {true, false}) {
      const quant_spec spec{.symmetric = symmetric, .granularity = t};
      const grid g = grid_of(t, n, k);
      std::vector<float> s(g.tiles());
      std::vector<std::int32_t> z(g.tiles());
      for (std::size_t i = 0; i < s.size(); ++i) {
        s[i] = 0.002f + 0.0001f * static_cast<float>(i);
        z[i] = static_cast<std::int32_t>(i % 17) - 8;
      }
      const const_qparams_view q{g, s, symmetric ? std::span<std::int32_t>{} : std::span{z}};
      const matrix_view<const std::int8_t> codes{w.data(), n, k};
      std::vector<float> found(x.rows * n), expected(x.rows * n), back(n * k);
      const host_matrix m{x.view()};
      const attempt a = run(l, p, {m, codes, tile_scales::of(t, q, n, k), type, {found.data(), x.rows, n}}, 0, n);
      if (!a.done()) return a;
      weight_only_matmul_on_host(m, codes, spec, q, {expected.data(), x.rows, n});
      native_backend{}.dequantize(codes, spec, q, {back.data(), n, k});
      for (std::size_t i = 0; i < found.size(); ++i) {
        float size = 0;
        for (std::size_t c = 0; c < k; ++c) size += std::fabs(x.values[i / n * k + c] * back[i % n * k + c]);
        equal = equal && std::fabs(found[i] - expected[i]) <= weight_only_relative(type) * size;
      }
    }
  return {};
}

inline constexpr path paths[] = {path::weight_quant_v3, path::weight_quant_v2, path::anti_quant_mm};

inline chain product_chain(dtype type) { return {operation::weight_only_matmul, type, paths, test}; }

}  // namespace weight_only

QLIB_INLINE void weight_only_matmul_on_host(const host_matrix& x, matrix_view<const std::int8_t> w, const quant_spec& spec, const_qparams_view q,
                                            matrix_view<float> out) {
  std::vector<float> back(w.size());
  native_backend{}.dequantize(w, spec, q, {back.data(), w.rows(), w.cols()});
  visit_floats(x, [&](auto view) {
    for (std::size_t r = 0; r < x.rows; ++r)
      for (std::size_t c = 0; c < w.rows(); ++c) {
        float sum = 0;
        for (std::size_t k = 0; k < x.cols; ++k) sum += to_float(view(r, k)) * back[c * w.cols() + k];
        out(r, c) = sum;
      }
  });
}

QLIB_INLINE void weight_only_matmul(lane& l, const host_matrix& x, matrix_view<const std::int8_t> w, const quant_spec& spec, const_qparams_view q,
                                    matrix_view<float> out) {
  if (l.lost() || x.rows == 0 || w.rows() == 0) return;
  const tile_scales scales = tile_scales::of(spec.granularity, q, w.rows(), w.cols());
  const dtype type = x.type == dtype::bf16 && has_bf16(l.known().family()) ? dtype::bf16 : dtype::f16;
  const std::size_t k = x.cols, group = scales.cut.width;
  // Scales that f16 rounds to fewer than its 11 bits, or to infinity, would be another weight's.
  const std::span<const float> used = q.scales.first(q.grid.tiles());
  const bool exact = type == dtype::bf16 || std::all_of(used.begin(), used.end(), [](float s) { return s >= 0x1p-14f && s <= 65504.0f; });
  const bool groups_fit = group == k || (group % 32 == 0 && k % group == 0);
  if (k == 0 || k > 65535 || spec.type != number::integer || scales.by_column || !groups_fit || !exact) {
    l.record().note(operation::weight_only_matmul, path::cpu);
    return weight_only_matmul_on_host(x, w, spec, q, out);
  }
  for (std::size_t begin = 0; begin < x.rows;) {
    const std::size_t rows = std::min(x.rows - begin, std::max<std::size_t>(1, l.chunk_bytes() / (k * 2)));
    const weight_only::work a{x.strip(begin, rows), w, scales, type, out.strip(begin, rows)};
    run_chain(
        l, weight_only::product_chain(type).of_width(k), w.rows(), 1,
        std::max(k * 3 + rows * 2, l.chunk_bytes() / 65535 + 1),  // no more rows than the ops' longest dimension
        [&](path p, std::size_t first, std::size_t count) { return weight_only::run(l, p, a, first, count); },
        [&](std::size_t first, std::size_t count) {
          const matrix_view<float> part{a.out.data() + first, rows, count, out.stride()};
          in_tile_rows(scales.shape, first, count, [&](std::size_t r, std::size_t n, std::size_t tile_rows) {
            quant_spec strip = spec;
            strip.granularity = {tile_rows, scales.shape.cols};
            weight_only_matmul_on_host(a.x, w.strip(r, n), strip, q.strip(r / scales.shape.rows * scales.shape.rows, n, scales.shape.rows),
                                       {part.data() + (r - first), rows, n, part.stride()});
          });
        });
    if (l.lost()) return;
    begin += rows;
  }
}

}  // namespace qlib::inline v0::ascend
