// The values outside of an interval, for one SIMD target (see highway_lanes-inl.hpp about the guard).
#if defined(QLIB_BACKEND_HIGHWAY_OUTSIDE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QLIB_BACKEND_HIGHWAY_OUTSIDE_INL
#undef QLIB_BACKEND_HIGHWAY_OUTSIDE_INL
#else
#define QLIB_BACKEND_HIGHWAY_OUTSIDE_INL
#endif

#include <qlib/backend/highway_lanes-inl.hpp>

#include <bit>
#include <cmath>
#include <cstring>

#if QLIB_HIGHWAY_KERNELS
HWY_BEFORE_NAMESPACE();
namespace qlib::inline v0 {
namespace HWY_NAMESPACE {

// AVX-512 has an instruction that compresses lanes, 16-bit ones with VBMI2. Elsewhere the few values there are are taken one by one: tables of
// permutations and stores of a part of a vector take longer.
#if HWY_ARCH_X86 && HWY_TARGET > HWY_AVX3
inline constexpr bool compresses_words = false;
#else
inline constexpr bool compresses_words = true;
#endif
#if HWY_ARCH_X86 && HWY_TARGET > HWY_AVX3_DL
inline constexpr bool compresses_shorts = false;
#else
inline constexpr bool compresses_shorts = true;
#endif

/// Which of at most 32 lanes are set.
template <class D, class M>
HWY_INLINE std::uint32_t bits_of(D d, M mask) {
  alignas(std::uint32_t) std::uint8_t bytes[8] = {};
  hn::StoreMaskBits(d, mask, bytes);
  std::uint32_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  return bits;
}

/// Finds the values outside of an interval, a few vectors at a time and in order.
template <class T>
class outside_lanes {
 public:
  using kept = float;
  explicit HWY_INLINE outside_lanes(range inner) : low_{hn::Set(d, inner.min)}, high_{hn::Set(d, inner.max)} {}

  /// How many of 4 * lanes values there are. Keeps: copies them to the front of `to`, which has room for as many and a vector more.
  template <bool Keeps>
  HWY_INLINE std::size_t find(const T* x, kept* to) const {
    const floats v0 = load_lanes(x), v1 = load_lanes(x + lanes), v2 = load_lanes(x + 2 * lanes), v3 = load_lanes(x + 3 * lanes);
    const auto inside = [&](floats v) { return hn::And(hn::Ge(v, low_), hn::Le(v, high_)); };
    const auto in0 = inside(v0), in1 = inside(v1), in2 = inside(v2), in3 = inside(v3);
    if (HWY_LIKELY(hn::AllTrue(d, hn::And(hn::And(in0, in1), hn::And(in2, in3))))) return 0;
    std::size_t n = 0;
    const auto keep = [&](std::size_t at, [[maybe_unused]] floats v, auto in) {
      if constexpr (!Keeps) n += hn::CountTrue(d, hn::Not(in));
      else if constexpr (compresses_words) n += hn::CompressStore(v, hn::Not(in), d, to + n);
      else
        for (std::uint32_t bits = bits_of(d, hn::Not(in)); bits != 0; bits &= bits - 1)
          to[n++] = qlib::to_float(x[at + static_cast<std::size_t>(std::countr_zero(bits))]);
    };
    keep(0, v0, in0);
    keep(lanes, v1, in1);
    keep(2 * lanes, v2, in2);
    keep(3 * lanes, v3, in3);
    return n;
  }

 private:
  static constexpr float_tag d{};
  floats low_, high_;
};

#if HWY_ARCH_X86
/// The same on the patterns of bf16: as integers whose negative ones are mirrored they have the order of their values, and NaNs lie at the ends.
/// Without a branch where lanes are compressed: at the percentiles that matter every fourth group of 64 values has one outside, which no CPU
/// predicts.
template <>
class outside_lanes<bf16> {
 public:
  using kept = std::uint16_t;
  /// inner: no NaN.
  explicit HWY_INLINE outside_lanes(range inner) {
    const std::int32_t least = ordered(inner.min == 0 ? -0.0f : inner.min), most = ordered(inner.max + 0.0f);
    // A bf16 has zeros behind its pattern; mirrored, where it is negative, ones.
    low_ = hn::Set(d, static_cast<std::int16_t>((least >> 16) + (least >= 0 && (least & 0xffff) != 0)));
    high_ = hn::Set(d, static_cast<std::int16_t>((most >> 16) - (most < 0 && (most & 0xffff) != 0xffff)));
  }

