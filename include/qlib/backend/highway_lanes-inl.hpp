// Vectors that the kernels of one SIMD target share. Included once a target: the guard is Highway's toggle, not #pragma once.
#if defined(QLIB_BACKEND_HIGHWAY_LANES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QLIB_BACKEND_HIGHWAY_LANES_INL
#undef QLIB_BACKEND_HIGHWAY_LANES_INL
#else
#define QLIB_BACKEND_HIGHWAY_LANES_INL
#endif

#include <qlib/backend/scalar.hpp>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cstring>
#include <type_traits>

// Scalar code needs no kernels of its own, and these are written for vectors whose length the compiler knows.
#undef QLIB_HIGHWAY_KERNELS
#if HWY_TARGET == HWY_SCALAR || HWY_HAVE_SCALABLE || (HWY_MAX_BYTES > 16 && !HWY_ARCH_X86)
#define QLIB_HIGHWAY_KERNELS 0
#else
#define QLIB_HIGHWAY_KERNELS 1

HWY_BEFORE_NAMESPACE();
namespace qlib::inline v0 {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t lanes = HWY_LANES(float);
constexpr std::size_t block = 4 * lanes;  ///< elements whose codes fill one vector of bytes
using float_tag = hn::ScalableTag<float>;
using i32_tag = hn::ScalableTag<std::int32_t>;
using u32_tag = hn::ScalableTag<std::uint32_t>;
using i16_tag = hn::ScalableTag<std::int16_t>;
using u16_tag = hn::ScalableTag<std::uint16_t>;
using i8_tag = hn::ScalableTag<std::int8_t>;
using u8_tag = hn::ScalableTag<std::uint8_t>;
using floats = hn::Vec<float_tag>;
using ints = hn::Vec<i32_tag>;
using shorts = hn::Vec<i16_tag>;
using codes8 = hn::Vec<i8_tag>;

/// 2 * lanes elements as f32. Elements come in order, but for bf16: there `first` has the even ones and `second` the odd ones, which
/// costs one instruction a vector, and `in_order` puts the codes right.
struct float_pair {
  floats first, second;
};

template <class T>
inline constexpr bool even_odd = std::is_same_v<T, bf16>;

/// The bits of `lanes` halves as f32, with scalar to_float's bits for NaN too: integer arithmetic only (Highway's emulation for old CPUs loses
/// infinities, and instructions quieten signalling NaN).
HWY_INLINE floats widen_half_patterns(hn::Vec<u32_tag> bits) {
  const float_tag d;
  const u32_tag du;
  const auto magnitude = hn::And(bits, hn::Set(du, 0x7fffu)), rebias = hn::Set(du, 112u << 23);
  const auto normal = hn::Add(hn::ShiftLeft<13>(magnitude), rebias);
  const auto special = hn::Add(normal, rebias);  // exponent 31 becomes 255
  const auto small = hn::ConvertTo(d, hn::BitCast(i32_tag{}, magnitude));
  const auto subnormal = hn::BitCast(du, hn::Mul(small, hn::Set(d, 0x1p-24f)));
  const auto signed_magnitude = hn::BitCast(i32_tag{}, magnitude);
  const auto finite = hn::IfThenElse(hn::RebindMask(du, hn::Lt(signed_magnitude, hn::Set(i32_tag{}, 0x0400))), subnormal, normal);
  const auto all = hn::IfThenElse(hn::RebindMask(du, hn::Gt(signed_magnitude, hn::Set(i32_tag{}, 0x7bff))), special, finite);
  return hn::BitCast(d, hn::Or(all, hn::ShiftLeft<16>(hn::Xor(bits, magnitude))));
}
HWY_INLINE floats widen_halves(const f16* x) {
  const hn::Rebind<std::uint16_t, u32_tag> dh;
  return widen_half_patterns(hn::PromoteTo(u32_tag{}, hn::LoadU(dh, reinterpret_cast<const std::uint16_t*>(x))));
}

template <class T>
HWY_INLINE float_pair load_pair(const T* x) {
  const float_tag d;
  if constexpr (std::is_same_v<T, float>) {
    return {hn::LoadU(d, x), hn::LoadU(d, x + lanes)};
  } else if constexpr (std::is_same_v<T, bf16>) {
    const u32_tag du;
    const auto both = hn::BitCast(du, hn::LoadU(u16_tag{}, reinterpret_cast<const std::uint16_t*>(x)));
    return {hn::BitCast(d, hn::ShiftLeft<16>(both)), hn::BitCast(d, hn::And(both, hn::Set(du, 0xffff0000u)))};
  } else {
#if HWY_ARCH_X86 && HWY_MAX_BYTES >= 32 && !defined(HWY_DISABLE_F16C)
    const hn::Rebind<hwy::float16_t, float_tag> dh;
    const auto* halves = reinterpret_cast<const hwy::float16_t*>(x);
    return {hn::PromoteTo(d, hn::LoadU(dh, halves)), hn::PromoteTo(d, hn::LoadU(dh, halves + lanes))};
#else
    return {widen_halves(x), widen_halves(x + lanes)};
#endif
  }
}

/// `lanes` elements as f32, in order.
template <class T>
HWY_INLINE floats load_lanes(const T* x) {
  const float_tag d;
  if constexpr (std::is_same_v<T, float>) {
    return hn::LoadU(d, x);
  } else if constexpr (std::is_same_v<T, bf16>) {
    const hn::Rebind<std::uint16_t, u32_tag> dh;
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(u32_tag{}, hn::LoadU(dh, reinterpret_cast<const std::uint16_t*>(x)))));
  } else {
#if HWY_ARCH_X86 && HWY_MAX_BYTES >= 32 && !defined(HWY_DISABLE_F16C)
    const hn::Rebind<hwy::float16_t, float_tag> dh;
    return hn::PromoteTo(d, hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(x)));
