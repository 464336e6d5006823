#pragma once
#include <qlib/concepts.hpp>

#include <algorithm>
#include <bit>
#include <cmath>

namespace qlib::inline v0 {

/// The range of one value. -0 counts as 0, so that ranges do not depend on the order in which values are seen.
inline range range_of_value(float v) { return std::isfinite(v) ? range{v + 0.0f, v + 0.0f} : range::undefined(); }

/// Equal bins over [low, high] and the f32 arithmetic that finds a value's: trunc((v - low) * bins / (high - low)), as torch.histc does
/// (PyTorch 2.14; its own results change if any of the three operations is exact). Wide limits are scaled by 2^-28, which is exact where
/// torch's numbers are finite.
class equal_bins {
 public:
  /// `limits`: finite, min < max. `bins`: 1 to 2^24.
  equal_bins(range limits, std::size_t bins)
      : low{limits.min}, high{limits.max}, bins{bins}, scale{limits.max - limits.min > 0x1p100f ? 0x1p-28f : 1.0f} {
    origin = low * scale;
    width = high * scale - origin;
    count = static_cast<float>(bins);
  }

  /// The bin of v; high itself is in the last. `bins` where v is in none: outside of the limits, or NaN.
  std::size_t of(float v) const {
    if (!(v >= low && v <= high)) return bins;
    return std::min(static_cast<std::size_t>((v * scale - origin) * count / width), bins - 1);
  }

  float low, high;
  std::size_t bins;
  float scale, origin, width, count;
};

/// The specification of every kernel: plain loops, one value at a time. Faster backends inherit from it, override what they
/// improve, and are compared with it bit for bit (tests/conformance/backend_test.cpp).
///
/// No kernel allocates. Views must not overlap.
struct scalar_backend {
  static constexpr std::string_view name = "scalar";

  /// x widened to f32; exact.
  template <Element T>
  void to_float(matrix_view<const T> x, matrix_view<float> out) const {
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t c = 0; c < x.cols(); ++c) out(r, c) = qlib::to_float(x(r, c));
  }

