// Ranges of tiles, and the parameters that follow from them, for one SIMD target (see highway_lanes-inl.hpp about the guard).
#if defined(QLIB_BACKEND_HIGHWAY_RANGE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QLIB_BACKEND_HIGHWAY_RANGE_INL
#undef QLIB_BACKEND_HIGHWAY_RANGE_INL
#else
#define QLIB_BACKEND_HIGHWAY_RANGE_INL
#endif

#include <qlib/backend/highway_lanes-inl.hpp>

#if QLIB_HIGHWAY_KERNELS
HWY_BEFORE_NAMESPACE();
namespace qlib::inline v0 {
namespace HWY_NAMESPACE {

/// The range of a few values, or of values among which some may not be finite.
template <class T>
HWY_INLINE range range_by_value(const T* x, std::size_t n) {
  range seen = range::empty();
  for (std::size_t i = 0; i < n; ++i) seen = join(seen, range_of_value(qlib::to_float(x[i])));
  return seen;
}

/// Values lane by lane. The sum is NaN if a value is: infinities may make it so too, never hide it.
struct lane_extremes {
  floats low, high, sum;

  explicit HWY_INLINE lane_extremes(floats x) : low{x}, high{x}, sum{x} {}
  HWY_INLINE void add(floats x) {
    low = hn::Min(low, x);
    high = hn::Max(high, x);
    sum = hn::Add(sum, x);
  }
  HWY_INLINE void add(const lane_extremes& other) {
    low = hn::Min(low, other.low);
    high = hn::Max(high, other.high);
    sum = hn::Add(sum, other.sum);
  }
};

/// The range of row[first, first + n).
HWY_INLINE range range_of(const float* row, std::size_t first, std::size_t n, const next_strip& next) {
  const float* x = row + first;
  if (n < lanes) return range_by_value(x, n);
  const float_tag d;
  lane_extremes a{hn::LoadU(d, x)}, b = a, c = a, e = a;  // four, to hide the latency of float operations
  std::size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    next.prefetch(row, (first + i) * sizeof(float), 4 * lanes * sizeof(float));
    a.add(hn::LoadU(d, x + i));
    b.add(hn::LoadU(d, x + i + lanes));
    c.add(hn::LoadU(d, x + i + 2 * lanes));
    e.add(hn::LoadU(d, x + i + 3 * lanes));
  }
  for (; i < n; i += lanes) a.add(hn::LoadU(d, x + (i + lanes <= n ? i : n - lanes)));  // the last may overlap the one before
  a.add(b);
  c.add(e);
  a.add(c);
  const float low = hn::GetLane(hn::MinOfLanes(d, a.low)) + 0.0f, high = hn::GetLane(hn::MaxOfLanes(d, a.high)) + 0.0f;  // -0 counts as 0
  if (std::isfinite(low) && std::isfinite(high) && hn::AllFalse(d, hn::IsNaN(a.sum))) return {low, high};
  return range_by_value(x, n);
}

/// The same of 16-bit values, on their bit patterns. NaN and infinities have the largest magnitudes, so two extremes tell all: as signed numbers
/// the largest pattern is the largest non-negative value; as unsigned numbers it is the lowest negative one.
template <class T>
HWY_INLINE range range_of(const T* row, std::size_t first, std::size_t n, const next_strip& next) {
  const T* x = row + first;
  const i16_tag di;
  const u16_tag du;
  constexpr std::size_t step = 2 * lanes;
  if (n < step) return range_by_value(x, n);
  const auto* bits = reinterpret_cast<const std::int16_t*>(x);
  auto top = hn::LoadU(di, bits), top2 = top;
  auto largest = hn::BitCast(du, top), largest2 = largest;
  std::size_t i = 0;
  for (; i + 2 * step <= n; i += 2 * step) {
    next.prefetch(row, (first + i) * sizeof(T), 2 * step * sizeof(T));
    const auto a = hn::LoadU(di, bits + i), b = hn::LoadU(di, bits + i + step);
    top = hn::Max(top, a);
    top2 = hn::Max(top2, b);
    largest = hn::Max(largest, hn::BitCast(du, a));
    largest2 = hn::Max(largest2, hn::BitCast(du, b));
  }
  for (; i < n; i += step) {
    const auto a = hn::LoadU(di, bits + (i + step <= n ? i : n - step));
    top = hn::Max(top, a);
    largest = hn::Max(largest, hn::BitCast(du, a));
  }
  // The reductions are of 32-bit lanes: patterns keep their order in the upper halves.
  const i32_tag d32;
  const u32_tag du32;
  const auto t = hn::BitCast(d32, hn::Max(top, top2));
  const auto l = hn::BitCast(du32, hn::Max(largest, largest2));
  const auto t32 = hn::Max(hn::ShiftLeft<16>(t), hn::And(t, hn::Set(d32, static_cast<std::int32_t>(0xffff0000u))));
  const auto l32 = hn::Max(hn::ShiftLeft<16>(l), hn::And(l, hn::Set(du32, 0xffff0000u)));
  const auto highest = static_cast<std::int16_t>(hn::GetLane(hn::MaxOfLanes(d32, t32)) >> 16);
  const auto lowest = static_cast<std::uint16_t>(hn::GetLane(hn::MaxOfLanes(du32, l32)) >> 16);
  constexpr std::uint16_t infinity = std::is_same_v<T, f16> ? 0x7c00u : 0x7f80u;
  if (highest >= infinity || lowest >= (infinity | 0x8000u)) return range::undefined();
  if (highest < 0 || lowest < 0x8000u) return range_by_value(x, n);                                          // all of one sign: rare in weights
  return {qlib::to_float(T{lowest}) + 0.0f, qlib::to_float(T{static_cast<std::uint16_t>(highest)}) + 0.0f};  // -0 counts as 0
}

struct lowest_of {
  HWY_INLINE floats operator()(floats a, floats b) const { return hn::Min(a, b); }
};
struct highest_of {
  HWY_INLINE floats operator()(floats a, floats b) const { return hn::Max(a, b); }
};

/// Within each 128-bit block, lane k becomes the extreme of vector k's lanes of that block.
template <class Join>
HWY_INLINE floats reduce_four(floats a, floats b, floats c, floats e) {
  const float_tag d;
  const hn::RepartitionToWide<float_tag> dw;
  const Join join{};
  const auto ab = hn::BitCast(dw, join(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b)));
  const auto ce = hn::BitCast(dw, join(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e)));
  return join(hn::BitCast(d, hn::InterleaveLower(dw, ab, ce)), hn::BitCast(d, hn::InterleaveUpper(dw, ab, ce)));
}

