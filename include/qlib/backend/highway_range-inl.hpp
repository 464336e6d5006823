// Ranges of tiles for one SIMD target (see highway_lanes-inl.hpp about the guard).
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

/// The range of x[0, n), found on the bit patterns, in their own width for 16-bit types. Three extremes hold everything, NaN and
/// infinities included (they have the largest magnitudes): as signed numbers, the largest pattern is the largest non-negative value
/// if there is one; as unsigned numbers, it is the lowest negative value if there is one; and the smallest signed pattern is the
/// other end when all signs are equal.
template <class T>
HWY_INLINE range range_of(const T* x, std::size_t n) {
  using unsigned_bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>;
  using signed_bits = std::make_signed_t<unsigned_bits>;
  const hn::ScalableTag<signed_bits> di;
  const hn::ScalableTag<unsigned_bits> du;
  constexpr std::size_t step = HWY_LANES(unsigned_bits);
  if (n < step) {
    range seen = range::empty();
    for (std::size_t i = 0; i < n; ++i) seen = join(seen, range_of_value(qlib::to_float(x[i])));
    return seen;
  }
  const auto* bits = reinterpret_cast<const signed_bits*>(x);
  auto top = hn::LoadU(di, bits), top2 = top, bottom = top, bottom2 = top;
  auto largest = hn::BitCast(du, top), largest2 = largest;
  std::size_t i = 0;
  for (; i + 2 * step <= n; i += 2 * step) {
    const auto a = hn::LoadU(di, bits + i), b = hn::LoadU(di, bits + i + step);
    top = hn::Max(top, a);
    top2 = hn::Max(top2, b);
    bottom = hn::Min(bottom, a);
    bottom2 = hn::Min(bottom2, b);
    largest = hn::Max(largest, hn::BitCast(du, a));
    largest2 = hn::Max(largest2, hn::BitCast(du, b));
  }
  for (; i < n; i += step) {  // the last vector may overlap the one before
    const auto a = hn::LoadU(di, bits + (i + step <= n ? i : n - step));
    top = hn::Max(top, a);
    bottom = hn::Min(bottom, a);
    largest = hn::Max(largest, hn::BitCast(du, a));
  }
  top = hn::Max(top, top2);
  bottom = hn::Min(bottom, bottom2);
  largest = hn::Max(largest, largest2);

  // 16-bit patterns go on in the upper halves of 32-bit lanes, where they keep their order.
  const i32_tag d32;
  const u32_tag du32;
  ints top32, bottom32;
  hn::Vec<u32_tag> largest32;
  if constexpr (sizeof(T) == 4) {
    top32 = top, bottom32 = bottom, largest32 = largest;
  } else {
    const auto t = hn::BitCast(d32, top), b = hn::BitCast(d32, bottom), upper = hn::Set(d32, static_cast<std::int32_t>(0xffff0000u));
    const auto l = hn::BitCast(du32, largest);
    top32 = hn::Max(hn::ShiftLeft<16>(t), hn::And(t, upper));
    bottom32 = hn::Min(hn::ShiftLeft<16>(b), hn::And(b, upper));
    largest32 = hn::Max(hn::ShiftLeft<16>(l), hn::And(l, hn::BitCast(du32, upper)));
  }
  const std::int32_t t = hn::GetLane(hn::MaxOfLanes(d32, top32)), b = hn::GetLane(hn::MinOfLanes(d32, bottom32));
  const std::uint32_t l = hn::GetLane(hn::MaxOfLanes(du32, largest32));
  constexpr std::uint32_t infinity = std::is_same_v<T, f16> ? 0x7c000000u : 0x7f800000u;
  if (t >= static_cast<std::int32_t>(infinity) || l >= (infinity | 0x80000000u)) return range::undefined();
  const auto value = [](std::uint32_t pattern) {
    if constexpr (std::is_same_v<T, f16>) return qlib::to_float(f16{static_cast<std::uint16_t>(pattern >> 16)}) + 0.0f;
    return std::bit_cast<float>(pattern) + 0.0f;  // -0 counts as 0
  };
  return {value(l >= 0x80000000u ? l : static_cast<std::uint32_t>(b)), value(static_cast<std::uint32_t>(t < 0 ? b : t))};
}

struct lowest {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const { return hn::Min(a, b); }
};
struct highest {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const { return hn::Max(a, b); }
};

