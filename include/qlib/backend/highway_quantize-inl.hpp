// Codes from values and back for one SIMD target (see highway_lanes-inl.hpp about the guard).
#if defined(QLIB_BACKEND_HIGHWAY_QUANTIZE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QLIB_BACKEND_HIGHWAY_QUANTIZE_INL
#undef QLIB_BACKEND_HIGHWAY_QUANTIZE_INL
#else
#define QLIB_BACKEND_HIGHWAY_QUANTIZE_INL
#endif

#include <qlib/backend/highway_lanes-inl.hpp>

#if QLIB_HIGHWAY_KERNELS
HWY_BEFORE_NAMESPACE();
namespace qlib::inline v0 {
namespace HWY_NAMESPACE {

enum class code_kind { symmetric, asymmetric, e4m3 };

/// Parameters of up to `capacity` neighbouring tiles, and what the kernels derive from them, a vector at a time.
///
/// x / s costs 10 to 16 cycles a vector as an instruction. With z = RN(1/s), p = RN(x z), r = RN(x - p s), RN(p + r z) is RN(x / s),
/// always: p + r z is within |x/s - p| |s z - 1| of x / s, so only a quotient next to a midpoint m of two floats could come out on
/// the wrong side. Scale s to [1, 2) and ulp(m) to 1. |x z - x/s| <= (x/s) s 2^-25 < 1, because x/s < 2^24 and s < 2: so p is one of m's
/// neighbours, r is exact, and the error is at most 1/2 s 2^-25; but x - m s is a nonzero multiple of 2^-24 (m is odd half units, s has
/// 23 fractional bits), so x / s is at least 2^-24 / s away from m, which is more since s^2 < 4. It needs no underflow: hence the
/// bounds on s, with |x / s| >= 2^-11 (below that no code depends on it), and x clamped so that nothing overflows. Where FMA is
/// missing or a scale is outside, the kernels divide.
///
/// Without a zero point only the side of x / s on which a midpoint of two codes lies matters, and RN(x z + RN(x e)), e = RN(1/s - z), which is
/// one operation less, lies on the same side as RN(x / s), or is as equal to it: tried for all 2^23 mantissas of s, all midpoints of codes of
/// up to 8 bits, which have the mantissas of the midpoints of e4m3 too, and the seven floats x around each. (Not with e = RN((1 - z s) z).)
struct tile_params {
  static constexpr std::size_t capacity = 64;
  HWY_ALIGN float scale[capacity], inverse[capacity], rest[capacity], low[capacity], high[capacity], zero[capacity];
  std::int8_t first_code, last_code;
  bool multiplies;  ///< low and high bound x; otherwise the kernels divide, and they bound the sum x / s + zero