  /// Joins the range of each tile of x into `out`, row-major over grid_of(t, x.rows(), x.cols()). A tile with a NaN or an infinity
  /// becomes range::undefined().
  template <Element T>
  void ranges(matrix_view<const T> x, tile t, std::span<range> out) const {
    const tile shape = resolve(t, x.rows(), x.cols());
    const std::size_t grid_cols = grid_of(t, x.rows(), x.cols()).cols;
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t c = 0; c < x.cols(); ++c) {
        range& seen = out[(r / shape.rows) * grid_cols + c / shape.cols];
        seen = join(seen, range_of_value(qlib::to_float(x(r, c))));
      }
  }

  /// Raises each out[c] to the largest |x| of column c; NaN where the column holds a NaN or an infinity, or out[c] is NaN.
  /// out: [x.cols()], 0 or more.
  template <Element T>
  void column_absmax(matrix_view<const T> x, std::span<float> out) const {
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t c = 0; c < x.cols(); ++c) {
        const float v = std::fabs(qlib::to_float(x(r, c)));
        if (!std::isfinite(v) || std::isnan(out[c])) out[c] = std::numeric_limits<float>::quiet_NaN();
        else out[c] = std::max(out[c], v);
      }
  }

  /// Adds to counts[b] how many values of x lie in bin b of equal_bins(limits, counts.size()). At most 2^32 - 1 values a bin.
  template <Element T>
  void histogram(matrix_view<const T> x, range limits, std::span<std::uint32_t> counts) const {
    const equal_bins bins{limits, counts.size()};
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t c = 0; c < x.cols(); ++c)
        if (const std::size_t b = bins.of(qlib::to_float(x(r, c))); b < counts.size()) ++counts[b];
  }

  /// Copies the values of x that are not in [inner.min, inner.max], NaN among them, to `out`, in order and as long as they fit. Returns how
  /// many there are.
  template <Element T>
  std::size_t outside(matrix_view<const T> x, range inner, std::span<float> out) const {
    std::size_t found = 0;
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t c = 0; c < x.cols(); ++c) {
        const float v = qlib::to_float(x(r, c));
        if (v >= inner.min && v <= inner.max) continue;
        if (found < out.size()) out[found] = v;
        ++found;
      }
    return found;
  }

  /// Scale and zero point of each range; all are defined (docs/rounding.md).
  void solve_qparams(std::span<const range> seen, const quant_spec& spec, qparams_view out) const { qlib::solve_qparams(seen, spec, out); }

  /// Scale and zero point of each tile of x from its own extremes: ranges, then solve_qparams. False if a tile has a NaN or an infinity:
  /// the parameters are not specified then. q.grid tiles x as spec.granularity says.
  template <Element T>
  bool solve_tiles(matrix_view<const T> x, const quant_spec& spec, qparams_view q) const {
    const tile shape = resolve(spec.granularity, x.rows(), x.cols());
    for (std::size_t i = 0; i < q.grid.tiles(); ++i) {
      const std::size_t first_row = i / q.grid.cols * shape.rows, first_col = i % q.grid.cols * shape.cols;
      range seen = range::empty();
      for (std::size_t r = first_row; r < std::min(first_row + shape.rows, x.rows()); ++r)
        for (std::size_t c = first_col; c < std::min(first_col + shape.cols, x.cols()); ++c)
          seen = join(seen, range_of_value(qlib::to_float(x(r, c))));
      if (!seen.defined()) return false;
      qlib::solve_qparams(std::span<const range>{&seen, 1}, spec,
                          {{1, 1}, q.scales.subspan(i, 1), q.zero_points.empty() ? q.zero_points : q.zero_points.subspan(i, 1)});
    }
    return true;
  }

  /// codes = quantize_value(x) (e4m3 bits for floating specs). q.grid tiles x as spec.granularity says.
  template <Element T>
  void quantize(matrix_view<const T> x, const quant_spec& spec, const_qparams_view q, matrix_view<std::int8_t> codes) const {
    const tile shape = resolve(spec.granularity, x.rows(), x.cols());
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t c = 0; c < x.cols(); ++c) {
        const std::size_t i = (r / shape.rows) * q.grid.cols + c / shape.cols;
        const float v = qlib::to_float(x(r, c));
        codes(r, c) = spec.type == number::floating
                          ? std::bit_cast<std::int8_t>(quantize_value_e4m3(v, q.scales[i], spec))
                          : static_cast<std::int8_t>(quantize_value(v, q.scales[i], q.zero_points.empty() ? 0 : q.zero_points[i], spec));
      }
  }

  /// out = (codes - zero_point) * scale in f32.
  void dequantize(matrix_view<const std::int8_t> codes, const quant_spec& spec, const_qparams_view q, matrix_view<float> out) const {
    const tile shape = resolve(spec.granularity, codes.rows(), codes.cols());
    for (std::size_t r = 0; r < codes.rows(); ++r)
      for (std::size_t c = 0; c < codes.cols(); ++c) {
        const std::size_t i = (r / shape.rows) * q.grid.cols + c / shape.cols;
        const float v = spec.type == number::floating ? e4m3_to_float(std::bit_cast<std::uint8_t>(codes(r, c)))
                                                      : static_cast<float>(codes(r, c) - (q.zero_points.empty() ? 0 : q.zero_points[i]));
        out(r, c) = v * q.scales[i];
      }
  }

  /// x[r, c] *= factors[c]. factors: [x.cols()].
  void scale_columns(matrix_view<float> x, std::span<const float> factors) const {
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t c = 0; c < x.cols(); ++c) x(r, c) *= factors[c];
  }

  /// x[r, c] *= factors[r]. factors: [x.rows()].
  void scale_rows(matrix_view<float> x, std::span<const float> factors) const {
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t c = 0; c < x.cols(); ++c) x(r, c) *= factors[r];
  }

  /// solve_tiles and quantize of the products x[r, c] * factors[c], each rounded to f32. False if a tile has a product that is not finite: q and
  /// codes are not specified then. factors: [x.cols()], finite and positive, or empty for ones. q.grid tiles x as spec.granularity says.
  template <Element T>
  bool scaled_quantize(matrix_view<const T> x, std::span<const float> factors, const quant_spec& spec, qparams_view q,
                       matrix_view<std::int8_t> codes) const {
    const auto product = [&](std::size_t r, std::size_t c) {
      return factors.empty() ? qlib::to_float(x(r, c)) : qlib::to_float(x(r, c)) * factors[c];
    };
    return for_each_solved_tile(x.rows(), x.cols(), spec, product,
                                [&](std::size_t i, std::size_t r, std::size_t c, float v, const scale_and_zero& p) {
                                  q.scales[i] = p.scale;
                                  if (!q.zero_points.empty()) q.zero_points[i] = p.zero_point;
                                  codes(r, c) = code_of(v, p, spec);
                                });
  }

  /// What quantization leaves of x behind a scaling of its columns: out = dequantize(quantize(x * factors)) / factors with the parameters of
  /// solve_tiles, every operation rounded to f32. False as scaled_quantize: out is not specified then.
  template <Element T>
  bool scaled_fake_quantize(matrix_view<const T> x, std::span<const float> factors, const quant_spec& spec, matrix_view<float> out) const {
    const auto product = [&](std::size_t r, std::size_t c) {
      return factors.empty() ? qlib::to_float(x(r, c)) : qlib::to_float(x(r, c)) * factors[c];
    };
    return for_each_solved_tile(x.rows(), x.cols(), spec, product, [&](std::size_t, std::size_t r, std::size_t c, float v, const scale_and_zero& p) {
      const float back = value_of(code_of(v, p, spec), p, spec);
      out(r, c) = factors.empty() ? back : back / factors[c];
    });
  }

  /// Each row, cut into pieces of `block` elements, times the Sylvester matrix of that order, which is symmetric; not normalized.
  ///
  /// The order of additions: distances 1, 2, 4, ... block / 2; at each, (a, b) that far apart become (a + b, a - b). Exact for integers as long
  /// as |x| block < 2^24. block: a power of two that divides x.cols(). Which NaN a NaN becomes is not specified.
  void hadamard_rows(matrix_view<float> x, std::size_t block) const {
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t h = 1; h < block; h *= 2)
        for (std::size_t first = 0; first < x.cols(); first += 2 * h)
          for (std::size_t c = first; c < first + h; ++c) butterfly(x(r, c), x(r, c + h));
  }

  /// The same of each column, cut into pieces of `block` rows. block divides x.rows().
  void hadamard_columns(matrix_view<float> x, std::size_t block) const {
    for (std::size_t h = 1; h < block; h *= 2)
      for (std::size_t r = 0; r < x.rows(); ++r)
        for (std::size_t c = 0; (r & h) == 0 && c < x.cols(); ++c) butterfly(x(r, c), x(r + h, c));
  }

  /// out[j] = signs(0, j) x[0] + signs(1, j) x[1] + ..., whole rows, summed in runs of `rows_a_run` rows; each is a chain in ascending order, and
  /// so are their sums. signs: [x.rows(), out.rows()], each 1 or -1. At least one row. out does not overlap x.
  void combine_rows(matrix_view<const float> signs, matrix_view<const float> x, matrix_view<float> out) const {
    for (std::size_t j = 0; j < out.rows(); ++j)
      for (std::size_t c = 0; c < x.cols(); ++c)
        for (std::size_t first = 0; first < x.rows(); first += rows_a_run) {
          float sum = signs(first, j) * x(first, c);
          for (std::size_t i = first + 1; i < std::min(first + rows_a_run, x.rows()); ++i) sum += signs(i, j) * x(i, c);
          out(j, c) = first == 0 ? sum : out(j, c) + sum;
        }
  }
  static constexpr std::size_t rows_a_run = 16;  ///< long chains would lose a bit more each time that their length quadruples

  /// Two codes a byte along a row, the even column in the low nibble: byte j = (q[2j] & 15 ^ flip) | (q[2j+1] & 15 ^ flip) << 4.
  /// flip 8 turns two's complement into offset binary. Bytes beyond the last code, and the nibble after an odd one, are zero.
  void pack_nibbles(matrix_view<const std::int8_t> codes, std::uint8_t flip, matrix_view<std::uint8_t> bytes) const {
    const auto nibble = [&](std::size_t r, std::size_t c) -> unsigned {
      return c < codes.cols() ? (static_cast<unsigned>(codes(r, c)) & 15u) ^ flip : 0u;
    };
    for (std::size_t r = 0; r < codes.rows(); ++r)
      for (std::size_t j = 0; j < bytes.cols(); ++j) bytes(r, j) = static_cast<std::uint8_t>(nibble(r, 2 * j) | nibble(r, 2 * j + 1) << 4);
  }

  /// quantize, then pack_nibbles, of int4 codes. codes: [x.rows, x.cols], room for the codes, whose contents are not specified after.
  template <Element T>
  void quantize_nibbles(matrix_view<const T> x, const quant_spec& spec, const_qparams_view q, std::uint8_t flip, matrix_view<std::int8_t> codes,
                        matrix_view<std::uint8_t> bytes) const {
    quantize(x, spec, q, codes);
    pack_nibbles(matrix_view<const std::int8_t>{codes}, flip, bytes);
  }

  /// Two rows a byte, the even row in the low nibble (specs of W4A8: AscendV1). codes: [2n, k], bytes: [n, k].
  void pack_nibble_rows(matrix_view<const std::int8_t> codes, matrix_view<std::uint8_t> bytes) const {
    for (std::size_t r = 0; r < bytes.rows(); ++r)
      for (std::size_t c = 0; c < codes.cols(); ++c)
        bytes(r, c) =
            static_cast<std::uint8_t>((static_cast<unsigned>(codes(2 * r, c)) & 15u) | (static_cast<unsigned>(codes(2 * r + 1, c)) & 15u) << 4);
  }

 private:
  static void butterfly(float& a, float& b) {
    const float sum = a + b;
    b = a - b;
    a = sum;
  }
  static std::int8_t code_of(float v, const scale_and_zero& p, const quant_spec& spec) {
    if (spec.type == number::floating) return std::bit_cast<std::int8_t>(quantize_value_e4m3(v, p.scale, spec));
    return static_cast<std::int8_t>(quantize_value(v, p.scale, p.zero_point, spec));
  }
  static float value_of(std::int8_t code, const scale_and_zero& p, const quant_spec& spec) {
    return (spec.type == number::floating ? e4m3_to_float(std::bit_cast<std::uint8_t>(code)) : static_cast<float>(code - p.zero_point)) * p.scale;
  }
  /// The tiles of a rows x cols matrix whose elements are element(r, c): visit(tile, r, c, element, the tile's parameters) for each.
  static bool for_each_solved_tile(std::size_t rows, std::size_t cols, const quant_spec& spec, auto element, auto visit) {
    const tile shape = resolve(spec.granularity, rows, cols);
    const grid tiles = grid_of(shape, rows, cols);
    for (std::size_t i = 0; i < tiles.tiles(); ++i) {
      const std::size_t r0 = i / tiles.cols * shape.rows, r1 = std::min(r0 + shape.rows, rows);
      const std::size_t c0 = i % tiles.cols * shape.cols, c1 = std::min(c0 + shape.cols, cols);
      range seen = range::empty();
      for (std::size_t r = r0; r < r1; ++r)
        for (std::size_t c = c0; c < c1; ++c) seen = join(seen, range_of_value(element(r, c)));
      if (!seen.defined()) return false;
      const scale_and_zero p = qlib::solve_qparams(seen, spec);
      for (std::size_t r = r0; r < r1; ++r)
        for (std::size_t c = c0; c < c1; ++c) visit(i, r, c, element(r, c), p);
    }
    return true;
  }
};
static_assert(Backend<scalar_backend>);

}  // namespace qlib::inline v0
