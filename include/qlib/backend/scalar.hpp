#pragma once
#include <qlib/concepts.hpp>

#include <algorithm>
#include <bit>
#include <cmath>

namespace qlib::inline v0 {

/// The range of one value. -0 counts as 0, so that ranges do not depend on the order in which values are seen.
inline range range_of_value(float v) { return std::isfinite(v) ? range{v + 0.0f, v + 0.0f} : range::undefined(); }

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

  /// Scale and zero point of each range; all are defined (docs/rounding.md).
  void solve_qparams(std::span<const range> seen, const quant_spec& spec, qparams_view out) const { qlib::solve_qparams(seen, spec, out); }

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

  /// Two codes a byte along a row, the even column in the low nibble: byte j = (q[2j] & 15 ^ flip) | (q[2j+1] & 15 ^ flip) << 4.
  /// flip 8 turns two's complement into offset binary. Bytes beyond the last code, and the nibble after an odd one, are zero.
  void pack_nibbles(matrix_view<const std::int8_t> codes, std::uint8_t flip, matrix_view<std::uint8_t> bytes) const {
    const auto nibble = [&](std::size_t r, std::size_t c) -> unsigned {
      return c < codes.cols() ? (static_cast<unsigned>(codes(r, c)) & 15u) ^ flip : 0u;
    };
    for (std::size_t r = 0; r < codes.rows(); ++r)
      for (std::size_t j = 0; j < bytes.cols(); ++j) bytes(r, j) = static_cast<std::uint8_t>(nibble(r, 2 * j) | nibble(r, 2 * j + 1) << 4);
  }

  /// Two rows a byte, the even row in the low nibble (specs of W4A8: AscendV1). codes: [2n, k], bytes: [n, k].
  void pack_nibble_rows(matrix_view<const std::int8_t> codes, matrix_view<std::uint8_t> bytes) const {
    for (std::size_t r = 0; r < bytes.rows(); ++r)
      for (std::size_t c = 0; c < codes.cols(); ++c)
        bytes(r, c) =
            static_cast<std::uint8_t>((static_cast<unsigned>(codes(2 * r, c)) & 15u) | (static_cast<unsigned>(codes(2 * r + 1, c)) & 15u) << 4);
  }
};
static_assert(Backend<scalar_backend>);

}  // namespace qlib::inline v0
