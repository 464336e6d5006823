#pragma once
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/range_operation.hpp>
#include <qlib/backend/ascend/test_matrices.hpp>
#include <qlib/backend/ascend/tile_scales.hpp>
#include <qlib/backend/native.hpp>
#include <qlib/backend/scalar.hpp>

#include <vector>

namespace qlib::inline v0::ascend {

namespace ranging {

/// Extremes of each segment, or of each column, of some rows.
struct extremes {
  std::vector<float> min, max;
};

/// What the device reads: f32 of a matrix that is there already, else x's own type, or f32 where the chip has no bf16.
inline dtype device_type(const lane& l, const host_matrix& x, segments cut) {
  if (cut.row_elements() == x.cols && l.held(x)) return dtype::f32;
  return x.type == dtype::bf16 && !has_bf16(l.known().family()) ? dtype::f32 : x.type;
}

/// x where it is held as the device would read it; else null.
inline std::byte* held_values(const lane& l, const host_matrix& x, dtype type, segments cut) {
  return type == dtype::f32 && cut.row_elements() == x.cols ? l.held(x) : nullptr;
}

inline bool by_rows(path p) { return p == path::aminmax_columns || p == path::amin_amax_columns; }

/// Reduces rows [first, first + count) of x to one pair a segment, or, over rows, to one pair a column.
inline attempt run(lane& l, path p, const host_matrix& x, dtype type, segments cut, std::size_t first, std::size_t count, extremes& found) {
  const std::size_t element = bits_of(type) / 8, elements = count * cut.row_elements();
  const bool over_rows = by_rows(p), together = p == path::aminmax || p == path::aminmax_columns;
  const std::size_t results = over_rows ? cut.row_elements() : count * cut.per_row;
  layout out;
  const std::size_t min_at = out.add(results * element), max_at = out.add(results * element);
  const host_matrix strip = x.strip(first, count);
  std::byte* values = held_values(l, strip, type, cut);
  if (failure f = l.reserve(values ? 0 : elements * element, out.bytes())) return f;
  if (!values) {
    const bool finite =
        type == x.type ? stage_elements(strip, cut, l.pinned_in()) : stage_floats(strip, cut, reinterpret_cast<float*>(l.pinned_in()));
    if (!finite) return attempt::for_the_cpu();
    if (failure f = l.upload(elements * element)) return f;
    values = l.device_in();
  }
  const auto rows = static_cast<std::int64_t>(over_rows ? count : count * cut.per_row);
  const auto width = static_cast<std::int64_t>(over_rows ? cut.row_elements() : cut.width), n = static_cast<std::int64_t>(results);
  const functions& api = l.api();
  const tensor in = l.make_tensor(values, type, {rows, width}), low = l.make_tensor(l.device_out() + min_at, type, {n}),
               high = l.make_tensor(l.device_out() + max_at, type, {n});
  const int_array dims{l.dev(), {over_rows ? 0 : 1}};
  if (together) {
    op_call call{l.space(), "aclnnAminmax"};
    if (failure f = call.plan(
            api.aclnnAminmaxGetWorkspaceSize(in.handle(), dims.handle(), false, low.handle(), high.handle(), call.bytes(), call.executor())))
      return f;
    if (failure f = l.launch(call, api.aclnnAminmax)) return f;
  } else {
    op_call min{l.space(), "aclnnAmin"}, max{l.space(), "aclnnAmax"};
    if (failure f = min.plan(api.aclnnAminGetWorkspaceSize(in.handle(), dims.handle(), false, low.handle(), min.bytes(), min.executor()))) return f;
    if (failure f = l.launch(min, api.aclnnAmin)) return f;
    if (failure f = max.plan(api.aclnnAmaxGetWorkspaceSize(in.handle(), dims.handle(), false, high.handle(), max.bytes(), max.executor()))) return f;
    if (failure f = l.launch(max, api.aclnnAmax)) return f;
  }
  if (failure f = l.download(l.device_out(), out.bytes())) return f;
  const auto widen = [&](std::size_t at, std::vector<float>& to) {
    to.resize(results);
    host_matrix from;
    from.data = l.pinned_out() + at;
    from.type = type;
    from.rows = 1;
    from.cols = from.stride = results;
    visit_floats(from, [&](auto view) { scalar_backend{}.to_float(view, matrix_view<float>{to.data(), 1, results}); });
  };
  widen(min_at, found.min);
  widen(max_at, found.max);
  return {};
}

inline attempt test(lane& l, path p, dtype type, bool& equal) {
  const auto compare = [&](const auto& x) -> attempt {
    const host_matrix m{x.view()};
    extremes found;
    const attempt a = run(l, p, m, type, segments::of(x.cols, x.cols), 0, x.rows, found);
    if (!a.done()) return a;
    const tile t = by_rows(p) ? tile{0, 1} : tile::per_channel();
    std::vector<range> expected(grid_of(t, x.rows, x.cols).tiles());
    scalar_backend{}.ranges(x.view(), t, std::span{expected});
    equal = found.min.size() == expected.size();
    for (std::size_t i = 0; equal && i < expected.size(); ++i) equal = found.min[i] == expected[i].min && found.max[i] == expected[i].max;
    return {};
  };
  if (type == dtype::bf16) return compare(test_matrix<bf16>{});
  if (type == dtype::f16) return compare(test_matrix<f16>{});
  return compare(test_matrix<float>{});
}

/// Joins a pair that the device found; -0 counts as 0.
inline void join_into(range& to, float min, float max) { to = join(to, range{min + 0.0f, max + 0.0f}); }

inline constexpr path row_paths[] = {path::aminmax, path::amin_amax};
inline constexpr path column_paths[] = {path::aminmax_columns, path::amin_amax_columns};

inline chain range_chain(dtype type, bool by_column) {
  return {operation::ranges, type, by_column ? std::span<const path>{column_paths} : std::span<const path>{row_paths}, test};
}

inline chain absmax_chain(dtype type) { return {operation::column_absmax, type, column_paths, test}; }

}  // namespace ranging

QLIB_INLINE void ranges(lane& l, const host_matrix& x, tile t, std::span<range> out) {
  if (l.lost() || x.rows == 0 || x.cols == 0) return;
  const tile shape = resolve(t, x.rows, x.cols);
  const std::size_t grid_cols = grid_of(t, x.rows, x.cols).cols;
  const bool by_column = shape.cols == 1 && x.cols > 1;
  const segments cut = segments::of(x.cols, by_column ? x.cols : std::min(shape.cols, x.cols));
  const dtype type = ranging::device_type(l, x, cut);
  const auto on_host = [&](std::size_t first, std::size_t count) {
    in_tile_rows(shape, first, count, [&](std::size_t r, std::size_t n, std::size_t tile_rows) {
      visit_floats(x.strip(r, n), [&](auto view) {
        native_backend{}.ranges(view, {tile_rows, shape.cols},
                                out.subspan(r / shape.rows * grid_cols, (n + shape.rows - 1) / shape.rows * grid_cols));
      });
    });
  };
  const auto band = [&](std::size_t begin, std::size_t rows) {
    const chain c = ranging::range_chain(type, by_column).of_width(cut.width);
    run_chain(
        l, c, rows, 1, cut.row_elements() * bits_of(type) / 8,
        [&](path p, std::size_t first, std::size_t count) -> attempt {
          ranging::extremes found;
          attempt a = ranging::run(l, p, x, type, cut, begin + first, count, found);
          if (!a.done()) return a;
          for (std::size_t i = 0; i < found.min.size(); ++i) {
            const std::size_t row = begin + first + (by_column ? 0 : i / cut.per_row), col = by_column ? i : i % cut.per_row;
            ranging::join_into(out[row / shape.rows * grid_cols + col], found.min[i], found.max[i]);
          }
          return a;
        },
        [&](std::size_t first, std::size_t count) { on_host(begin + first, count); });
  };
  if (!by_column) return band(0, x.rows);
  if (std::min(shape.rows, x.rows) < least_column_rows) {
    l.record().note(operation::ranges, path::cpu);
    return on_host(0, x.rows);
  }
  for (std::size_t r = 0; r < x.rows; r += shape.rows) band(r, std::min(shape.rows, x.rows - r));
}

QLIB_INLINE void column_absmax(lane& l, const host_matrix& x, std::span<float> out) {
  if (l.lost() || x.rows == 0 || x.cols == 0) return;
  const segments cut = segments::of(x.cols, x.cols);
  const dtype type = ranging::device_type(l, x, cut);
  const chain c = ranging::absmax_chain(type).of_width(x.cols);
  run_chain(
      l, c, x.rows, 1, x.cols * bits_of(type) / 8,
      [&](path p, std::size_t first, std::size_t count) -> attempt {
        ranging::extremes found;
        attempt a = ranging::run(l, p, x, type, cut, first, count, found);
        if (!a.done()) return a;
        for (std::size_t i = 0; i < found.min.size(); ++i)
          if (!std::isnan(out[i])) out[i] = std::max({out[i], -found.min[i] + 0.0f, found.max[i] + 0.0f});
        return a;
      },
      [&](std::size_t first, std::size_t count) {
        visit_floats(x.strip(first, count), [&](auto view) { native_backend{}.column_absmax(view, out); });
      });
}

namespace counting {

/// Histc of rows [first, first + count), added to counts.
inline attempt run(lane& l, const host_matrix& x, range limits, std::size_t first, std::size_t count, std::span<std::uint32_t> counts) {
  const std::size_t elements = count * x.cols, bins = counts.size();
  const host_matrix strip = x.strip(first, count);
  const segments cut = segments::of(x.cols, x.cols);
  std::byte* values = ranging::held_values(l, strip, dtype::f32, cut);
  if (failure f = l.reserve(values ? 0 : elements * 4, bins * 4)) return f;
  if (!values) {
    if (!stage_floats(strip, cut, reinterpret_cast<float*>(l.pinned_in()))) return attempt::for_the_cpu();
    if (failure f = l.upload(elements * 4)) return f;
    values = l.device_in();
  }
  const tensor in = l.make_tensor(values, dtype::f32, {static_cast<std::int64_t>(elements)}),
               out = l.make_tensor(l.device_out(), dtype::i32, {static_cast<std::int64_t>(bins)});
  const scalar low{l.dev(), limits.min}, high{l.dev(), limits.max};
  op_call call{l.space(), "aclnnHistc"};
  if (failure f = call.plan(l.api().aclnnHistcGetWorkspaceSize(in.handle(), static_cast<std::int64_t>(bins), low.handle(), high.handle(),
                                                               out.handle(), call.bytes(), call.executor())))
    return f;
  if (failure f = l.launch(call, l.api().aclnnHistc)) return f;
  if (failure f = l.download(l.device_out(), bins * 4)) return f;
  const auto* found = reinterpret_cast<const std::uint32_t*>(l.pinned_out());
  for (std::size_t b = 0; b < bins; ++b) counts[b] += found[b];
  return {};
}

/// Values at the edges of all bins and beside them, and outside of the limits, for several limits.
inline attempt test(lane& l, path, dtype, bool& equal) {
  equal = true;
  std::uint32_t seed = 7;
  for (int round = 0; round < 8; ++round) {
    seed = seed * 1664525u + 1013904223u;
    const std::size_t bins = round % 2 ? 100 : 256;
    const range limits{-static_cast<float>(seed >> 22) / 777, static_cast<float>(1 + (seed >> 10 & 4095)) / 333};
    std::vector<float> x{limits.min - 1, limits.max + 1};
    for (std::size_t b = 0; b <= bins; ++b) {
      const double edge = limits.min + (static_cast<double>(limits.max) - limits.min) * static_cast<double>(b) / static_cast<double>(bins);
      float v = static_cast<float>(edge);
      for (int step = 0; step < 3; ++step) v = std::nextafter(v, -1e9f);
      for (int step = -3; step <= 3; ++step, v = std::nextafter(v, 1e9f)) x.push_back(v);
    }
    const matrix_view<const float> view{x.data(), 1, x.size()};
    std::vector<std::uint32_t> found(bins), expected(bins);
    const attempt a = run(l, host_matrix{view}, limits, 0, 1, found);
    if (!a.done()) return a;
    scalar_backend{}.histogram(view, limits, std::span{expected});
    equal = equal && found == expected;
  }
  return {};
}

inline constexpr path paths[] = {path::histc};

inline chain histogram_chain() { return {operation::histogram, dtype::f32, paths, test}; }

/// More bins leave the device's fast way.
inline std::size_t most_bins(soc_family family) { return family == soc_family::train1 || family == soc_family::p310 ? 2560 : 5120; }

}  // namespace counting

QLIB_INLINE void histogram(lane& l, const host_matrix& x, range limits, std::span<std::uint32_t> counts) {
  if (l.lost() || x.rows == 0 || x.cols == 0) return;
  const auto on_host = [&](std::size_t first, std::size_t count) {
    visit_floats(x.strip(first, count), [&](auto view) { native_backend{}.histogram(view, limits, counts); });
  };
  // Where the scalar backend's own arithmetic leaves the normal numbers, another order of the same operations gives other bins.
  const float width = limits.max - limits.min;
  const bool fit = std::isnormal(width) && width < 0x1p60f && width > 0x1p-60f && counts.size() <= counting::most_bins(l.known().family());
  if (!fit) {
    l.record().note(operation::histogram, path::cpu);
    return on_host(0, x.rows);
  }
  const chain c = counting::histogram_chain().of_width(x.cols);
  run_chain(
      l, c, x.rows, 1, x.cols * 4, [&](path, std::size_t first, std::size_t count) { return counting::run(l, x, limits, first, count, counts); },
      on_host);
}

}  // namespace qlib::inline v0::ascend
