// Parameters of tiles for one SIMD target: from their ranges, and from the tiles themselves (see highway_lanes-inl.hpp about the guard).
#if defined(QLIB_BACKEND_HIGHWAY_QPARAMS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QLIB_BACKEND_HIGHWAY_QPARAMS_INL
#undef QLIB_BACKEND_HIGHWAY_QPARAMS_INL
#else
#define QLIB_BACKEND_HIGHWAY_QPARAMS_INL
#endif

#include <qlib/backend/highway_range-inl.hpp>

#if QLIB_HIGHWAY_KERNELS
HWY_BEFORE_NAMESPACE();
namespace qlib::inline v0 {
namespace HWY_NAMESPACE {

/// solve_qparams of `lanes` ranges with integer codes, in the same order of operations.
class vector_solver {
 public:
  static bool solves(const quant_spec& spec) {
    const auto vectors = [](dtype t) { return t == dtype::f32 || t == dtype::bf16; };
    return spec.type == number::integer && vectors(spec.arithmetic) && vectors(spec.scale_dtype);
  }
  explicit HWY_INLINE vector_solver(const quant_spec& spec)
      : symmetric_{spec.symmetric},
        ascend_{spec.rule == scale_rule::ascend},
        to_bf16_{spec.scale_dtype == dtype::bf16},
        in_bf16_{spec.arithmetic == dtype::bf16},
        qmin_{hn::Set(float_tag{}, static_cast<float>(spec.qmin()))},
        qmax_{hn::Set(float_tag{}, static_cast<float>(spec.qmax()))},
        steps_{hn::Sub(qmax_, qmin_)},
        divisor_{ascend_ ? qmax_ : hn::Div(steps_, hn::Set(float_tag{}, 2.0f))},
        smallest_{hn::Set(float_tag{}, ascend_ ? 0x1p-23f : epsilon_of(in_bf16_ ? dtype::bf16 : spec.scale_dtype))} {}

  /// `low` and `high` are finite, or an empty range.
  HWY_INLINE void solve(floats low, floats high, float* scales, std::int32_t* zero_points) const {
    const float_tag d;
    const floats none = hn::Zero(d), inf = hn::Inf(d);
    low = hn::Min(low, none);
    high = hn::Max(high, none);
    const auto rd = [&](floats x) { return in_bf16_ ? rounded_to_bf16(x) : x; };
    const auto in_two = [&] { return rd(hn::Sub(rd(hn::Div(high, steps_)), rd(hn::Div(low, steps_)))); };
    const floats width = rd(hn::Sub(high, low));
    floats s = symmetric_ ? rd(hn::Div(hn::Max(hn::Neg(low), high), divisor_)) : ascend_ ? in_two() : rd(hn::Div(width, steps_));
    if (!symmetric_ && !ascend_ && HWY_UNLIKELY(!hn::AllFalse(d, hn::Eq(width, inf)))) s = hn::IfThenElse(hn::Eq(width, inf), in_two(), s);
    if (ascend_) s = hn::Max(s, smallest_);
    if (to_bf16_) s = rounded_to_bf16(s);
    s = hn::IfThenElse(hn::Gt(s, none), s, smallest_);
    hn::StoreU(s, d, scales);
    if (!zero_points) return;
    floats z = none;
    if (!symmetric_)
      z = ascend_ ? hn::Add(hn::Round(rd(hn::Div(hn::Neg(low), s))), qmin_)
                  : hn::Round(hn::Min(qmax_, hn::Max(qmin_, rd(hn::Sub(qmin_, rd(hn::Div(low, s)))))));
    z = hn::Min(qmax_, hn::Max(qmin_, z));
    if (!symmetric_ && !ascend_) z = hn::IfThenElse(hn::Eq(width, none), hn::Min(qmax_, hn::Max(qmin_, none)), z);
    hn::StoreU(hn::ConvertTo(i32_tag{}, z), i32_tag{}, zero_points);
  }

