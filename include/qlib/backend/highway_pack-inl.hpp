// Widening to f32 and packing of nibbles for one SIMD target (see highway_lanes-inl.hpp about the guard).
#if defined(QLIB_BACKEND_HIGHWAY_PACK_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QLIB_BACKEND_HIGHWAY_PACK_INL
#undef QLIB_BACKEND_HIGHWAY_PACK_INL
#else
#define QLIB_BACKEND_HIGHWAY_PACK_INL
#endif

#include <qlib/backend/highway_lanes-inl.hpp>

#if QLIB_HIGHWAY_KERNELS
HWY_BEFORE_NAMESPACE();
namespace qlib::inline v0 {
namespace HWY_NAMESPACE {

/// `lanes` elements as f32, in order.
template <class T>
HWY_INLINE void widen(const T* x, float* out) {
  const float_tag d;
  if constexpr (std::is_same_v<T, float>) {
    hn::StoreU(hn::LoadU(d, x), d, out);
  } else if constexpr (std::is_same_v<T, bf16>) {
    const u32_tag du;
    const hn::Rebind<std::uint16_t, u32_tag> dh;
    const auto bits = hn::PromoteTo(du, hn::LoadU(dh, reinterpret_cast<const std::uint16_t*>(x)));
    hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(bits)), d, out);
  } else {
    hn::StoreU(widen_halves(x), d, out);
  }
}

template <class T>
void to_float(matrix_view<const T> x, matrix_view<float> out) {
  const std::size_t n = x.cols();
  for (std::size_t r = 0; r < x.rows(); ++r) {
    const T* from = x.row(r);
    float* to = out.row(r);
    if (n < lanes) {
      for (std::size_t c = 0; c < n; ++c) to[c] = qlib::to_float(from[c]);
      continue;
    }
    for (std::size_t c = 0; c + lanes <= n; c += lanes) widen(from + c, to + c);
    if (n % lanes != 0) widen(from + n - lanes, to + n - lanes);
  }
}

/// Pairs of codes, one pair a lane: lane = low nibble | high nibble << 4, at most 255.
HWY_INLINE shorts join_nibbles(const std::int8_t* codes, shorts flips) {
  const u16_tag du;
  const auto pairs = hn::LoadU(du, reinterpret_cast<const std::uint16_t*>(codes));
  const auto both = hn::Or(hn::And(pairs, hn::Set(du, 0x0f)), hn::And(hn::ShiftRight<4>(pairs), hn::Set(du, 0xf0)));
  return hn::Xor(hn::BitCast(i16_tag{}, both), flips);
}

/// The bytes of whole blocks of a row of n codes, at most `width` bytes; returns how many.
template <bool Streams>
HWY_INLINE std::size_t pack_blocks(const std::int8_t* codes, std::size_t n, shorts flips, std::uint8_t* bytes, std::size_t width) {
  const in_order<narrowed::once> order;
  const u8_tag d;
  std::size_t j = 0;
  for (; 2 * (j + block) <= n && j + block <= width; j += block) {
    const shorts a = join_nibbles(codes + 2 * j, flips), b = join_nibbles(codes + 2 * j + block, flips);
    store<Streams>(hn::BitCast(d, order(narrow_unsigned(a, b))), d, bytes + j);
  }
  return j;
}

/// `streams`: the bytes are not read soon, keep them out of the caches.
inline void pack_nibbles(matrix_view<const std::int8_t> codes, std::uint8_t flip, matrix_view<std::uint8_t> bytes, bool streams = false) {
  const bool one_row = codes.cols() % 2 == 0 && codes.stride() == codes.cols() && bytes.stride() == bytes.cols() && bytes.cols() == codes.cols() / 2;
  const std::size_t rows = one_row ? (codes.rows() > 0 ? 1 : 0) : codes.rows();
  const std::size_t n = one_row ? codes.size() : codes.cols(), width = one_row ? bytes.size() : bytes.cols();
  const shorts flips = hn::Set(i16_tag{}, static_cast<std::int16_t>(flip | flip << 4));
  for (std::size_t r = 0; r < rows; ++r) {
    const std::int8_t* from = codes.row(r);
    std::uint8_t* to = bytes.row(r);
    std::size_t j = streams && is_aligned(to) ? pack_blocks<true>(from, n, flips, to, width) : pack_blocks<false>(from, n, flips, to, width);
    const auto nibble = [&](std::size_t c) -> unsigned { return c < n ? (static_cast<unsigned>(from[c]) & 15u) ^ flip : 0u; };
    for (; j < width; ++j) to[j] = static_cast<std::uint8_t>(nibble(2 * j) | nibble(2 * j + 1) << 4);
  }
}

/// Whole blocks of two rows; returns how many columns.
template <bool Streams>
HWY_INLINE std::size_t pack_row_blocks(const std::uint8_t* even, const std::uint8_t* odd, std::size_t n, std::uint8_t* bytes) {
  const u8_tag d;
  const u16_tag d16;
  const auto low = hn::Set(d, std::uint8_t{0x0f});
  std::size_t c = 0;
  for (; c + block <= n; c += block) {
    const auto shifted = hn::BitCast(d, hn::ShiftLeft<4>(hn::BitCast(d16, hn::And(hn::LoadU(d, odd + c), low))));
    store<Streams>(hn::Or(hn::And(hn::LoadU(d, even + c), low), shifted), d, bytes + c);
  }
  return c;
}

inline void pack_nibble_rows(matrix_view<const std::int8_t> codes, matrix_view<std::uint8_t> bytes, bool streams = false) {
  const std::size_t n = codes.cols();
  for (std::size_t r = 0; r < bytes.rows(); ++r) {
    const auto* even = reinterpret_cast<const std::uint8_t*>(codes.row(2 * r));
    const auto* odd = reinterpret_cast<const std::uint8_t*>(codes.row(2 * r + 1));
    std::uint8_t* to = bytes.row(r);
    std::size_t c = streams && is_aligned(to) ? pack_row_blocks<true>(even, odd, n, to) : pack_row_blocks<false>(even, odd, n, to);
    for (; c < n; ++c) to[c] = static_cast<std::uint8_t>((even[c] & 15u) | (odd[c] & 15u) << 4);
  }
}

inline void finish_streaming() { hwy::FlushStream(); }

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS
#endif  // toggle
