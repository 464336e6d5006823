// Scaling, and quantization behind a scaling, for one SIMD target (see highway_lanes-inl.hpp about the guard).
#if defined(QLIB_BACKEND_HIGHWAY_SCALED_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QLIB_BACKEND_HIGHWAY_SCALED_INL
#undef QLIB_BACKEND_HIGHWAY_SCALED_INL
#else
#define QLIB_BACKEND_HIGHWAY_SCALED_INL
#endif

#include <qlib/backend/highway_qparams-inl.hpp>
#include <qlib/backend/highway_quantize-inl.hpp>

#if QLIB_HIGHWAY_KERNELS
HWY_BEFORE_NAMESPACE();
namespace qlib::inline v0 {
namespace HWY_NAMESPACE {

/// Where the values lie that are read after the ones at hand, as many of them: prefetched half while these are scaled, half while they are
/// quantized, so that memory never idles. A hint.
struct upcoming {
  std::uintptr_t first_half, second_half;  // numbers: past a matrix's end they point to nothing

  template <class T>
  HWY_INLINE upcoming(const T* x, std::size_t n) : first_half{reinterpret_cast<std::uintptr_t>(x)}, second_half{first_half + n * sizeof(T) / 2} {}
  template <class T>
  HWY_INLINE void prefetch(std::uintptr_t half, std::size_t done) const {
    hwy::Prefetch(reinterpret_cast<const char*>(half + done * sizeof(T) / 2));
  }
};

/// out = x * factors, n values; x widened where `factors` is null.
template <class T>
HWY_INLINE void multiply_by(const T* x, const float* factors, std::size_t n, float* out, const upcoming& next) {
  const float_tag d;
  std::size_t i = 0;
  if (factors)
    for (; i + lanes <= n; i += lanes) {
      next.prefetch<T>(next.first_half, i);
      hn::StoreU(hn::Mul(load_lanes(x + i), hn::LoadU(d, factors + i)), d, out + i);
    }
  else
    for (; i + lanes <= n; i += lanes) hn::StoreU(load_lanes(x + i), d, out + i);
  for (; i < n; ++i) out[i] = factors ? qlib::to_float(x[i]) * factors[i] : qlib::to_float(x[i]);
}

inline void scale_columns(matrix_view<float> x, std::span<const float> factors) {
  const float_tag d;
  for (std::size_t r = 0; r < x.rows(); ++r) {
    float* const row = x.row(r);
    std::size_t c = 0;
    for (; c + lanes <= x.cols(); c += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, row + c), hn::LoadU(d, factors.data() + c)), d, row + c);
    for (; c < x.cols(); ++c) row[c] *= factors[c];
  }
}

inline void scale_rows(matrix_view<float> x, std::span<const float> factors) {
  const float_tag d;
  for (std::size_t r = 0; r < x.rows(); ++r) {
    float* const row = x.row(r);
    const floats factor = hn::Set(d, factors[r]);
    std::size_t c = 0;
    for (; c + lanes <= x.cols(); c += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, row + c), factor), d, row + c);
    for (; c < x.cols(); ++c) row[c] *= factors[r];
  }
}

/// Products that are quantized while they are in the L1 cache: as many columns of a row as a pass takes.
inline constexpr std::size_t products_at_once = 2048;
/// Tiles that a pass solves: with groups of 32 they fill it.
inline constexpr std::size_t solved_at_once = 64;
/// Rows that one pass over columns serves.
inline constexpr std::size_t rows_of_a_pass = 16;

/// Factors of some columns, and what division by them needs: tile_params says why x z + (x - (x z) s) z, z = RN(1 / s), is x / s. Here x is a code
/// times a scale that it has bounds for, which 2^30 keeps from underflow.
struct column_factors {
  HWY_ALIGN float inverse[products_at_once];
  const float* factors;
  bool multiplies;

  HWY_INLINE void prepare(const float* first, std::size_t n) {
    const float_tag d;
    factors = first;
    if (!first) {
      multiplies = true;
      return;
    }
    const floats one = hn::Set(d, 1.0f), smallest = hn::Set(d, 0x1p-30f), largest = hn::Set(d, 0x1p30f);
    auto inside = hn::Eq(one, one);
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      const floats s = hn::LoadU(d, first + i);
      inside = hn::And(inside, hn::And(hn::Ge(s, smallest), hn::Le(s, largest)));
      hn::Store(hn::Div(one, s), d, inverse + i);
    }
    multiplies = hn::AllTrue(d, inside);
    for (; i < n; ++i) {
      inverse[i] = 1.0f / first[i];
      multiplies = multiplies && first[i] >= 0x1p-30f && first[i] <= 0x1p30f;
    }
  }
};

