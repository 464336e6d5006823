// Ranges of tiles, and the parameters that follow from them, for one SIMD target (see highway_lanes-inl.hpp about the guard).
#if defined(QLIB_BACKEND_HIGHWAY_RANGE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QLIB_BACKEND_HIGHWAY_RANGE_INL
#undef QLIB_BACKEND_HIGHWAY_RANGE_INL
#else
#define QLIB_BACKEND_HIGHWAY_RANGE_INL
#endif

#include <qlib/backend/highway_column-inl.hpp>
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

struct low_and_high {
  floats low, high;
};

/// The extremes of a group of 2 * lanes * n floats, lane by lane. `poison` becomes NaN if a value is: products that overflow may make it so
/// too, nothing hides it.
HWY_INLINE low_and_high group_extremes(const float* x, std::size_t group, floats& poison) {
  const float_pair first = load_pair(x);
  floats low = hn::Min(first.first, first.second), high = hn::Max(first.first, first.second);
  poison = hn::MulAdd(first.first, first.second, poison);
  for (std::size_t i = 2 * lanes; i < group; i += 2 * lanes) {
    const float_pair next = load_pair(x + i);
    low = hn::Min(low, hn::Min(next.first, next.second));
    high = hn::Max(high, hn::Max(next.first, next.second));
    poison = hn::MulAdd(next.first, next.second, poison);
  }
  return {low, high};
}

/// The largest magnitude of a group as a bit pattern, lane by lane: those of NaN and infinities are above all others.
HWY_INLINE floats group_magnitudes(const float* x, std::size_t group) {
  const i32_tag d;
  const auto magnitude = hn::Set(d, 0x7fffffff);
  const auto* bits = reinterpret_cast<const std::int32_t*>(x);
  ints largest = hn::Max(hn::And(hn::LoadU(d, bits), magnitude), hn::And(hn::LoadU(d, bits + lanes), magnitude));
  for (std::size_t i = 2 * lanes; i < group; i += 2 * lanes)
    largest = hn::Max(largest, hn::Max(hn::And(hn::LoadU(d, bits + i), magnitude), hn::And(hn::LoadU(d, bits + i + lanes), magnitude)));
  return hn::BitCast(float_tag{}, largest);
}

struct largest_pattern {
  HWY_INLINE floats operator()(floats a, floats b) const {
    const i32_tag d;
    return hn::BitCast(float_tag{}, hn::Max(hn::BitCast(d, a), hn::BitCast(d, b)));
  }
};

/// The extremes of `lanes` groups of row[first...), each a multiple of 2 * lanes values; the ends of [-m, m], m the largest magnitude, if
/// Symmetric. False if a value is not finite.
template <class T, bool Symmetric>
requires std::is_same_v<T, float> HWY_INLINE bool extremes_of_groups(const T* row, std::size_t first, std::size_t group, floats& low, floats& high,
                                                                     const next_strip& next) {
  const float_tag d;
  const floats finite = hn::Set(d, std::numeric_limits<float>::max());
  floats lows[lanes / 4], highs[lanes / 4];
  floats poison = hn::Zero(d), poison_b = poison, poison_c = poison, poison_e = poison;  // four, to hide the latency of float operations
  for (std::size_t k = 0; k < lanes / 4; ++k, first += 4 * group) {
    next.prefetch(row, first * sizeof(T), 4 * group * sizeof(T));
    const T* x = row + first;
    if constexpr (Symmetric) {
      highs[k] = reduce_four<largest_pattern>(group_magnitudes(x, group), group_magnitudes(x + group, group), group_magnitudes(x + 2 * group, group),
                                              group_magnitudes(x + 3 * group, group));
    } else {
      const low_and_high a = group_extremes(x, group, poison), b = group_extremes(x + group, group, poison_b),
                         c = group_extremes(x + 2 * group, group, poison_c), e = group_extremes(x + 3 * group, group, poison_e);
      lows[k] = reduce_four<lowest_of>(a.low, b.low, c.low, e.low);
      highs[k] = reduce_four<highest_of>(a.high, b.high, c.high, e.high);
    }
  }
  if constexpr (Symmetric) {
    high = reduce_all<largest_pattern>(highs);
    low = hn::Neg(high);
    return hn::AllTrue(d, hn::Le(high, finite));
  } else {
    low = hn::Add(reduce_all<lowest_of>(lows), hn::Zero(d));  // no -0
    high = hn::Add(reduce_all<highest_of>(highs), hn::Zero(d));
    poison = hn::Add(hn::Add(poison, poison_b), hn::Add(poison_c, poison_e));
    return hn::AllTrue(d, hn::And(hn::And(hn::Ge(low, hn::Neg(finite)), hn::Le(high, finite)), hn::Eq(poison, poison)));
  }
}

