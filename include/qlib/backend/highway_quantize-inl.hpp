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
struct tile_params {
  static constexpr std::size_t capacity = 64;
  HWY_ALIGN float scale[capacity], inverse[capacity], low[capacity], high[capacity], zero[capacity];
  bool multiplies;  ///< low and high bound x; otherwise the kernels divide, and they bound the sum x / s + zero

  template <code_kind Kind>
  HWY_INLINE void prepare(const float* scales, const std::int32_t* zero_points, std::size_t count, const quant_spec& spec) {
    const float_tag d;
    const float code_low = Kind == code_kind::e4m3 ? -e4m3_max : static_cast<float>(spec.qmin());
    const float code_high = Kind == code_kind::e4m3 ? e4m3_max : static_cast<float>(spec.qmax());
    const std::size_t padded = (count + lanes - 1) / lanes * lanes;
    std::memcpy(scale, scales, count * sizeof(float));
    for (std::size_t i = count; i < padded; ++i) scale[i] = 1.0f;
    for (std::size_t i = 0; i < padded; ++i) zero[i] = Kind == code_kind::asymmetric && zero_points && i < count ? static_cast<float>(zero_points[i]) : 0.0f;
    const auto one = hn::Set(d, 1.0f), smallest = hn::Set(d, 0x1p-80f), largest = hn::Set(d, 0x1p80f), largest_zero = hn::Set(d, 0x1p15f);
    auto inside = hn::Eq(one, one);
    for (std::size_t i = 0; i < padded; i += lanes) {
      const floats s = hn::Load(d, scale + i), z = hn::Load(d, zero + i);
      inside = hn::And(inside, hn::And(hn::And(hn::Ge(s, smallest), hn::Le(s, largest)), hn::Le(hn::Abs(z), largest_zero)));
      hn::Store(hn::Div(one, s), d, inverse + i);
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
  floats scale, inverse, low, high, zero;
  HWY_INLINE broadcast(const tile_params& p, std::size_t i)
      : scale{hn::Set(float_tag{}, p.scale[i])}, inverse{hn::Set(float_tag{}, p.inverse[i])}, low{hn::Set(float_tag{}, p.low[i])},
        high{hn::Set(float_tag{}, p.high[i])}, zero{hn::Set(float_tag{}, p.zero[i])} {}
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
  floats y;
  if constexpr (Multiplies) {
    const floats bounded = hn::Min(p.high, hn::Max(p.low, x));
    const floats near = hn::Mul(bounded, p.inverse);
    y = hn::MulAdd(hn::NegMulAdd(near, p.scale, bounded), p.inverse, near);
    if constexpr (Kind == code_kind::asymmetric) y = hn::Add(y, p.zero);
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
  const i16_tag d;
  if constexpr (even_odd<T>) return hn::OddEven(hn::BitCast(d, hn::ShiftLeft<16>(b)), hn::BitCast(d, a));
  return narrow(a, b);
}

/// Codes of `block` elements: the first half with parameters p, the second with q.
template <class T, code_kind Kind, bool Multiplies>
HWY_INLINE void quantize_block(const T* x, const broadcast& p, const broadcast& q, const in_order& order, std::int8_t* out) {
  const shorts a = codes_of_pair<T, Kind, Multiplies>(x, p), b = codes_of_pair<T, Kind, Multiplies>(x + block / 2, q);
  hn::StoreU(order(narrow_signed(a, b)), i8_tag{}, out);
}

template <class T, code_kind Kind, bool Multiplies>
HWY_INLINE void quantize_segment(const T* x, std::size_t n, const broadcast& p, const in_order& order, std::size_t ahead, std::int8_t* out) {
  if (n < block) {
    T padded[block] = {};
    std::int8_t codes[block];
    std::memcpy(padded, x, n * sizeof(T));
    quantize_block<T, Kind, Multiplies>(padded, p, p, order, codes);
    std::memcpy(out, codes, n);
    return;
  }
  std::size_t i = 0;
  for (; i + block <= n; i += block) {
    prefetch_block(x + i, ahead);
    quantize_block<T, Kind, Multiplies>(x + i, p, p, order, out + i);
  }
  if (i < n) quantize_block<T, Kind, Multiplies>(x + n - block, p, p, order, out + n - block);  // overlaps the one before
}

/// Tiles [0, count) of one row, the columns [0, n), `width` columns a tile.
template <class T, code_kind Kind, bool Multiplies>
HWY_INLINE void quantize_tiles(const T* x, std::size_t n, std::size_t width, const tile_params& params, std::size_t count, std::size_t ahead,
                               std::int8_t* out) {
  const in_order order{!even_odd<T>};
  std::size_t j = 0, c = 0;
  if (width == block / 2)
    for (; c + block <= n; j += 2, c += block) {
      prefetch_block(x + c, ahead);
      quantize_block<T, Kind, Multiplies>(x + c, broadcast{params, j}, broadcast{params, j + 1}, order, out + c);
    }
  for (; j < count; ++j, c += width) quantize_segment<T, Kind, Multiplies>(x + c, std::min(width, n - c), broadcast{params, j}, order, ahead, out + c);
}

template <class T, code_kind Kind>
void quantize_matrix(matrix_view<const T> x, const quant_spec& spec, const_qparams_view q, matrix_view<std::int8_t> codes) {
  const tile shape = resolve(spec.granularity, x.rows(), x.cols());
  // A strip is followed by the next one, which will be read soon. More than that is not a strip: then the element itself, which is a no-op.
  const std::size_t strip = x.rows() * x.stride();
  const std::size_t ahead = strip * sizeof(T) <= (std::size_t{128} << 10) ? strip : 0;
  tile_params params;
  for (std::size_t r = 0; r < x.rows(); ++r)
    for (std::size_t first = 0; first < q.grid.cols; first += tile_params::capacity) {
      const std::size_t count = std::min(tile_params::capacity, q.grid.cols - first), at = r / shape.rows * q.grid.cols + first;
      const std::size_t c = first * shape.cols, n = std::min(count * shape.cols, x.cols() - c);
      params.prepare<Kind>(q.scales.data() + at, q.zero_points.empty() ? nullptr : q.zero_points.data() + at, count, spec);
      if (params.multiplies)
        quantize_tiles<T, Kind, true>(x.row(r) + c, n, shape.cols, params, count, ahead, codes.row(r) + c);
      else
        quantize_tiles<T, Kind, false>(x.row(r) + c, n, shape.cols, params, count, ahead, codes.row(r) + c);
    }
}

template <class T>
void quantize(matrix_view<const T> x, const quant_spec& spec, const_qparams_view q, matrix_view<std::int8_t> codes) {
  if (x.size() == 0) return;
  if (spec.arithmetic != dtype::f32) return scalar_backend{}.quantize(x, spec, q, codes);
  if (spec.type == number::floating) return quantize_matrix<T, code_kind::e4m3>(x, spec, q, codes);
  if (spec.symmetric) return quantize_matrix<T, code_kind::symmetric>(x, spec, q, codes);
  return quantize_matrix<T, code_kind::asymmetric>(x, spec, q, codes);
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
      if (spec.type == number::floating)
        dequantize_segment<true>(codes.row(r) + c, n, zero_point, q.scales[i], out.row(r) + c);
      else
        dequantize_segment<false>(codes.row(r) + c, n, zero_point, q.scales[i], out.row(r) + c);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS
#endif  // toggle