/// Some products of one row, columns [column, column + n): `count` tiles of `width` columns, and their parameters.
struct scaled_part {
  const float* products;
  std::size_t row, column, n, width, count;
  const float* scales;
  const std::int32_t* zero_points;  ///< null: zeros
};

/// Writes dequantize(quantize(x)) / factors.
class float_sink {
 public:
  static constexpr bool divides = true;

  float_sink(matrix_view<float> out, bool streams) : out_{out}, streams_{streams && is_aligned(out.data()) && out.stride() % lanes == 0} {}

  template <class T>
  void write(const scaled_part& part, const quant_spec& spec, const column_factors& by, const upcoming& next) const {
    if (spec.type == number::floating) write_kind<T, code_kind::e4m3>(part, spec, by, next);
    else if (spec.symmetric) write_kind<T, code_kind::symmetric>(part, spec, by, next);
    else write_kind<T, code_kind::asymmetric>(part, spec, by, next);
  }

 private:
  template <class T, code_kind Kind>
  HWY_NOINLINE void write_kind(const scaled_part& part, const quant_spec& spec, const column_factors& by, const upcoming& next) const {
    tile_params params;
    params.prepare<Kind>(part.scales, part.zero_points, part.count, spec);
    for (std::size_t j = 0, i = 0; j < part.count; ++j, i += part.width) {
      const std::size_t n = std::min(part.width, part.n - i);
      float* const out = out_.row(part.row) + part.column + i;
      if (params.multiplies && by.multiplies) write_tile<T, Kind, true>(part.products + i, by, i, n, broadcast{params, j}, out, next);
      else write_tile<T, Kind, false>(part.products + i, by, i, n, divided(params, j, spec), out, next);
    }
  }

  /// The parameters of a tile for kernels that divide: low and high bound the quotients.
  static HWY_INLINE broadcast divided(const tile_params& params, std::size_t j, const quant_spec& spec) {
    broadcast p{params, j};
    const bool floating = spec.type == number::floating;
    p.low = hn::Set(float_tag{}, floating ? -e4m3_max : static_cast<float>(spec.qmin()));
    p.high = hn::Set(float_tag{}, floating ? e4m3_max : static_cast<float>(spec.qmax()));
    return p;
  }

  template <class T, code_kind Kind, bool Multiplies>
  HWY_INLINE void write_tile(const float* x, const column_factors& by, std::size_t first, std::size_t n, const broadcast& p, float* out,
                             const upcoming& next) const {
    const float_tag d;
    const float* const factors = by.factors ? by.factors + first : nullptr;
    const float* const inverse = by.inverse + first;
    std::size_t i = 0;
    if (factors)
      for (; i + lanes <= n; i += lanes) {
        next.prefetch<T>(next.second_half, first + i);
        const floats v = back<Kind, Multiplies>(hn::LoadU(d, x + i), p), s = hn::LoadU(d, factors + i);
        if constexpr (Multiplies) {
          const floats z = hn::LoadU(d, inverse + i), near = hn::Mul(v, z);
          floats quotient = hn::MulAdd(hn::NegMulAdd(near, s, v), z, near);
          if constexpr (Kind == code_kind::e4m3) quotient = hn::CopySign(quotient, v);  // of a zero
          put(quotient, out + i);
        } else {
          put(hn::Div(v, s), out + i);
        }
      }
    else
      for (; i + lanes <= n; i += lanes) put(back<Kind, Multiplies>(hn::LoadU(d, x + i), p), out + i);
    if (i == n) return;
    HWY_ALIGN float few[lanes] = {}, divisors[lanes];
    for (std::size_t k = 0; k < lanes; ++k) divisors[k] = 1.0f;
    std::memcpy(few, x + i, (n - i) * sizeof(float));
    if (factors) std::memcpy(divisors, factors + i, (n - i) * sizeof(float));
    hn::Store(hn::Div(back<Kind, Multiplies>(hn::Load(d, few), p), hn::Load(d, divisors)), d, few);
    std::memcpy(out + i, few, (n - i) * sizeof(float));
  }