/// 16-bit patterns: reduces group(0), group(1), ..., group(lanes - 1), a vector each, to one value each, widened to 32 bits. A vector is
/// asked for when it is needed: 16 of them and as many intermediate ones do not fit the registers.
template <class D, class Group>
HWY_INLINE hn::Vec<u32_tag> reduce_patterns(D d, Group group) {
  const hn::RepartitionToWide<D> d32;
  const hn::RepartitionToWide<decltype(d32)> d64;
  const auto two = [&](std::size_t k) HWY_ATTR {
    const auto a = group(k), b = group(k + 1);
    return hn::BitCast(d32, hn::Max(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b)));
  };
  const auto four = [&](std::size_t k) HWY_ATTR {
    const auto a = two(k), b = two(k + 2);
    return hn::Max(hn::BitCast(d, hn::InterleaveLower(d32, a, b)), hn::BitCast(d, hn::InterleaveUpper(d32, a, b)));
  };
  [[maybe_unused]] const auto eight = [&](std::size_t k) HWY_ATTR {
    const auto a = hn::BitCast(d64, four(k)), b = hn::BitCast(d64, four(k + 4));
    return hn::Max(hn::BitCast(d, hn::InterleaveLower(d64, a, b)), hn::BitCast(d, hn::InterleaveUpper(d64, a, b)));
  };
#if HWY_MAX_BYTES == 64
  const auto a = eight(0), b = eight(8);
  const auto all = hn::Max(hn::OddEvenBlocks(b, a), hn::SwapAdjacentBlocks(hn::OddEvenBlocks(a, b)));
#elif HWY_MAX_BYTES == 32
  const auto all = eight(0);
#else
  const auto all = four(0);
#endif
  const hn::Half<D> dh;
  return hn::PromoteTo(u32_tag{}, hn::BitCast(hn::Half<u16_tag>{}, hn::Max(hn::LowerHalf(dh, all), hn::UpperHalf(dh, all))));
}

template <class T>
HWY_INLINE floats widen_patterns(hn::Vec<u32_tag> bits) {
  if constexpr (std::is_same_v<T, bf16>) return hn::BitCast(float_tag{}, hn::ShiftLeft<16>(bits));
  else return widen_half_patterns(bits);
}