  template <code_kind Kind>
  HWY_INLINE void prepare(const float* scales, const std::int32_t* zero_points, std::size_t count, const quant_spec& spec) {
    const float_tag d;
    const float code_low = Kind == code_kind::e4m3 ? -e4m3_max : static_cast<float>(spec.qmin());
    const float code_high = Kind == code_kind::e4m3 ? e4m3_max : static_cast<float>(spec.qmax());
    first_code = static_cast<std::int8_t>(Kind == code_kind::e4m3 ? -128 : spec.qmin());
    last_code = static_cast<std::int8_t>(Kind == code_kind::e4m3 ? 127 : spec.qmax());
    const std::size_t padded = (count + lanes - 1) / lanes * lanes;
    std::memcpy(scale, scales, count * sizeof(float));
    for (std::size_t i = count; i < padded; ++i) scale[i] = 1.0f;
    if constexpr (Kind == code_kind::asymmetric)
      for (std::size_t i = 0; i < padded; ++i) zero[i] = zero_points && i < count ? static_cast<float>(zero_points[i]) : 0.0f;
    if constexpr (Kind == code_kind::e4m3)  // what leaves the sign of a zero, or makes 0 of -0
      for (std::size_t i = 0; i < padded; ++i) zero[i] = spec.rule == scale_rule::ascend ? -0.0f : 0.0f;
    const auto one = hn::Set(d, 1.0f), smallest = hn::Set(d, 0x1p-80f), largest = hn::Set(d, 0x1p80f), largest_zero = hn::Set(d, 0x1p15f);
    auto inside = hn::Eq(one, one);
    for (std::size_t i = 0; i < padded; i += lanes) {
      const floats s = hn::Load(d, scale + i);
      floats z = hn::Zero(d);
      if constexpr (Kind == code_kind::asymmetric) z = hn::Load(d, zero + i);
      inside = hn::And(inside, hn::And(hn::And(hn::Ge(s, smallest), hn::Le(s, largest)), hn::Le(hn::Abs(z), largest_zero)));
      const floats near = hn::Div(one, s), left = hn::NegMulAdd(near, s, one), first_order = hn::Mul(left, near);
      hn::Store(near, d, inverse + i);
      hn::Store(hn::MulAdd(first_order, left, first_order), d, rest + i);
      // These divide to the outermost codes again, up to an error far below half a step.
      hn::Store(hn::Mul(hn::Sub(hn::Set(d, code_low), z), s), d, low + i);
      hn::Store(hn::Mul(hn::Sub(hn::Set(d, code_high), z), s), d, high + i);
    }
    multiplies = HWY_NATIVE_FMA && hn::AllTrue(d, inside);
    if (!multiplies)
      for (std::size_t i = 0; i < padded; ++i) low[i] = code_low, high[i] = code_high;
  }
};

/// The parameters of one tile in every lane.
struct broadcast {
  floats scale, inverse, rest, low, high, zero;
  HWY_INLINE broadcast(const tile_params& p, std::size_t i)
      : scale{hn::Set(float_tag{}, p.scale[i])},
        inverse{hn::Set(float_tag{}, p.inverse[i])},
        rest{hn::Set(float_tag{}, p.rest[i])},
        low{hn::Set(float_tag{}, p.low[i])},
        high{hn::Set(float_tag{}, p.high[i])},
        zero{hn::Set(float_tag{}, p.zero[i])} {}
};

/// to_e4m3 lane by lane, sign extended to 32 bits.
HWY_INLINE ints e4m3_codes(floats x) {
  const i32_tag d;
  const float_tag df;
  const ints bits = hn::BitCast(d, x), magnitude = hn::And(bits, hn::Set(d, 0x7fffffff));
  const ints shifted = hn::BitCast(d, hn::Add(hn::BitCast(df, magnitude), hn::Set(df, 16384.0f)));
  const ints subnormal = hn::Sub(shifted, hn::Set(d, 0x46800000));
  const ints even = hn::And(hn::ShiftRight<20>(magnitude), hn::Set(d, 1));
  const ints rounded = hn::Add(hn::Add(magnitude, hn::Set(d, 0x7ffff - 0x3c000000)), even);
  const ints normal = hn::Min(hn::ShiftRight<20>(rounded), hn::Set(d, 0x7f));  // NaN: the pattern is above all others
  const ints code = hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, 0x3c800000)), subnormal, normal);
  return hn::Or(code, hn::And(hn::BroadcastSignBit(bits), hn::Set(d, ~0x7f)));
}

template <code_kind Kind, bool Multiplies>
HWY_INLINE ints codes_of(floats x, const broadcast& p) {
  if constexpr (Kind == code_kind::e4m3) x = hn::Add(x, p.zero);
  floats y;
  if constexpr (Multiplies) {
    floats bounded = hn::Min(p.high, x);
    if constexpr (Kind == code_kind::e4m3 || !low_overflow_is_lowest) bounded = hn::Max(p.low, bounded);
    if constexpr (Kind == code_kind::asymmetric) {
      const floats near = hn::Mul(bounded, p.inverse);
      y = hn::Add(hn::MulAdd(hn::NegMulAdd(near, p.scale, bounded), p.inverse, near), p.zero);
    } else {
      y = hn::MulAdd(bounded, p.inverse, hn::Mul(bounded, p.rest));
    }
    if constexpr (Kind == code_kind::e4m3) y = hn::CopySign(y, x);  // of a zero, too
  } else {
    y = hn::Div(x, p.scale);
    if constexpr (Kind == code_kind::asymmetric) y = hn::Add(y, p.zero);
    y = hn::Min(p.high, hn::Max(p.low, y));
  }
  if constexpr (Kind == code_kind::e4m3) return e4m3_codes(hn::IfThenElse(hn::IsNaN(x), x, y));  // Min and Max may lose NaN
  return nearest(y);
}

template <class T, code_kind Kind, bool Multiplies>
HWY_INLINE shorts codes_of_pair(const T* x, const broadcast& p) {
  const float_pair v = load_pair(x);
  const ints a = codes_of<Kind, Multiplies>(v.first, p), b = codes_of<Kind, Multiplies>(v.second, p);
  return narrow(a, b);
}