 private:
  /// to_bf16 of values that are no NaN.
  static HWY_INLINE floats rounded_to_bf16(floats x) {
    const u32_tag du;
    const auto bits = hn::BitCast(du, x);
    const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7fffu)), hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u)));
    return hn::BitCast(float_tag{}, hn::And(rounded, hn::Set(du, 0xffff0000u)));
  }

  bool symmetric_, ascend_, to_bf16_, in_bf16_;
  floats qmin_, qmax_, steps_, divisor_, smallest_;
};

/// The scalar solve_qparams, one division of a vector where it takes as long a value.
inline void solve_qparams(std::span<const range> seen, const quant_spec& spec, qparams_view out) {
  if (!vector_solver::solves(spec)) return qlib::solve_qparams(seen, spec, out);
  const vector_solver solver{spec};
  const auto whole = seen.size() / lanes * lanes;
  for (std::size_t i = 0; i < whole; i += lanes) {
    floats low, high;
    hn::LoadInterleaved2(float_tag{}, reinterpret_cast<const float*>(seen.data() + i), low, high);
    solver.solve(low, high, out.scales.data() + i, out.zero_points.empty() ? nullptr : out.zero_points.data() + i);
  }
  qlib::solve_qparams(seen.subspan(whole), spec,
                      {out.grid, out.scales.subspan(whole), out.zero_points.empty() ? out.zero_points : out.zero_points.subspan(whole)});
}

/// Row r's groups of one row, `lanes` at a time, their extremes never stored. False if a value is not finite, or if range_of has to look closer.
template <class T, bool Symmetric>
HWY_INLINE bool solve_groups(const T* row, std::size_t group, std::size_t count, const vector_solver& solver, float* scales,
                             std::int32_t* zero_points, const next_strip& next) {
  for (std::size_t j = 0; j < count; j += lanes) {
    const std::size_t first = std::min(j, count - lanes);  // the last may overlap the ones before
    floats low, high;
    if (!extremes_of_groups<T, Symmetric>(row, first * group, group, low, high, next)) return false;
    solver.solve(low, high, scales + first, zero_points ? zero_points + first : nullptr);
  }
  return true;
}

/// ranges, then solve_qparams. False if a tile is not finite; the parameters are not specified then.
template <class T>
bool solve_tiles(matrix_view<const T> x, const quant_spec& spec, qparams_view q) {
  if (x.size() == 0) return true;
  const tile shape = resolve(spec.granularity, x.rows(), x.cols());
  const next_strip next{x, next_strip::half::first};
  const bool groups = shape.rows == 1 && reads_groups(shape.cols, x.cols() / shape.cols) && x.cols() % shape.cols == 0 && vector_solver::solves(spec);
  const vector_solver solver{spec};
  constexpr std::size_t capacity = 64;
  range seen[capacity];
  for (std::size_t r = 0; r < x.rows(); r += shape.rows) {
    const std::size_t at = r / shape.rows * q.grid.cols;
    float* scales = q.scales.data() + at;
    std::int32_t* zero_points = q.zero_points.empty() ? nullptr : q.zero_points.data() + at;
    if (groups && (spec.symmetric ? solve_groups<T, true>(x.row(r), shape.cols, q.grid.cols, solver, scales, zero_points, next)
                                  : solve_groups<T, false>(x.row(r), shape.cols, q.grid.cols, solver, scales, zero_points, next)))
      continue;
    for (std::size_t j = 0; j < q.grid.cols; j += capacity) {
      const std::size_t count = std::min(capacity, q.grid.cols - j), c = j * shape.cols, height = std::min(shape.rows, x.rows() - r);
      const matrix_view<const T> part{x.row(r) + c, height, std::min(count * shape.cols, x.cols() - c), x.stride()};
      std::fill(seen, seen + count, range::empty());
      ranges(part, {height, shape.cols}, std::span{seen, count}, next);
      for (std::size_t i = 0; i < count; ++i)
        if (!seen[i].defined()) return false;
      HWY_NAMESPACE::solve_qparams(std::span<const range>{seen, count}, spec,
                                   {{1, count}, q.scales.subspan(at + j, count), zero_points ? q.zero_points.subspan(at + j, count) : q.zero_points});
    }
  }
  return true;
}

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS
#endif  // toggle