/// The same of 16-bit values, on their bit patterns, as range_of. Also false if a group has values of one sign only, other than zeros, unless
/// Symmetric.
template <class T, bool Symmetric>
requires(sizeof(T) == 2) HWY_INLINE
    bool extremes_of_groups(const T* row, std::size_t first, std::size_t group, floats& low, floats& high, const next_strip& next) {
  constexpr std::uint32_t infinity = std::is_same_v<T, f16> ? 0x7c00u : 0x7f80u;
  constexpr std::size_t step = 2 * lanes;
  const i16_tag di;
  const u16_tag du;
  const i32_tag s32;
  const auto* bits = reinterpret_cast<const std::int16_t*>(row + first);
  const auto highest = reduce_patterns(di, [&](std::size_t k) HWY_ATTR {
    if (k % 4 == 0) next.prefetch(row, (first + k * group) * sizeof(T), 4 * group * sizeof(T));
    const shorts sign = hn::Set(di, static_cast<std::int16_t>(Symmetric ? 0x7fff : -1));
    shorts top = hn::And(hn::LoadU(di, bits + k * group), sign);
    for (std::size_t i = step; i < group; i += step) top = hn::Max(top, hn::And(hn::LoadU(di, bits + k * group + i), sign));
    return top;
  });
  high = widen_patterns<T>(highest);
  if constexpr (Symmetric) {
    low = hn::Neg(high);
    return hn::AllTrue(s32, hn::Lt(hn::BitCast(s32, highest), hn::Set(s32, static_cast<std::int32_t>(infinity))));
  } else {
    const auto lowest = reduce_patterns(du, [&](std::size_t k) HWY_ATTR {
      const auto* patterns = reinterpret_cast<const std::uint16_t*>(row + first) + k * group;
      auto top = hn::LoadU(du, patterns);
      for (std::size_t i = step; i < group; i += step) top = hn::Max(top, hn::LoadU(du, patterns + i));
      return top;
    });
    low = hn::Add(widen_patterns<T>(lowest), hn::Zero(float_tag{}));  // no -0
    const auto signed_lowest = hn::BitCast(s32, lowest), none = hn::Zero(s32);
    const auto negative = hn::And(hn::VecFromMask(s32, hn::Gt(signed_lowest, hn::Set(s32, 0x7fff))),
                                  hn::VecFromMask(s32, hn::Lt(signed_lowest, hn::Set(s32, static_cast<std::int32_t>(infinity | 0x8000u)))));
    const auto low_known = hn::Or(negative, hn::VecFromMask(s32, hn::Eq(signed_lowest, none)));
    const auto finite = hn::VecFromMask(s32, hn::Lt(hn::BitCast(s32, highest), hn::Set(s32, static_cast<std::int32_t>(infinity))));
    return hn::AllTrue(s32, hn::MaskFromVec(hn::And(low_known, finite)));
  }
}

/// Joins the ranges of `lanes` groups of row[first...) into `out`. False, and nothing done, if a value or a range in `out` is not finite, or
/// if they need a closer look.
template <class T>
HWY_INLINE bool join_groups(const T* row, std::size_t first, std::size_t group, range* out, const next_strip& next) {
  const float_tag d;
  floats low, high, old_low, old_high;
  if (!extremes_of_groups<T, false>(row, first, group, low, high, next)) return false;
  hn::LoadInterleaved2(d, reinterpret_cast<const float*>(out), old_low, old_high);
  if (!hn::AllTrue(d, hn::Eq(old_low, old_low))) return false;
  hn::StoreInterleaved2(hn::Min(old_low, low), hn::Max(old_high, high), d, reinterpret_cast<float*>(out));
  return true;
}

/// Whether rows of `count` groups can be read `lanes` groups at a time.
constexpr bool reads_groups(std::size_t group, std::size_t count) { return group % (2 * lanes) == 0 && group <= 512 && count >= lanes; }

template <class T>
void ranges(matrix_view<const T> x, tile t, std::span<range> out, const next_strip& next) {
  static_assert(sizeof(range) == 2 * sizeof(float));
  if (x.size() == 0) return;
  const tile shape = resolve(t, x.rows(), x.cols());
  if (shape.cols == 1 && shape.rows > 1) return column_ranges(x, shape.rows, out);
  const std::size_t grid_cols = (x.cols() + shape.cols - 1) / shape.cols, whole_groups = x.cols() / shape.cols;
  const bool together = reads_groups(shape.cols, whole_groups);
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

template <class T>
void ranges(matrix_view<const T> x, tile t, std::span<range> out) {
  ranges(x, t, out, next_strip{x, next_strip::half::first});
}

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS
#endif  // toggle