/// The last step of a block: bytes in order and in range, which 32-bit codes need not be: narrowing saturates.
template <class T>
struct finish {
  in_order<even_odd<T> ? narrowed::even_odd : narrowed::twice> order;
  codes8 first_code, last_code;
  explicit HWY_INLINE finish(const tile_params& p) : first_code{hn::Set(i8_tag{}, p.first_code)}, last_code{hn::Set(i8_tag{}, p.last_code)} {}
};

/// How the kernels below are compiled: all that is the same for a whole matrix.
template <class T, code_kind Kind, bool Multiplies, bool Streams>
struct quantizer {
  const finish<T>& end;
  const next_strip& next;

  /// Codes of `block` elements: the first half with parameters p, the second with q.
  HWY_INLINE codes8 codes(const T* x, const broadcast& p, const broadcast& q) const {
    const shorts a = codes_of_pair<T, Kind, Multiplies>(x, p), b = codes_of_pair<T, Kind, Multiplies>(x + block / 2, q);
    return hn::Min(end.last_code, hn::Max(end.first_code, end.order(narrow_signed(a, b))));
  }

  /// Columns [first, first + n) of a row, all with parameters p.
  HWY_INLINE void segment(const T* row, std::size_t first, std::size_t n, const broadcast& p, std::int8_t* out) const {
    const T* x = row + first;
    const i8_tag d;
    out += first;
    if (n < block) {
      T padded[block] = {};
      std::int8_t few[block];
      std::memcpy(padded, x, n * sizeof(T));
      hn::StoreU(codes(padded, p, p), d, few);
      std::memcpy(out, few, n);
      return;
    }
    std::size_t i = 0;
    for (; i + block <= n; i += block) {
      next.prefetch(row, (first + i) * sizeof(T), block * sizeof(T));
      store<Streams>(codes(x + i, p, p), d, out + i);
    }
    if (i < n) hn::StoreU(codes(x + n - block, p, p), d, out + n - block);  // overlaps the one before
  }

  /// Columns [first, first + n) of a row, `count` tiles of `width` columns.
  HWY_INLINE void tiles(const T* row, std::size_t first, std::size_t n, std::size_t width, const tile_params& params, std::size_t count,
                        std::int8_t* out) const {
    std::size_t j = 0, c = 0;
    if (width == block / 2)
      for (; c + block <= n; j += 2, c += block) {
        next.prefetch(row, (first + c) * sizeof(T), block * sizeof(T));
        store<Streams>(codes(row + first + c, broadcast{params, j}, broadcast{params, j + 1}), i8_tag{}, out + first + c);
      }
    for (; j < count; ++j, c += width) segment(row, first + c, std::min(width, n - c), broadcast{params, j}, out);
  }
};

template <class T, code_kind Kind, bool Streams>
void quantize_matrix(matrix_view<const T> x, const quant_spec& spec, const_qparams_view q, matrix_view<std::int8_t> codes) {
  const tile shape = resolve(spec.granularity, x.rows(), x.cols());
  const next_strip next{x, next_strip::half::second};
  tile_params params;
  for (std::size_t r = 0; r < x.rows(); ++r)
    for (std::size_t j = 0; j < q.grid.cols; j += tile_params::capacity) {
      const std::size_t count = std::min(tile_params::capacity, q.grid.cols - j), at = r / shape.rows * q.grid.cols + j;
      const std::size_t c = j * shape.cols, n = std::min(count * shape.cols, x.cols() - c);
      params.prepare<Kind>(q.scales.data() + at, q.zero_points.empty() ? nullptr : q.zero_points.data() + at, count, spec);
      const finish<T> end{params};
      if (params.multiplies) quantizer<T, Kind, true, Streams>{end, next}.tiles(x.row(r), c, n, shape.cols, params, count, codes.row(r));
      else quantizer<T, Kind, false, false>{end, next}.tiles(x.row(r), c, n, shape.cols, params, count, codes.row(r));
    }
}