  /// dequantize(quantize(x)). Bounding x bounds the codes: tile_params::low and high.
  template <code_kind Kind, bool Multiplies>
  static HWY_INLINE floats back(floats x, const broadcast& p) {
    if constexpr (Kind == code_kind::e4m3) {
      return hn::Mul(e4m3_values(codes_of<Kind, Multiplies>(x, p)), p.scale);
    } else {
      if constexpr (Multiplies) x = hn::Max(p.low, x);
      floats v = hn::ConvertTo(float_tag{}, codes_of<Kind, Multiplies>(x, p));
      if constexpr (Kind == code_kind::asymmetric) v = hn::Sub(v, p.zero);  // exact: both are small integers
      return hn::Mul(v, p.scale);
    }
  }

  HWY_INLINE void put(floats v, float* to) const {
    if (streams_ && is_aligned(to)) hn::Stream(v, float_tag{}, to);
    else hn::StoreU(v, float_tag{}, to);
  }

  matrix_view<float> out_;
  bool streams_;
};

/// Writes quantize(x).
class code_sink {
 public:
  static constexpr bool divides = false;

  code_sink(matrix_view<std::int8_t> codes, bool streams) : codes_{codes}, streams_{streams} {}

  template <class T>
  void write(const scaled_part& part, const quant_spec& spec, const column_factors&, const upcoming&) const {
    quant_spec tiles = spec;
    tiles.granularity = {1, part.width};
    quantize(matrix_view<const float>{part.products, 1, part.n}, tiles,
             {{1, part.count}, {part.scales, part.count}, {part.zero_points, part.zero_points ? part.count : std::size_t{0}}},
             {codes_.row(part.row) + part.column, 1, part.n}, streams_);
  }

 private:
  matrix_view<std::int8_t> codes_;
  bool streams_;
};

/// Solves the tiles of x * factors and hands their products to the sink. Tiles that are rows of at most `products_at_once` columns are solved and
/// quantized from the L1 cache; the others read x again, rows of up to 64 KiB from the L2 cache. q: where the parameters go, or null.
template <class T, class Sink>
class scaled_quantizer {
 public:
  scaled_quantizer(matrix_view<const T> x, const float* factors, const quant_spec& spec, const qparams_view* q, const Sink& sink)
      : x_{x},
        factors_{factors},
        spec_{spec},
        q_{q},
        sink_{sink},
        shape_{resolve(spec.granularity, x.rows(), x.cols())},
        grid_cols_{grid_of(shape_, x.rows(), x.cols()).cols},
        zeros_{spec.type == number::integer && !spec.symmetric} {}

  bool run() {
    const bool narrow = shape_.rows == 1 && shape_.cols <= products_at_once;
    const std::size_t step = shape_.rows == 1 ? rows_of_a_pass : shape_.rows;
    for (std::size_t r = 0; r < x_.rows(); r += step)
      if (const std::size_t end = std::min(r + step, x_.rows()); !(narrow ? narrow_tiles(r, end) : wide_tiles(r, end))) return false;
    return true;
  }

 private:
  /// Columns [c, c + n) of rows [r, end), which hold whole tiles.
  bool narrow_tiles(std::size_t r, std::size_t end) {
    const std::size_t together = std::min(solved_at_once, products_at_once / shape_.cols);
    quant_spec tiles = spec_;
    tiles.granularity = {1, shape_.cols};
    for (std::size_t j = 0; j < grid_cols_; j += together) {
      const std::size_t count = std::min(together, grid_cols_ - j), c = j * shape_.cols, n = std::min(count * shape_.cols, x_.cols() - c);
      prepare(c, n);
      for (std::size_t row = r; row < end; ++row) {
        const upcoming next = multiply(row, c, n, row + 1 < end ? row + 1 : r, row + 1 < end ? c : c + n);
        if (!solve_tiles(matrix_view<const float>{products_, 1, n}, tiles, {{1, count}, {scales_, count}, {zero_points_, zeros_ ? count : 0}}))
          return false;
        keep(row, j, count);
        sink_.template write<T>({products_, row, c, n, shape_.cols, count, scales_, zeros_ ? zero_points_ : nullptr}, spec_, by_, next);
      }
    }
    return true;
  }