template <class Join, class D, class V>
HWY_INLINE auto fold_blocks(D d, V v) {
  if constexpr (hn::MaxLanes(d) == 4) {
    return v;
  } else {
    const hn::Half<D> half;
    return fold_blocks<Join>(half, Join{}(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}

/// Reduces four vectors at once: lane k of the result is the extreme of vector k. Six shuffles instead of four times log2(lanes).
template <class Join>
HWY_INLINE auto reduce4(floats a, floats b, floats c, floats d) {
  const float_tag df;
  const hn::RepartitionToWide<float_tag> dw;
  const Join join{};
  const auto ab = hn::BitCast(dw, join(hn::InterleaveLower(df, a, b), hn::InterleaveUpper(df, a, b)));
  const auto cd = hn::BitCast(dw, join(hn::InterleaveLower(df, c, d), hn::InterleaveUpper(df, c, d)));
  return fold_blocks<Join>(df, join(hn::BitCast(df, hn::InterleaveLower(dw, ab, cd)), hn::BitCast(df, hn::InterleaveUpper(dw, ab, cd))));
}

/// One group's values, lane by lane. The sum is NaN if a value is: infinities may make it so too, never hide it.
struct lane_extremes {
  floats low, high, sum;
};

template <class T>
HWY_INLINE lane_extremes group_extremes(const T* x, std::size_t group) {
  const float_pair p = load_pair(x);
  lane_extremes e{hn::Min(p.first, p.second), hn::Max(p.first, p.second), hn::Add(p.first, p.second)};
  for (std::size_t i = 2 * lanes; i < group; i += 2 * lanes) {
    const float_pair q = load_pair(x + i);
    e.low = hn::Min(hn::Min(e.low, q.first), q.second);
    e.high = hn::Max(hn::Max(e.high, q.first), q.second);
    e.sum = hn::Add(hn::Add(e.sum, q.first), q.second);
  }
  return e;
}

/// Joins the ranges of x's first four groups, each a multiple of 2 * lanes values, into out[0, 4). False, and nothing done, if a value
/// or a range in `out` is not finite.
template <class T>
HWY_INLINE bool join_four_groups(const T* x, std::size_t group, range* out) {
  const lane_extremes a = group_extremes(x, group), b = group_extremes(x + group, group), c = group_extremes(x + 2 * group, group),
                      e = group_extremes(x + 3 * group, group);
  const float_tag df;
  const hn::FixedTag<float, 4> d;
  const auto zero = hn::Zero(d), finite = hn::Set(d, std::numeric_limits<float>::max());
  const auto low = hn::Add(reduce4<lowest>(a.low, b.low, c.low, e.low), zero);  // -0 counts as 0
  const auto high = hn::Add(reduce4<highest>(a.high, b.high, c.high, e.high), zero);
  auto* const seen = reinterpret_cast<float*>(out);  // min, max, min, max...
  const auto old01 = hn::LoadU(d, seen), old23 = hn::LoadU(d, seen + 4);
  const auto sum = hn::Add(hn::Add(a.sum, b.sum), hn::Add(c.sum, e.sum));
  const auto good = hn::And(hn::And(hn::Ge(low, hn::Neg(finite)), hn::Le(high, finite)), hn::And(hn::Eq(old01, old01), hn::Eq(old23, old23)));
  if (!hn::AllTrue(d, good) || !hn::AllFalse(df, hn::IsNaN(sum))) return false;
  const auto new01 = hn::InterleaveLower(d, low, high), new23 = hn::InterleaveUpper(d, low, high);
  hn::StoreU(hn::OddEven(hn::Max(old01, new01), hn::Min(old01, new01)), d, seen);
  hn::StoreU(hn::OddEven(hn::Max(old23, new23), hn::Min(old23, new23)), d, seen + 4);
  return true;
}

template <class T>
void ranges(matrix_view<const T> x, tile t, std::span<range> out) {
  static_assert(sizeof(range) == 2 * sizeof(float));
  if (x.size() == 0) return;
  const tile shape = resolve(t, x.rows(), x.cols());
  const std::size_t grid_cols = (x.cols() + shape.cols - 1) / shape.cols;
  const bool by_four = shape.cols % (2 * lanes) == 0 && shape.cols <= 512;
  for (std::size_t r = 0; r < x.rows(); ++r) {
    const T* row = x.row(r);
    range* seen = out.data() + r / shape.rows * grid_cols;
    for (std::size_t j = 0; j < grid_cols;) {
      const std::size_t first = j * shape.cols;
      if (by_four && first + 4 * shape.cols <= x.cols() && join_four_groups(row + first, shape.cols, seen + j)) {
        j += 4;
        continue;
      }
      seen[j] = join(seen[j], range_of(row + first, std::min(shape.cols, x.cols() - first)));
      ++j;
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS
#endif  // toggle
