#pragma once
#include <qlib/core/convert.hpp>
#include <qlib/core/quant_spec.hpp>
#include <qlib/core/range.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

namespace qlib::inline v0 {

/// Scales and zero points of the tiles of a matrix, row-major over its grid. x is stored as q with x = (q - zero_point) * scale.
///
/// `scales` hold values that `quant_spec::scale_dtype` represents exactly; `zero_points` is empty for symmetric specs.
template <class Float, class Int>
struct basic_qparams {
  qlib::grid grid;
  std::span<Float> scales;
  std::span<Int> zero_points;

  /// The tiles that cover matrix rows [first_row, first_row + rows), for a tile of `tile_rows` rows.
  basic_qparams strip(std::size_t first_row, std::size_t rows, std::size_t tile_rows) const {
    const std::size_t first = first_row / tile_rows, count = (rows + tile_rows - 1) / tile_rows;
    return {{count, grid.cols},
            scales.subspan(first * grid.cols, count * grid.cols),
            zero_points.empty() ? zero_points : zero_points.subspan(first * grid.cols, count * grid.cols)};
  }
};

using qparams_view = basic_qparams<float, std::int32_t>;
using const_qparams_view = basic_qparams<const float, const std::int32_t>;

inline const_qparams_view as_const(const qparams_view& q) { return {q.grid, q.scales, q.zero_points}; }

/// round_to as one piece of code: a tile's parameters are rounded in ten places, which would be 5 KB of them.
[[gnu::noinline]] inline float rounded_to(dtype t, float x) { return round_to(t, x); }

struct scale_and_zero {
  float scale;
  std::int32_t zero_point;
};

/// The scale and zero point of one tile: the rounding contract in one place (docs/rounding.md; peers' formulas in the same order of
/// operations, each rounded to `spec.arithmetic`).
///
/// `seen` must be defined; an empty range counts as {0, 0}. Zero is always representable. The result's scale is exact in
/// `spec.scale_dtype` and never zero.
inline scale_and_zero solve_qparams(range seen, const quant_spec& spec) {
  const auto rd = [&](float x) { return spec.arithmetic == dtype::f32 ? x : rounded_to(spec.arithmetic, x); };
  const auto store = [&](float s) { return spec.scale_dtype == dtype::f32 ? s : rounded_to(spec.scale_dtype, s); };
  const float low = std::min(seen.min, 0.0f), high = std::max(seen.max, 0.0f);
  const float absmax = std::max(-low, high);
  const bool ascend = spec.rule == scale_rule::ascend;
  const auto positive = [&](float s) {  // what a rule says of scales that are, or round to, zero
    const float smallest = ascend ? rd(0x1p-23f) : epsilon_of(spec.arithmetic == dtype::f32 ? spec.scale_dtype : spec.arithmetic);
    if (ascend) s = std::max(s, smallest);
    s = store(s);
    return s > 0.0f ? s : store(smallest);
  };

  if (spec.type == number::floating) {
    const float s = store(rd((ascend ? std::max(absmax, 1e-12f) : absmax) / e4m3_max));
    return {s > 0.0f ? s : store(epsilon_of(spec.arithmetic == dtype::f32 ? spec.scale_dtype : spec.arithmetic)), 0};
  }
  const float qmin = static_cast<float>(spec.qmin()), qmax = static_cast<float>(spec.qmax()), steps = qmax - qmin;
  if (spec.symmetric) return {positive(rd(absmax / (ascend ? qmax : steps / 2))), 0};
  const float width = rd(high - low);  // may overflow where neither end does
  const float s = positive(ascend || std::isinf(width) ? rd(rd(high / steps) - rd(low / steps)) : rd(width / steps));
  // A tile of zeros alone: 0 / 0 is no zero point, and LLM-Compressor stores 0.
  if (!ascend && width == 0) return {s, static_cast<std::int32_t>(std::clamp(0.0f, qmin, qmax))};
  const float z = ascend ? std::nearbyint(rd(-low / s)) + qmin : std::nearbyint(std::clamp(rd(qmin - rd(low / s)), qmin, qmax));
  return {s, static_cast<std::int32_t>(std::clamp(z, qmin, qmax))};
}

/// The same for all tiles. ranges, scales (and zero_points unless symmetric): one a tile.
inline void solve_qparams(std::span<const range> ranges, const quant_spec& spec, qparams_view out) {
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const scale_and_zero q = solve_qparams(ranges[i], spec);
    out.scales[i] = q.scale;
    if (!out.zero_points.empty()) out.zero_points[i] = q.zero_point;
  }
}

/// What the division by a scale is rounded to.
constexpr dtype arithmetic_of_codes(const quant_spec& spec) { return spec.nearest_codes ? dtype::f32 : spec.arithmetic; }

/// q of one value, as an integer in [qmin, qmax]: `clamp(round_half_even(x / s + z))`, every operation rounded to arithmetic_of_codes(spec).
inline std::int32_t quantize_value(float x, float scale, std::int32_t zero_point, const quant_spec& spec) {
  const dtype type = arithmetic_of_codes(spec);
  float y = round_to(type, x / scale);
  if (!spec.symmetric) y = round_to(type, y + static_cast<float>(zero_point));
  y = std::clamp(y, static_cast<float>(spec.qmin()), static_cast<float>(spec.qmax()));
  return static_cast<std::int32_t>(std::nearbyint(y));
}

/// The e4m3 code of one value: `e4m3(clamp(x / s, +-448))`. Compressed-tensors adds a zero point of 0, which makes 0 of a weight that is -0.
inline std::uint8_t quantize_value_e4m3(float x, float scale, const quant_spec& spec) {
  if (spec.rule != scale_rule::ascend) x += 0.0f;
  return to_e4m3(std::clamp(round_to(arithmetic_of_codes(spec), x / scale), -e4m3_max, e4m3_max));
}

}  // namespace qlib::inline v0