  /// Rows [r, end): one tile high, or tiles of one row.
  bool wide_tiles(std::size_t r, std::size_t end) {
    const next_strip nothing{matrix_view<const float>{}, next_strip::half::first};
    const std::size_t height = shape_.rows;
    for (std::size_t j = 0; j < grid_cols_; ++j) {
      const std::size_t left = j * shape_.cols, right = std::min(left + shape_.cols, x_.cols());
      for (std::size_t row = r, i = 0; row < end; row += height, ++i) {
        range seen = range::empty();
        for (std::size_t k = row; k < std::min(row + height, end); ++k)
          for (std::size_t c = left; c < right; c += products_at_once) {
            const std::size_t n = std::min(products_at_once, right - c);
            multiply(k, c, n, k, c + n);
            seen = join(seen, range_of(products_, 0, n, nothing));
          }
        if (!seen.defined()) return false;
        const scale_and_zero p = qlib::solve_qparams(seen, spec_);
        scales_[i] = p.scale;
        zero_points_[i] = p.zero_point;
        if (!q_) continue;
        const std::size_t at = row / height * grid_cols_ + j;
        q_->scales[at] = p.scale;
        if (!q_->zero_points.empty()) q_->zero_points[at] = p.zero_point;
      }
      for (std::size_t c = left; c < right; c += products_at_once) {
        const std::size_t n = std::min(products_at_once, right - c);
        prepare(c, n);
        for (std::size_t row = r; row < end; ++row) {
          const upcoming next = multiply(row, c, n, row + 1 < end ? row + 1 : r, row + 1 < end ? c : c + n);
          const std::size_t i = (row - r) / height;
          sink_.template write<T>({products_, row, c, n, n, 1, scales_ + i, zeros_ ? zero_points_ + i : nullptr}, spec_, by_, next);
        }
      }
    }
    return true;
  }

  HWY_INLINE void prepare(std::size_t c, std::size_t n) {
    by_.factors = factors_ ? factors_ + c : nullptr;
    if constexpr (Sink::divides) by_.prepare(by_.factors, n);
  }

  /// Products of x[row][c, c + n); what is read next starts at x[next_row][next_column].
  HWY_INLINE upcoming multiply(std::size_t row, std::size_t c, std::size_t n, std::size_t next_row, std::size_t next_column) {
    const upcoming next{x_.row(next_row) + next_column, n};
    multiply_by(x_.row(row) + c, factors_ ? factors_ + c : nullptr, n, products_, next);
    return next;
  }

  void keep(std::size_t row, std::size_t j, std::size_t count) const {
    if (!q_) return;
    const std::size_t at = row * grid_cols_ + j;
    std::memcpy(q_->scales.data() + at, scales_, count * sizeof(float));
    if (q_->zero_points.empty()) return;
    for (std::size_t i = 0; i < count; ++i) q_->zero_points[at + i] = zeros_ ? zero_points_[i] : 0;
  }

  matrix_view<const T> x_;
  const float* factors_;
  const quant_spec& spec_;
  const qparams_view* q_;
  const Sink& sink_;
  tile shape_;
  std::size_t grid_cols_;
  bool zeros_;
  HWY_ALIGN float products_[products_at_once];
  float scales_[solved_at_once];
  std::int32_t zero_points_[solved_at_once];
  column_factors by_;
};

template <class T>
bool scaled_quantize(matrix_view<const T> x, std::span<const float> factors, const quant_spec& spec, qparams_view q, matrix_view<std::int8_t> codes,
                     bool streams = false) {
  if (x.size() == 0) return true;
  if (arithmetic_of_codes(spec) != dtype::f32) return scalar_backend{}.scaled_quantize(x, factors, spec, q, codes);
  const code_sink sink{codes, streams};
  return scaled_quantizer<T, code_sink>{x, factors.empty() ? nullptr : factors.data(), spec, &q, sink}.run();
}

/// `streams`: out is not read soon, keep it out of the caches.
template <class T>
bool scaled_fake_quantize(matrix_view<const T> x, std::span<const float> factors, const quant_spec& spec, matrix_view<float> out,
                          bool streams = false) {
  if (x.size() == 0) return true;
  if (arithmetic_of_codes(spec) != dtype::f32) return scalar_backend{}.scaled_fake_quantize(x, factors, spec, out);
  const float_sink sink{out, streams};
  return scaled_quantizer<T, float_sink>{x, factors.empty() ? nullptr : factors.data(), spec, nullptr, sink}.run();
}

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS
#endif  // toggle