/// Reduces `lanes` vectors, given as reduce_four's results of each four: lane k of the result is the extreme of vector k. A third of the
/// shuffles that one reduction after the other takes.
template <class Join>
HWY_INLINE floats reduce_all(const floats* fours) {
#if HWY_MAX_BYTES == 16
  return fours[0];
#else
  const float_tag d;
  const Join join{};
#if HWY_MAX_BYTES == 32
  return join(hn::ConcatLowerLower(d, fours[1], fours[0]), hn::ConcatUpperUpper(d, fours[1], fours[0]));
#else
  const floats a = join(hn::ConcatLowerLower(d, fours[2], fours[0]), hn::ConcatUpperUpper(d, fours[2], fours[0]));
  const floats b = join(hn::ConcatLowerLower(d, fours[3], fours[1]), hn::ConcatUpperUpper(d, fours[3], fours[1]));
  return join(hn::OddEvenBlocks(b, a), hn::SwapAdjacentBlocks(hn::OddEvenBlocks(a, b)));
#endif
#endif
}

template <class T>
HWY_INLINE lane_extremes group_extremes(const T* x, std::size_t group) {
  const float_pair first = load_pair(x);
  lane_extremes a{first.first}, b{first.second};
  for (std::size_t i = 2 * lanes; i < group; i += 2 * lanes) {
    const float_pair next = load_pair(x + i);
    a.add(next.first);
    b.add(next.second);
  }
  a.add(b);
  return a;
}

/// Joins the ranges of `lanes` groups of row[first...), each a multiple of 2 * lanes values, into `out`. False, and nothing done, if a
/// value or a range in `out` is not finite.
template <class T>
HWY_INLINE bool join_groups(const T* row, std::size_t first, std::size_t group, range* out, const next_strip& next) {
  const float_tag d;
  floats lows[lanes / 4], highs[lanes / 4], sum = hn::Zero(d);
  for (std::size_t k = 0; k < lanes / 4; ++k, first += 4 * group) {
    next.prefetch(row, first * sizeof(T), 4 * group * sizeof(T));
    const T* x = row + first;
    const lane_extremes a = group_extremes(x, group), b = group_extremes(x + group, group), c = group_extremes(x + 2 * group, group),
                        e = group_extremes(x + 3 * group, group);
    lows[k] = reduce_four<lowest_of>(a.low, b.low, c.low, e.low);
    highs[k] = reduce_four<highest_of>(a.high, b.high, c.high, e.high);
    sum = hn::Add(sum, hn::Add(hn::Add(a.sum, b.sum), hn::Add(c.sum, e.sum)));
  }
  const floats low = hn::Add(reduce_all<lowest_of>(lows), hn::Zero(d)), high = hn::Add(reduce_all<highest_of>(highs), hn::Zero(d));  // no -0
  const floats finite = hn::Set(d, std::numeric_limits<float>::max());
  floats old_low, old_high;
  hn::LoadInterleaved2(d, reinterpret_cast<const float*>(out), old_low, old_high);
  const auto good = hn::And(hn::And(hn::Ge(low, hn::Neg(finite)), hn::Le(high, finite)), hn::And(hn::Eq(old_low, old_low), hn::Eq(sum, sum)));
  if (!hn::AllTrue(d, good)) return false;
  hn::StoreInterleaved2(hn::Min(old_low, low), hn::Max(old_high, high), d, reinterpret_cast<float*>(out));
  return true;
}

