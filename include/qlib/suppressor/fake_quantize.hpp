#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/qparams.hpp>
#include <qlib/core/view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace qlib::inline v0 {

/// Quantizes and dequantizes matrices in place, with the parameters that the values themselves give (round to nearest), strip by strip: a strip
/// and its codes stay in the L2 cache. Keeps its memory between calls.
class fake_quantizer {
 public:
  explicit fake_quantizer(const quant_spec& spec) : spec_{spec} {}

  /// w: whole tiles. False if a value is NaN or infinite: w is not specified then.
  bool operator()(matrix_view<float> w) {
    const tile shape = resolve(spec_.granularity, w.rows(), w.cols());
    const std::size_t strip_bytes = std::size_t{128} << 10;
    const std::size_t units = std::max<std::size_t>(1, strip_bytes / std::max<std::size_t>(1, shape.rows * w.cols() * sizeof(float)));
    const std::size_t step = std::min(w.rows(), units * shape.rows);
    for (std::size_t r = 0; r < w.rows(); r += step) {
      const auto strip = w.strip(r, std::min(step, w.rows() - r));
      const grid g = grid_of(shape, strip.rows(), strip.cols());
      const bool zeros = !spec_.symmetric && spec_.type == number::integer;
      scales_.resize(g.tiles());
      zero_points_.resize(zeros ? g.tiles() : 0);
      if (!backend_.solve_tiles(matrix_view<const float>{strip}, spec_, {g, scales_, zero_points_})) return false;
      by(strip, {g, scales_, zero_points_});
    }
    return true;
  }

  /// The same with parameters that are given.
  void by(matrix_view<float> w, const qparams_view& q) {
    codes_.resize(w.size());
    const matrix_view<std::int8_t> codes{codes_.data(), w.rows(), w.cols()};
    backend_.quantize(matrix_view<const float>{w}, spec_, as_const(q), codes);
    backend_.dequantize(matrix_view<const std::int8_t>{codes}, spec_, as_const(q), w);
  }

 private:
  quant_spec spec_;
  native_backend backend_;
  std::vector<float> scales_;
  std::vector<std::int32_t> zero_points_;
  std::vector<std::int8_t> codes_;
};

}  // namespace qlib::inline v0
