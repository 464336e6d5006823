#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/parallel.hpp>
#include <qlib/core/qparams.hpp>
#include <qlib/core/view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace qlib::inline v0 {

/// Quantizes and dequantizes matrices, with the parameters that the values themselves give (round to nearest), strip by strip: a strip and its
/// codes stay in the L2 cache. Keeps its memory between calls. The number of threads changes no bit.
class fake_quantizer {
 public:
  explicit fake_quantizer(const quant_spec& spec, std::size_t threads = 1) : spec_{spec}, workers_(std::max<std::size_t>(1, threads)) {}

  /// In place. w: whole tiles. False if a value is NaN or infinite: w is not specified then.
  bool operator()(matrix_view<float> w) { return in_strips(w, {}, w); }

  /// out = dequantize(quantize(w * scale)) / scale, column by column; no scale: out = dequantize(quantize(w)). False as above.
  /// `out` lies beside w; scale: [w.cols()], finite and positive.
  bool scaled(matrix_view<const float> w, std::span<const float> scale, matrix_view<float> out) { return in_strips(w, scale, out); }

  /// In place, with parameters that are given.
  void by(matrix_view<float> w, const qparams_view& q) { by(w, q, workers_.front()); }

 private:
  struct scratch {
    std::vector<float> scales;
    std::vector<std::int32_t> zero_points;
    std::vector<std::int8_t> codes;
  };

  bool in_strips(matrix_view<const float> w, std::span<const float> scale, matrix_view<float> out) {
    const tile shape = resolve(spec_.granularity, w.rows(), w.cols());
    const std::size_t strip_bytes = std::size_t{128} << 10;
    const std::size_t units = std::max<std::size_t>(1, strip_bytes / std::max<std::size_t>(1, shape.rows * w.cols() * sizeof(float)));
    const std::size_t step = std::max<std::size_t>(1, std::min(w.rows(), units * shape.rows));
    streams_ = out.size() * sizeof(float) > largest_cached;
    return parallel_for((w.rows() + step - 1) / step, workers_.size(), [&](std::size_t worker, std::size_t task) {
      const std::size_t first = task * step, rows = std::min(step, w.rows() - first);
      return strip(w.strip(first, rows), scale, out.strip(first, rows), workers_[worker]);
    });
  }

  bool strip(matrix_view<const float> w, std::span<const float> scale, matrix_view<float> out, scratch& own) {
    if (w.data() != out.data()) return in_one_pass(backend_, w, scale, out);
    const grid g = grid_of(spec_.granularity, w.rows(), w.cols());
    own.scales.resize(g.tiles());
    own.zero_points.resize(!spec_.symmetric && spec_.type == number::integer ? g.tiles() : 0);
    const qparams_view q{g, own.scales, own.zero_points};
    if (!backend_.solve_tiles(w, spec_, q)) return false;
    by(out, q, own);
    return true;
  }

  /// scalar_backend::scaled_fake_quantize; what does not fit the caches is written past them, or each line would be read first.
  template <class B>
  bool in_one_pass(const B& backend, matrix_view<const float> w, std::span<const float> scale, matrix_view<float> out) const {
    if constexpr (requires { backend.streaming(); }) {
      if (streams_) {
        const bool finite = backend.streaming().scaled_fake_quantize(w, scale, spec_, out);
        backend.finish_streaming();
        return finite;
      }
    }
    return backend.scaled_fake_quantize(w, scale, spec_, out);
  }

  void by(matrix_view<float> w, const qparams_view& q, scratch& own) {
    own.codes.resize(w.size());
    const matrix_view<std::int8_t> codes{own.codes.data(), w.rows(), w.cols()};
    backend_.quantize(matrix_view<const float>{w}, spec_, as_const(q), codes);
    backend_.dequantize(matrix_view<const std::int8_t>{codes}, spec_, as_const(q), w);
  }

  static constexpr std::size_t largest_cached = std::size_t{4} << 20;
  quant_spec spec_;
  native_backend backend_;
  std::vector<scratch> workers_;
  bool streams_ = false;
};

}  // namespace qlib::inline v0
