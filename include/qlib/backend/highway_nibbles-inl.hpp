// Codes of 4 bits straight into bytes for one SIMD target (see highway_lanes-inl.hpp about the guard).
#if defined(QLIB_BACKEND_HIGHWAY_NIBBLES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QLIB_BACKEND_HIGHWAY_NIBBLES_INL
#undef QLIB_BACKEND_HIGHWAY_NIBBLES_INL
#else
#define QLIB_BACKEND_HIGHWAY_NIBBLES_INL
#endif

#include <qlib/backend/highway_pack-inl.hpp>
#include <qlib/backend/highway_quantize-inl.hpp>

#if QLIB_HIGHWAY_KERNELS
HWY_BEFORE_NAMESPACE();
namespace qlib::inline v0 {
namespace HWY_NAMESPACE {

/// int4 codes, saturated: byte = -128 + (code + 8), so that the low nibble is the code in offset binary. Two operations where a clamp
/// and an offset are three.
HWY_INLINE codes8 saturate_nibbles(codes8 c) {
  const i8_tag d;
  return hn::Min(hn::SaturatedSub(c, hn::Set(d, std::int8_t{120})), hn::Set(d, std::int8_t{-113}));
}

/// Pairs of bytes, the first to the low nibble: 16-bit lanes whose low byte is first | second << 4, its highest bit flipped. Bytes as
/// saturate_nibbles makes them; the rest of a lane is not specified.
HWY_INLINE shorts join_pairs(codes8 c) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128
  // 1 * first + 16 * second; the offsets sum to -0x880.
  const auto weights = hn::Set(i16_tag{}, std::int16_t{0x1001});
#if HWY_MAX_BYTES == 64
  return shorts{_mm512_maddubs_epi16(weights.raw, c.raw)};
#elif HWY_MAX_BYTES == 32
  return shorts{_mm256_maddubs_epi16(weights.raw, c.raw)};
#else
  return shorts{_mm_maddubs_epi16(weights.raw, c.raw)};
#endif
#else
  const u16_tag d;
  const auto pairs = hn::BitCast(d, c);
  const auto both = hn::Or(hn::And(pairs, hn::Set(d, 0x0f)), hn::And(hn::ShiftRight<4>(pairs), hn::Set(d, 0xf0)));
  return hn::BitCast(i16_tag{}, hn::Xor(both, hn::Set(d, 0x80)));
#endif
}

/// How rows of int4 codes are made where they are multiplied (tile_params): two blocks of elements become one vector of bytes.
template <class T, code_kind Kind, bool Streams>
class nibble_quantizer {
 public:
  static constexpr std::size_t step = 2 * block;  ///< elements that become one vector of bytes
  static constexpr std::size_t part = step / 4;   ///< elements with one parameter set at least
  HWY_INLINE nibble_quantizer(std::uint8_t flip, const next_strip& next) : next_{next} {
    const std::uint8_t nibbles = static_cast<std::uint8_t>((flip ^ 8) * 0x11);
    flips_ = hn::Set(i16_tag{}, even_odd<T> ? static_cast<std::int16_t>(nibbles * 0x101) : static_cast<std::int16_t>(nibbles ^ 0x80));
  }

  /// Columns [first, first + n) of a row, `count` tiles of `width` columns: of 1 or 2 parts, or whole steps.
  HWY_INLINE void tiles(const T* row, std::size_t first, std::size_t n, std::size_t width, const tile_params& params, std::uint8_t* out) const {
    std::size_t c = first;
    const std::size_t end = first + n;
    if (width == part) {
      for (std::size_t j = 0; c < end; j += 4, c += step)
        vector_of(row, c, broadcast{params, j}, broadcast{params, j + 1}, broadcast{params, j + 2}, broadcast{params, j + 3}, out);
    } else if (width == 2 * part) {
      for (std::size_t j = 0; c < end; j += 2, c += step) {
        const broadcast p{params, j}, q{params, j + 1};
        vector_of(row, c, p, p, q, q, out);
      }
    } else {
      for (std::size_t j = 0; c < end; ++j) {
        const broadcast p{params, j};
        for (const std::size_t tile_end = std::min(c + width, end); c < tile_end; c += step) vector_of(row, c, p, p, p, p, out);
      }
    }
  }