#else
    return widen_halves(x);
#endif
  }
}

/// Round to nearest even, for x in [-2^22, 2^22]; below that and for NaN x86 gives a large negative number or the smallest, which saves a
/// clamp. (hn::NearestInt pays for saturation.)
#if HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128
inline constexpr bool low_overflow_is_lowest = true;
#else
inline constexpr bool low_overflow_is_lowest = false;
#endif
HWY_INLINE ints nearest(floats x) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128
#if HWY_MAX_BYTES == 64
  return ints{_mm512_cvtps_epi32(x.raw)};
#elif HWY_MAX_BYTES == 32
  return ints{_mm256_cvtps_epi32(x.raw)};
#else
  return ints{_mm_cvtps_epi32(x.raw)};
#endif
#else
  const float_tag d;
  const i32_tag di;
  const floats shifted = hn::Add(x, hn::Set(d, 0x1.8p23f));  // integers lie one ulp apart there
  return hn::Sub(hn::BitCast(di, shifted), hn::Set(di, 0x4b400000));
#endif
}

// Narrowing two vectors into one, saturating. x86 does it within 128-bit blocks, and `in_order` puts the blocks right after the last
// step; other targets concatenate, which is the same where a vector is one block.
#if HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128
HWY_INLINE shorts narrow(ints a, ints b) { return hn::ReorderDemote2To(i16_tag{}, a, b); }
#if HWY_MAX_BYTES == 64
HWY_INLINE codes8 narrow_signed(shorts a, shorts b) { return codes8{_mm512_packs_epi16(a.raw, b.raw)}; }
HWY_INLINE codes8 narrow_unsigned(shorts a, shorts b) { return codes8{_mm512_packus_epi16(a.raw, b.raw)}; }
#elif HWY_MAX_BYTES == 32
HWY_INLINE codes8 narrow_signed(shorts a, shorts b) { return codes8{_mm256_packs_epi16(a.raw, b.raw)}; }
HWY_INLINE codes8 narrow_unsigned(shorts a, shorts b) { return codes8{_mm256_packus_epi16(a.raw, b.raw)}; }
#else
HWY_INLINE codes8 narrow_signed(shorts a, shorts b) { return codes8{_mm_packs_epi16(a.raw, b.raw)}; }
HWY_INLINE codes8 narrow_unsigned(shorts a, shorts b) { return codes8{_mm_packus_epi16(a.raw, b.raw)}; }
#endif
#else
HWY_INLINE shorts narrow(ints a, ints b) {
  const hn::Half<i16_tag> dh;
  return hn::Combine(i16_tag{}, hn::DemoteTo(dh, b), hn::DemoteTo(dh, a));
}
HWY_INLINE codes8 narrow_signed(shorts a, shorts b) {
  const hn::Half<i8_tag> dh;
  return hn::Combine(i8_tag{}, hn::DemoteTo(dh, b), hn::DemoteTo(dh, a));
}
HWY_INLINE codes8 narrow_unsigned(shorts a, shorts b) {
  const hn::Half<u8_tag> dh;
  return hn::BitCast(i8_tag{}, hn::Combine(u8_tag{}, hn::DemoteTo(dh, b), hn::DemoteTo(dh, a)));
}
#endif

