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

/// The bins of a vector of values. The quotient of equal_bins::of is approached with a reciprocal, which is off by less than 1.5 * 2^-23 of
/// it; only where a bin's edge lies that near is it divided.
class bins_of_lanes {
 public:
  explicit HWY_INLINE bins_of_lanes(const equal_bins& b)
      : low_{hn::Set(d, b.low)},
        high_{hn::Set(d, b.high)},
        scale_{hn::Set(d, b.scale)},
        origin_{hn::Set(d, b.origin)},
        count_{hn::Set(d, b.count)},
        width_{hn::Set(d, b.width)},
        reciprocal_{hn::Set(d, 1.0f / b.width)},
        doubt_{hn::Set(d, b.count * 0x1p-22f)},
        last_{hn::Set(di, static_cast<std::int32_t>(b.bins) - 1)},
        none_{hn::Set(di, static_cast<std::int32_t>(b.bins))} {}

  /// equal_bins::of, lane by lane.
  HWY_INLINE ints operator()(floats v) const {
    const floats numerator = hn::Mul(hn::Sub(hn::Mul(v, scale_), origin_), count_);
    const floats about = hn::Mul(numerator, reciprocal_);
    ints bin = hn::ConvertTo(di, hn::Sub(about, doubt_));
    if (HWY_UNLIKELY(!hn::AllTrue(di, hn::Eq(bin, hn::ConvertTo(di, hn::Add(about, doubt_)))))) bin = hn::ConvertTo(di, hn::Div(numerator, width_));
    bin = hn::Min(bin, last_);
    return hn::IfThenElse(hn::RebindMask(di, hn::And(hn::Ge(v, low_), hn::Le(v, high_))), bin, none_);
  }

 private:
  static constexpr float_tag d{};
  static constexpr i32_tag di{};
  floats low_, high_, scale_, origin_, count_, width_, reciprocal_, doubt_;
  ints last_, none_;
};

/// Vectors find the bins of a block, scalar code counts them into tables in turn: equal neighbours would wait for each other's count.
template <class T>
void histogram(matrix_view<const T> x, range limits, std::span<std::uint32_t> counts) {
  constexpr std::size_t tables = 4, most_bins = 2048, block_size = 512;
  constexpr std::size_t table_size = most_bins + 256;  // tables lie 1 KiB apart modulo 4 KiB: equal low address bits look like one address
  const equal_bins bins{limits, counts.size()};
  if (counts.size() > most_bins || x.size() < 4 * counts.size() || !(bins.width >= 0x1p-100f)) return scalar_backend{}.histogram(x, limits, counts);
  std::uint32_t table[tables][table_size];
  HWY_ALIGN std::int16_t found[block_size];  // in any order
  for (auto& t : table) std::memset(t, 0, (counts.size() + 1) * sizeof(std::uint32_t));
  const bins_of_lanes bin{bins};
  for (std::size_t r = 0; r < x.rows(); ++r) {
    const T* row = x.row(r);
    std::size_t c = 0;
    while (c + tables * lanes <= x.cols()) {
      const std::size_t n = std::min(block_size, x.cols() - c) / (tables * lanes) * (tables * lanes);
      for (std::size_t i = 0; i < n; i += 2 * lanes) {
        for (std::size_t b = 0; b < 2 * lanes * sizeof(T); b += 64)
          hwy::Prefetch(reinterpret_cast<const char*>(reinterpret_cast<std::uintptr_t>(row + c + i) + 4096 + b));
        hn::Store(narrow(bin(load_lanes(row + c + i)), bin(load_lanes(row + c + i + lanes))), i16_tag{}, found + i);
      }
      for (std::size_t i = 0; i < n; i += tables) {
        std::uint64_t four;  // one load for four bins
        std::memcpy(&four, found + i, sizeof four);
        ++table[0][four & 0xffff];
        ++table[1][four >> 16 & 0xffff];
        ++table[2][four >> 32 & 0xffff];
        ++table[3][four >> 48];
      }
      c += n;
    }
    for (; c < x.cols(); ++c) ++table[0][bins.of(qlib::to_float(row[c]))];
  }
  for (const auto& t : table)
    for (std::size_t b = 0; b < counts.size(); ++b) counts[b] += t[b];
}

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS
#endif  // toggle