 private:
  HWY_INLINE void vector_of(const T* row, std::size_t c, const broadcast& p0, const broadcast& p1, const broadcast& p2, const broadcast& p3,
                            std::uint8_t* out) const {
    const T* x = row + c;
    next_.prefetch(row, c * sizeof(T), step * sizeof(T));
    const u8_tag d;
    codes8 bytes;
    if constexpr (even_odd<T>) {
      ints even[4], odd[4];
      both(x, p0, even[0], odd[0]);
      both(x + part, p1, even[1], odd[1]);
      both(x + 2 * part, p2, even[2], odd[2]);
      both(x + 3 * part, p3, even[3], odd[3]);
      const codes8 low = saturate_nibbles(narrow_signed(narrow(even[0], even[1]), narrow(even[2], even[3])));
      const codes8 high = saturate_nibbles(narrow_signed(narrow(odd[0], odd[1]), narrow(odd[2], odd[3])));
      const i16_tag d16;
      const auto mask = hn::Set(d16, std::int16_t{0x0f0f});
      const auto joined = hn::Or(hn::And(mask, hn::BitCast(d16, low)), hn::AndNot(mask, hn::ShiftLeft<4>(hn::BitCast(d16, high))));
      bytes = twice_(hn::BitCast(i8_tag{}, hn::Xor(joined, flips_)));
    } else {
      const codes8 a = saturate_nibbles(narrow_signed(codes_of_pair<T, Kind, true>(x, p0), codes_of_pair<T, Kind, true>(x + part, p1)));
      const codes8 b =
          saturate_nibbles(narrow_signed(codes_of_pair<T, Kind, true>(x + 2 * part, p2), codes_of_pair<T, Kind, true>(x + 3 * part, p3)));
      const auto low_byte = hn::Set(i16_tag{}, std::int16_t{0xff});
      bytes = joined_(narrow_unsigned(hn::Xor(hn::And(join_pairs(a), low_byte), flips_), hn::Xor(hn::And(join_pairs(b), low_byte), flips_)));
    }
    store<Streams>(hn::BitCast(d, bytes), d, out + c / 2);
  }

  HWY_INLINE void both(const T* x, const broadcast& p, ints& even, ints& odd) const {
    const float_pair v = load_pair(x);
    even = codes_of<Kind, true>(v.first, p);
    odd = codes_of<Kind, true>(v.second, p);
  }

  const next_strip& next_;
  shorts flips_;
  in_order<narrowed::twice> twice_;
  in_order<narrowed::joined> joined_;
};

template <class T, code_kind Kind, bool Streams>
void quantize_nibbles(matrix_view<const T> x, const quant_spec& spec, const_qparams_view q, std::uint8_t flip, matrix_view<std::int8_t> codes,
                      matrix_view<std::uint8_t> bytes) {
  const tile shape = resolve(spec.granularity, x.rows(), x.cols());
  const next_strip next{x, next_strip::half::second};
  const nibble_quantizer<T, Kind, Streams> rows{flip, next};
  tile_params params;
  for (std::size_t r = 0; r < x.rows(); ++r)
    for (std::size_t j = 0; j < q.grid.cols; j += tile_params::capacity) {
      const std::size_t count = std::min(tile_params::capacity, q.grid.cols - j), at = r / shape.rows * q.grid.cols + j;
      const std::size_t c = j * shape.cols, n = std::min(count * shape.cols, x.cols() - c);
      params.prepare<Kind>(q.scales.data() + at, q.zero_points.empty() ? nullptr : q.zero_points.data() + at, count, spec);
      if (params.multiplies) {
        rows.tiles(x.row(r), c, n, shape.cols, params, bytes.row(r));
      } else {
        quantizer<T, Kind, false, false>{finish<T>{params}, next}.tiles(x.row(r), c, n, shape.cols, params, count, codes.row(r));
        pack_nibbles(matrix_view<const std::int8_t>{codes.row(r) + c, 1, n}, flip, {bytes.row(r) + c / 2, 1, n / 2});
      }
    }
}

/// quantize, then pack_nibbles; int4 codes of the usual group sizes never see memory. `codes`: room for them, where they do.
template <class T>
void quantize_nibbles(matrix_view<const T> x, const quant_spec& spec, const_qparams_view q, std::uint8_t flip, matrix_view<std::int8_t> codes,
                      matrix_view<std::uint8_t> bytes, bool streams = false) {
  if (x.size() == 0) return;
  using rows = nibble_quantizer<T, code_kind::symmetric, false>;
  const std::size_t width = resolve(spec.granularity, x.rows(), x.cols()).cols;
  const bool whole = x.cols() % rows::step == 0 && (width == rows::part || width == 2 * rows::part || width % rows::step == 0);
  if (!whole || spec.type != number::integer || spec.num_bits != 4 || arithmetic_of_codes(spec) != dtype::f32 || bytes.cols() * 2 != x.cols()) {
    quantize(x, spec, q, codes);
    return pack_nibbles(matrix_view<const std::int8_t>{codes}, flip, bytes, streams);
  }
  const bool past_caches = streams && is_aligned(bytes.data()) && (bytes.rows() == 1 || bytes.stride() % HWY_MAX_BYTES == 0);
  if (spec.symmetric && past_caches) return quantize_nibbles<T, code_kind::symmetric, true>(x, spec, q, flip, codes, bytes);
  if (spec.symmetric) return quantize_nibbles<T, code_kind::symmetric, false>(x, spec, q, flip, codes, bytes);
  if (past_caches) return quantize_nibbles<T, code_kind::asymmetric, true>(x, spec, q, flip, codes, bytes);
  return quantize_nibbles<T, code_kind::asymmetric, false>(x, spec, q, flip, codes, bytes);
}

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS
#endif  // toggle
