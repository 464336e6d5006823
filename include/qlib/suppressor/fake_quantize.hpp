#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/qparams.hpp>
#include <qlib/core/view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
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

  /// out = what quantization leaves of w behind a scaling of its columns: dequantize(quantize(w * factors)) / factors, in one pass over w
  /// (scalar_backend::scaled_fake_quantize). factors: [w.cols()], finite and positive, or empty for ones. out: w's shape, beside it. False as above.
  bool operator()(matrix_view<const float> w, std::span<const float> factors, matrix_view<float> out) const {
    return scaled(backend_, w, factors, out);
  }

  /// The same with parameters that are given.
  void by(matrix_view<float> w, const qparams_view& q) {
    codes_.resize(w.size());
    const matrix_view<std::int8_t> codes{codes_.data(), w.rows(), w.cols()};
    backend_.quantize(matrix_view<const float>{w}, spec_, as_const(q), codes);
    backend_.dequantize(matrix_view<const std::int8_t>{codes}, spec_, as_const(q), w);
  }

 private:
  template <class B>
  bool scaled(const B& backend, matrix_view<const float> w, std::span<const float> factors, matrix_view<float> out) const {
    if constexpr (requires { backend.streaming(); }) {
      if (out.size() * sizeof(float) > largest_cached) {  // written past the caches, or each line would be read first
        const bool finite = backend.streaming().scaled_fake_quantize(w, factors, spec_, out);
        backend.finish_streaming();
        return finite;
      }
    }
    return backend.scaled_fake_quantize(w, factors, spec_, out);
  }

  static constexpr std::size_t largest_cached = std::size_t{4} << 20;
  quant_spec spec_;
  native_backend backend_;
  std::vector<float> scales_;
  std::vector<std::int32_t> zero_points_;
  std::vector<std::int8_t> codes_;
};

}  // namespace qlib::inline v0