/// How the bytes of a vector came to be, which tells how to put them in order.
enum class narrowed {
  once,      ///< from two vectors of shorts in order
  twice,     ///< from four vectors of ints in order
  even_odd,  ///< from two pairs of ints, each pair the even and the odd elements
  joined,    ///< from eight vectors of ints in order, two neighbours a byte
};

template <narrowed How>
class in_order {
  static constexpr std::size_t blocks = lanes / 4;
  struct lane_table {
    std::int32_t from[lanes];
  };
  static constexpr lane_table table() {
    lane_table t{};
    for (std::size_t i = 0; i < lanes; ++i)
      t.from[i] = static_cast<std::int32_t>(How == narrowed::twice    ? i % blocks * 4 + i / blocks
                                            : How == narrowed::joined ? i % 4 / (4 / blocks) * 4 + i / 4 * (4 / blocks) + i % (4 / blocks)
                                                                      : (i / 2 % blocks * 2 + i / 2 / blocks) * 2 + i % 2);
    return t;
  }
  struct byte_table {
    std::int8_t from[16];
  };
  static constexpr byte_table bytes_within_block() {
    byte_table t{{0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15}};
    if (How == narrowed::joined)  // pairs of bytes: the first of each block that they came from, the second of each, ...
      for (std::size_t i = 0; i < 8; ++i)
        for (std::size_t b = 0; b < 2; ++b) t.from[2 * i + b] = static_cast<std::int8_t>(2 * (i % blocks * (8 / blocks) + i / blocks) + b);
    return t;
  }
  decltype(hn::SetTableIndices(i32_tag{}, static_cast<const std::int32_t*>(nullptr))) order_;
  codes8 interleave_;

 public:
  HWY_INLINE in_order() : order_{hn::SetTableIndices(i32_tag{}, table().from)} {
    HWY_ALIGN static constexpr byte_table within = bytes_within_block();
    interleave_ = hn::LoadDup128(i8_tag{}, within.from);
  }

  HWY_INLINE codes8 operator()(codes8 bytes) const {
    if constexpr (How == narrowed::even_odd) bytes = hn::TableLookupBytes(bytes, interleave_);
    if constexpr (HWY_MAX_BYTES == 16) return bytes;
    else bytes = hn::BitCast(i8_tag{}, hn::TableLookupLanes(hn::BitCast(i32_tag{}, bytes), order_));
    if constexpr (How == narrowed::joined) bytes = hn::TableLookupBytes(bytes, interleave_);
    return bytes;
  }
};

/// Prefetches the strip that will be processed after this one, which lies behind it: its first half while this one is ranged, its second
/// half while it is quantized, so that memory never idles. A hint: past the matrix's end it does no harm. More than 128 KiB is not a strip.
class next_strip {
 public:
  enum class half { first, second };

  template <class T>
  HWY_INLINE next_strip(matrix_view<const T> x, half h)
      : distance_{x.rows() * x.stride() * sizeof(T)}, offset_{h == half::first ? 0 : x.cols() * sizeof(T) / 2} {
    if (distance_ > (std::size_t{128} << 10)) distance_ = offset_ = 0;
  }

  /// The lines that belong to `bytes` bytes of a row, `done` bytes after its start.
  HWY_INLINE void prefetch(const void* row, std::size_t done, std::size_t bytes) const {
    const std::uintptr_t from = reinterpret_cast<std::uintptr_t>(row) + distance_ + offset_ + done / 2;
    for (std::size_t b = 0; b < bytes / 2; b += 64) hwy::Prefetch(reinterpret_cast<const char*>(from + b));
  }

 private:
  std::size_t distance_, offset_;
};

/// One vector to `out`. A streaming store goes past the caches: for output that is not read soon; it needs an aligned address.
template <bool Streams, class D, class V>
HWY_INLINE void store(V v, D d, hn::TFromD<D>* out) {
  if constexpr (Streams) hn::Stream(v, d, out);
  else hn::StoreU(v, d, out);
}

HWY_INLINE bool is_aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % HWY_MAX_BYTES == 0; }

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS
#endif  // toggle
