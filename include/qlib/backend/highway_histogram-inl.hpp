// Histograms for one SIMD target (see highway_lanes-inl.hpp about the guard).
#if defined(QLIB_BACKEND_HIGHWAY_HISTOGRAM_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QLIB_BACKEND_HIGHWAY_HISTOGRAM_INL
#undef QLIB_BACKEND_HIGHWAY_HISTOGRAM_INL
#else
#define QLIB_BACKEND_HIGHWAY_HISTOGRAM_INL
#endif

#include <qlib/backend/highway_lanes-inl.hpp>

#if QLIB_HIGHWAY_KERNELS
HWY_BEFORE_NAMESPACE();
namespace qlib::inline v0 {
namespace HWY_NAMESPACE {

/// The bins of a vector of values: equal_bins::of, lane by lane, with its division. A reciprocal would need a branch for the quotients near a
/// bin's edge; the divider has nothing else to do while bins are counted.
class bins_of_lanes {
 public:
  explicit HWY_INLINE bins_of_lanes(const equal_bins& b)
      : low_{hn::Set(d, b.low)},
        high_{hn::Set(d, b.high)},
        scale_{hn::Set(d, b.scale)},
        origin_{hn::Set(d, b.origin)},
        count_{hn::Set(d, b.count)},
        width_{hn::Set(d, b.width)},
        last_{hn::Set(di, static_cast<std::int32_t>(b.bins) - 1)},
        none_{hn::Set(di, static_cast<std::int32_t>(b.bins))} {}

  HWY_INLINE ints operator()(floats v) const {
    const floats place = hn::Div(hn::Mul(hn::Sub(hn::Mul(v, scale_), origin_), count_), width_);
    const ints bin = hn::Min(hn::ConvertTo(di, place), last_);
    return hn::IfThenElse(hn::RebindMask(di, hn::And(hn::Ge(v, low_), hn::Le(v, high_))), bin, none_);
  }

 private:
  static constexpr float_tag d{};
  static constexpr i32_tag di{};
  floats low_, high_, scale_, origin_, count_, width_;
  ints last_, none_;
};

/// Vectors find the bins of a short block while scalar code counts those of the block before: the block is so short that the CPU has both in
/// its window, and the counts, a store an element, hide the arithmetic. They go into tables in turn: equal neighbours would wait for each
/// other's count.
template <class T>
void histogram(matrix_view<const T> x, range limits, std::span<std::uint32_t> counts) {
  constexpr std::size_t tables = 4, most_bins = 2048, step = 2 * lanes, block_size = 64;
  constexpr std::size_t table_size = most_bins + 256;  // tables lie 1 KiB apart modulo 4 KiB: equal low address bits look like one address
  static_assert(block_size % step == 0 && step % tables == 0);
  const equal_bins bins{limits, counts.size()};
  if (counts.size() > most_bins || x.size() < 4 * counts.size() || !(bins.width >= 0x1p-100f)) return scalar_backend{}.histogram(x, limits, counts);
  std::uint32_t table[tables][table_size];
  HWY_ALIGN std::int16_t found[2][block_size];  // in any order
  for (auto& t : table) std::memset(t, 0, (counts.size() + 1) * sizeof(std::uint32_t));
  const bins_of_lanes bin{bins};
  const auto find = [&](const T* from, std::int16_t* to) {
    for (std::size_t b = 0; b < step * sizeof(T); b += 64)
      hwy::Prefetch(reinterpret_cast<const char*>(reinterpret_cast<std::uintptr_t>(from) + 4096 + b));
    hn::Store(narrow(bin(load_lanes(from)), bin(load_lanes(from + lanes))), i16_tag{}, to);
  };
  const auto count = [&](const std::int16_t* from) {
    for (std::size_t i = 0; i < step; i += tables)
      for (std::size_t t = 0; t < tables; ++t) ++table[t][from[i + t]];
  };
  std::size_t turn = 0;
  bool waits = false;  // found[turn] is not counted yet
  for (std::size_t r = 0; r < x.rows(); ++r) {
    const T* row = x.row(r);
    std::size_t c = 0;
    for (; c + block_size <= x.cols(); c += block_size, waits = true) {
      if (HWY_UNLIKELY(!waits)) {
        for (std::size_t i = 0; i < block_size; i += step) find(row + c + i, found[turn] + i);
        continue;
      }
      for (std::size_t i = 0; i < block_size; i += step) find(row + c + i, found[1 - turn] + i);
      for (std::size_t i = 0; i < block_size; i += step) count(found[turn] + i);
      turn = 1 - turn;
    }
    for (; c + step <= x.cols(); c += step) {
      HWY_ALIGN std::int16_t rest[step];
      find(row + c, rest);
      count(rest);
    }
    for (; c < x.cols(); ++c) ++table[0][bins.of(qlib::to_float(row[c]))];
  }
  if (waits)
    for (std::size_t i = 0; i < block_size; i += step) count(found[turn] + i);
  for (const auto& t : table)
    for (std::size_t b = 0; b < counts.size(); ++b) counts[b] += t[b];
}

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS
#endif  // toggle