  template <bool Keeps>
  HWY_INLINE std::size_t find(const bf16* x, kept* to) const {
    const u16_tag du;
    const auto load = [&](std::size_t at) { return hn::LoadU(du, reinterpret_cast<const std::uint16_t*>(x + at)); };
    const auto is_beyond = [&](auto pattern) {
      const auto bits = hn::BitCast(d, pattern);
      const auto place = hn::Xor(bits, hn::And(hn::ShiftRight<15>(bits), hn::Set(d, std::int16_t{0x7fff})));
      return hn::Or(hn::Lt(place, low_), hn::Gt(place, high_));
    };
    const auto v0 = load(0), v1 = load(2 * lanes);
    const auto beyond0 = is_beyond(v0), beyond1 = is_beyond(v1);
    if constexpr (!compresses_shorts)
      if (HWY_LIKELY(hn::AllFalse(d, hn::Or(beyond0, beyond1)))) return 0;
    std::size_t n = 0;
    const auto keep = [&](std::size_t at, [[maybe_unused]] auto pattern, auto beyond) {
      if constexpr (!Keeps) n += hn::CountTrue(d, beyond);
      else if constexpr (compresses_shorts) n += hn::CompressStore(pattern, hn::RebindMask(du, beyond), du, to + n);
      else
        for (std::uint32_t bits = bits_of(d, beyond); bits != 0; bits &= bits - 1)
          to[n++] = x[at + static_cast<std::size_t>(std::countr_zero(bits))].bits;
    };
    keep(0, v0, beyond0);
    keep(2 * lanes, v1, beyond1);
    return n;
  }

 private:
  static std::int32_t ordered(float v) {
    const auto bits = std::bit_cast<std::int32_t>(v);
    return bits ^ ((bits >> 31) & 0x7fffffff);
  }

  static constexpr i16_tag d{};
  shorts low_, high_;
};
#endif

/// Values are kept in a small buffer first, where there is always room for a whole vector.
template <class T>
std::size_t outside(matrix_view<const T> x, range inner, std::span<float> out) {
  using kept = typename outside_lanes<T>::kept;
  constexpr std::size_t step = 4 * lanes, block_size = 1024;
  if (std::isnan(inner.min) || std::isnan(inner.max)) return scalar_backend{}.outside(x, inner, out);
  const outside_lanes<T> seek{inner};
  HWY_ALIGN kept values[block_size + 2 * lanes];
  std::size_t found = 0;
  for (std::size_t r = 0; r < x.rows(); ++r) {
    const T* row = x.row(r);
    std::size_t c = 0;
    while (c + step <= x.cols()) {
      const std::size_t end = c + std::min(block_size, x.cols() - c) / step * step;
      std::size_t n = 0;
      for (; c < end; c += step) {
        for (std::size_t b = 0; b < step * sizeof(T); b += 64)
          hwy::Prefetch(reinterpret_cast<const char*>(reinterpret_cast<std::uintptr_t>(row + c) + 4096 + b));
        n += out.empty() ? seek.template find<false>(row + c, values) : seek.template find<true>(row + c, values + n);
      }
      const std::size_t fit = std::min(n, out.size() - std::min(found, out.size()));
      for (std::size_t i = 0; i < fit; ++i) {
        if constexpr (std::is_same_v<kept, float>) out[found + i] = values[i];
        else out[found + i] = std::bit_cast<float>(static_cast<std::uint32_t>(values[i]) << 16);
      }
      found += n;
    }
    const matrix_view<const T> rest{row + c, 1, x.cols() - c};
    found += scalar_backend{}.outside(rest, inner, out.subspan(std::min(found, out.size())));
  }
  return found;
}

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS
#endif  // toggle