template <class T>
void ranges(matrix_view<const T> x, tile t, std::span<range> out) {
  static_assert(sizeof(range) == 2 * sizeof(float));
  if (x.size() == 0) return;
  const tile shape = resolve(t, x.rows(), x.cols());
  const std::size_t grid_cols = (x.cols() + shape.cols - 1) / shape.cols, whole_groups = x.cols() / shape.cols;
  const bool together = shape.cols % (2 * lanes) == 0 && shape.cols <= 512 && whole_groups >= lanes;
  const next_strip next{x, next_strip::half::first};
  for (std::size_t r = 0; r < x.rows(); ++r) {
    const T* row = x.row(r);
    range* seen = out.data() + r / shape.rows * grid_cols;
    std::size_t j = 0;
    const auto one_by_one = [&](std::size_t end) {
      for (; j < end; ++j) seen[j] = join(seen[j], range_of(row, j * shape.cols, std::min(shape.cols, x.cols() - j * shape.cols), next));
    };
    while (together && j < whole_groups) {
      const std::size_t first = std::min(j, whole_groups - lanes);  // the last may overlap the ones before: joining twice changes nothing
      if (join_groups(row, first * shape.cols, shape.cols, seen + first, next)) j = first + lanes;
      else one_by_one(first + lanes);
    }
    one_by_one(grid_cols);
  }
}

/// solve_qparams for integer codes, in the same order of operations; one division of a vector where the scalar one takes as long a value.
inline void solve_qparams(std::span<const range> seen, const quant_spec& spec, qparams_view out) {
  const bool to_bf16 = spec.scale_dtype == dtype::bf16;
  if (spec.type != number::integer || spec.arithmetic != dtype::f32 || (spec.scale_dtype != dtype::f32 && !to_bf16))
    return qlib::solve_qparams(seen, spec, out);
  const float_tag d;
  const u32_tag du;
  const floats none = hn::Zero(d), qmin = hn::Set(d, static_cast<float>(spec.qmin())), qmax = hn::Set(d, static_cast<float>(spec.qmax()));
  const floats steps = hn::Sub(qmax, qmin);
  const bool ascend = spec.rule == scale_rule::ascend;
  const floats divisor = ascend ? qmax : hn::Div(steps, hn::Set(d, 2.0f));
  const floats smallest = hn::Set(d, ascend ? 0x1p-23f : epsilon_of(spec.scale_dtype));
  const auto whole = seen.size() / lanes * lanes;
  for (std::size_t i = 0; i < whole; i += lanes) {
    floats low, high;
    hn::LoadInterleaved2(d, reinterpret_cast<const float*>(seen.data() + i), low, high);
    low = hn::Min(low, none);
    high = hn::Max(high, none);
    floats s = spec.symmetric ? hn::Div(hn::Max(hn::Neg(low), high), divisor)
               : ascend       ? hn::Sub(hn::Div(high, steps), hn::Div(low, steps))
                              : hn::Div(hn::Sub(high, low), steps);
    if (ascend) s = hn::Max(s, smallest);
    if (to_bf16) {
      const auto bits = hn::BitCast(du, s);
      const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7fffu)), hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u)));
      s = hn::BitCast(d, hn::And(rounded, hn::Set(du, 0xffff0000u)));
    }
    s = hn::IfThenElse(hn::Gt(s, none), s, smallest);
    hn::StoreU(s, d, out.scales.data() + i);
    if (out.zero_points.empty()) continue;
    floats z = none;
    if (!spec.symmetric)
      z = ascend ? hn::Add(hn::Round(hn::Div(hn::Neg(low), s)), qmin) : hn::Round(hn::Min(qmax, hn::Max(qmin, hn::Sub(qmin, hn::Div(low, s)))));
    hn::StoreU(hn::ConvertTo(i32_tag{}, hn::Min(qmax, hn::Max(qmin, z))), i32_tag{}, out.zero_points.data() + i);
  }
  qlib::solve_qparams(seen.subspan(whole), spec,
                      {out.grid, out.scales.subspan(whole), out.zero_points.empty() ? out.zero_points : out.zero_points.subspan(whole)});
}

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS
#endif  // toggle
