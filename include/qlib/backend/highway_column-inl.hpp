// Statistics of columns for one SIMD target (see highway_lanes-inl.hpp about the guard).
#if defined(QLIB_BACKEND_HIGHWAY_COLUMN_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QLIB_BACKEND_HIGHWAY_COLUMN_INL
#undef QLIB_BACKEND_HIGHWAY_COLUMN_INL
#else
#define QLIB_BACKEND_HIGHWAY_COLUMN_INL
#endif

#include <qlib/backend/highway_lanes-inl.hpp>

#if QLIB_HIGHWAY_KERNELS
HWY_BEFORE_NAMESPACE();
namespace qlib::inline v0 {
namespace HWY_NAMESPACE {

/// Rows that are read side by side, so that the results of a column are loaded and stored once for all of them.
inline constexpr std::size_t rows_together = 8;

/// Columns [c, c + lanes) of x, rows [r, r + n), by the scalar rule.
template <class T>
HWY_INLINE void join_columns_by_value(matrix_view<const T> x, std::size_t r, std::size_t n, std::size_t c, std::size_t count, range* out) {
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t k = c; k < c + count; ++k) out[k] = join(out[k], range_of_value(qlib::to_float(x(r + i, k))));
}

/// Joins the ranges of the columns of rows [r, r + Rows) into out[x.cols()].
template <std::size_t Rows, class T>
HWY_INLINE void join_columns(matrix_view<const T> x, std::size_t r, range* out) {
  const float_tag d;
  const floats finite = hn::Set(d, std::numeric_limits<float>::max());
  const T* row = x.row(r);
  std::size_t c = 0;
  for (; c + lanes <= x.cols(); c += lanes) {
    floats low = load_lanes(row + c), high = low, sum = low;
    for (std::size_t i = 1; i < Rows; ++i) {
      const floats v = load_lanes(row + i * x.stride() + c);
      low = hn::Min(low, v);
      high = hn::Max(high, v);
      sum = hn::Add(sum, v);  // NaN if a value is: infinities may make it so too, never hide it
    }
    low = hn::Add(low, hn::Zero(d));  // -0 counts as 0
    high = hn::Add(high, hn::Zero(d));
    floats old_low, old_high;
    auto* seen = reinterpret_cast<float*>(out + c);
    hn::LoadInterleaved2(d, seen, old_low, old_high);
    const auto good = hn::And(hn::And(hn::Ge(low, hn::Neg(finite)), hn::Le(high, finite)), hn::And(hn::Eq(old_low, old_low), hn::Eq(sum, sum)));
    if (hn::AllTrue(d, good)) hn::StoreInterleaved2(hn::Min(old_low, low), hn::Max(old_high, high), d, seen);
    else join_columns_by_value(x, r, Rows, c, lanes, out);
  }
  join_columns_by_value(x, r, Rows, c, x.cols() - c, out);
}

/// scalar_backend::ranges for tiles of one column and `tile_rows` rows.
template <class T>
void column_ranges(matrix_view<const T> x, std::size_t tile_rows, std::span<range> out) {
  for (std::size_t r = 0; r < x.rows();) {
    const std::size_t left = std::min(x.rows() - r, tile_rows - r % tile_rows);
    range* seen = out.data() + r / tile_rows * x.cols();
    if (left >= rows_together) join_columns<rows_together>(x, r, seen), r += rows_together;
    else join_columns<1>(x, r, seen), r += 1;
  }
}

/// Magnitudes are compared as integers, among which NaN and infinities are the largest.
template <std::size_t Rows, class T>
HWY_INLINE void raise_columns(matrix_view<const T> x, std::size_t r, std::span<float> out) {
  const float_tag d;
  const i32_tag di;
  const ints magnitude = hn::Set(di, 0x7fffffff), infinity = hn::Set(di, 0x7f800000), nan = hn::Set(di, 0x7fc00000);
  const T* row = x.row(r);
  std::size_t c = 0;
  for (; c + lanes <= x.cols(); c += lanes) {
    ints most = hn::And(hn::BitCast(di, hn::LoadU(d, out.data() + c)), magnitude);
    for (std::size_t i = 0; i < Rows; ++i) most = hn::Max(most, hn::And(hn::BitCast(di, load_lanes(row + i * x.stride() + c)), magnitude));
    most = hn::IfThenElse(hn::Lt(most, infinity), most, nan);
    hn::StoreU(hn::BitCast(d, most), d, out.data() + c);
  }
  scalar_backend{}.column_absmax(matrix_view<const T>{row + c, Rows, x.cols() - c, x.stride()}, out.subspan(c));
}

template <class T>
void column_absmax(matrix_view<const T> x, std::span<float> out) {
  std::size_t r = 0;
  for (; r + rows_together <= x.rows(); r += rows_together) raise_columns<rows_together>(x, r, out);
  for (; r < x.rows(); ++r) raise_columns<1>(x, r, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS
#endif  // toggle