template <class T, code_kind Kind>
void quantize_matrix(matrix_view<const T> x, const quant_spec& spec, const_qparams_view q, matrix_view<std::int8_t> codes, bool streams) {
  // Streaming stores need every block of every row aligned: tiles of whole blocks, or pairs of half blocks.
  const bool whole_blocks = q.grid.cols == 1 || spec.granularity.cols % block == 0 || (spec.granularity.cols == block / 2 && q.grid.cols % 2 == 0);
  if (streams && whole_blocks && is_aligned(codes.data()) && (codes.rows() == 1 || codes.stride() % HWY_MAX_BYTES == 0))
    quantize_matrix<T, Kind, true>(x, spec, q, codes);
  else quantize_matrix<T, Kind, false>(x, spec, q, codes);
}

/// `streams`: the codes are not read soon, keep them out of the caches.
template <class T>
void quantize(matrix_view<const T> x, const quant_spec& spec, const_qparams_view q, matrix_view<std::int8_t> codes, bool streams = false) {
  if (x.size() == 0) return;
  if (arithmetic_of_codes(spec) != dtype::f32) return scalar_backend{}.quantize(x, spec, q, codes);
  if (spec.type == number::floating) return quantize_matrix<T, code_kind::e4m3>(x, spec, q, codes, streams);
  if (spec.symmetric) return quantize_matrix<T, code_kind::symmetric>(x, spec, q, codes, streams);
  return quantize_matrix<T, code_kind::asymmetric>(x, spec, q, codes, streams);
}

/// e4m3_to_float lane by lane; the code is in the low byte.
HWY_INLINE floats e4m3_values(ints code) {
  const i32_tag d;
  const float_tag df;
  const ints magnitude = hn::And(code, hn::Set(d, 0x7f)), sign = hn::ShiftLeft<24>(hn::And(code, hn::Set(d, 0x80)));
  const ints normal = hn::Add(hn::ShiftLeft<20>(magnitude), hn::Set(d, 0x3c000000));
  const ints subnormal = hn::BitCast(d, hn::Mul(hn::ConvertTo(df, magnitude), hn::Set(df, 0x1p-9f)));
  const ints finite = hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, 8)), subnormal, normal);
  return hn::BitCast(df, hn::Or(sign, hn::IfThenElse(hn::Eq(magnitude, hn::Set(d, 0x7f)), hn::Set(d, 0x7fc00000), finite)));
}

template <bool Floating>
HWY_INLINE void dequantize_vector(const std::int8_t* codes, std::int32_t zero_point, float scale, float* out) {
  const i32_tag d;
  const float_tag df;
  const ints code = hn::PromoteTo(d, hn::LoadU(hn::Rebind<std::int8_t, i32_tag>{}, codes));
  floats v;
  if constexpr (Floating) v = e4m3_values(code);
  else v = hn::ConvertTo(df, hn::Sub(code, hn::Set(d, zero_point)));
  hn::StoreU(hn::Mul(v, hn::Set(df, scale)), df, out);
}

template <bool Floating>
HWY_INLINE void dequantize_segment(const std::int8_t* codes, std::size_t n, std::int32_t zero_point, float scale, float* out) {
  if (n < lanes) {
    std::int8_t padded[lanes] = {};
    float values[lanes];
    std::memcpy(padded, codes, n);
    dequantize_vector<Floating>(padded, zero_point, scale, values);
    std::memcpy(out, values, n * sizeof(float));
    return;
  }
  for (std::size_t i = 0; i + lanes <= n; i += lanes) dequantize_vector<Floating>(codes + i, zero_point, scale, out + i);
  if (n % lanes != 0) dequantize_vector<Floating>(codes + n - lanes, zero_point, scale, out + n - lanes);
}

inline void dequantize(matrix_view<const std::int8_t> codes, const quant_spec& spec, const_qparams_view q, matrix_view<float> out) {
  if (codes.size() == 0) return;
  const tile shape = resolve(spec.granularity, codes.rows(), codes.cols());
  for (std::size_t r = 0; r < codes.rows(); ++r)
    for (std::size_t j = 0; j < q.grid.cols; ++j) {
      const std::size_t i = r / shape.rows * q.grid.cols + j, c = j * shape.cols, n = std::min(shape.cols, codes.cols() - c);
      const std::int32_t zero_point = q.zero_points.empty() ? 0 : q.zero_points[i];
      if (spec.type == number::floating) dequantize_segment<true>(codes.row(r) + c, n, zero_point, q.scales[i], out.row(r) + c);
      else dequantize_segment<false>(codes.row(r) + c, n, zero_point, q.scales[i], out.row(r) + c);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS
#endif  // toggle
