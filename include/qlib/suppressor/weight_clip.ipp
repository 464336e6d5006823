#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/parallel.hpp>
#include <qlib/suppressor/weight_clip.hpp>

#include <algorithm>
#include <array>
#include <cmath>

namespace qlib::inline v0 {

namespace detail {

/// Rows whose tiles are tried together: ten versions of them should stay in the L2 cache, and share the packing of the other operand.
inline std::size_t clip_block_rows(std::size_t width) {
  return std::max<std::size_t>(16, (std::size_t{1} << 16) / (clip_steps * std::max<std::size_t>(1, width)));
}

/// The sum of a[i] b[i]: 16 lanes of f32 over 256 elements, those in f64.
inline double sum_of_products(const float* a, const float* b, std::size_t n) {
  constexpr std::size_t lanes = 16, block = 256;
  double sum = 0;
  for (std::size_t first = 0; first < n; first += block) {
    const std::size_t last = std::min(n, first + block);
    std::array<float, lanes> part{};
    std::size_t i = first;
    for (; i + lanes <= last; i += lanes)
      for (std::size_t l = 0; l < lanes; ++l) part[l] += a[i + l] * b[i + l];
    for (; i < last; ++i) part[0] += a[i] * b[i];
    for (std::size_t half = lanes / 2; half > 0; half /= 2)
      for (std::size_t l = 0; l < half; ++l) part[l] += part[l + half];
    sum += static_cast<double>(part[0]);
  }
  return sum;
}

class clip_search {
 public:
  clip_search(matrix_view<const float> w, const quant_spec& spec, matrix_view<const float> inputs, const gemm& products)
      : w_{w},
        x_{inputs},
        spec_{spec},
        width_{resolve(spec.granularity, w.rows(), w.cols()).cols},
        grid_{grid_of(spec.granularity, w.rows(), w.cols())},
        threads_{std::max<std::size_t>(1, products.options().threads)},
        one_thread_{{.kind = products.options().kind}},
        rows_{std::min(clip_block_rows(width_), w.rows())},
        by_gram_{width_ <= inputs.rows()},
        workers_(threads_) {
    spec_.granularity = tile::per_channel();  // of the columns of one tile
  }

  weight_clips run() {
    weight_clips out;
    out.steps.assign(grid_.tiles(), 0);
    if (out.steps.empty() || x_.rows() == 0) return out;
    if (by_gram_) make_grams();
    const std::size_t blocks = (w_.rows() + rows_ - 1) / rows_;
    std::vector<outcome> of_block(blocks);
    const bool finite = parallel_for(blocks, threads_, [&](std::size_t worker, std::size_t block) {
      for (std::size_t t = 0; t < grid_.cols; ++t)
        if (!try_tiles(workers_[worker], block * rows_, t, out.steps, of_block[block])) return false;
      return true;
    });
    if (!finite) {
      std::fill(out.steps.begin(), out.steps.end(), std::uint8_t{0});
      return out;
    }
    const double tokens = static_cast<double>(x_.rows());
    for (const outcome& o : of_block) {  // in order: the same sum for any number of threads
      out.clipped += o.clipped;
      out.error_before += o.before / tokens;
      out.error_after += o.after / tokens;
    }
    return out;
  }

 private:
  struct outcome {
    std::size_t clipped = 0;
    double before = 0, after = 0;
  };
  struct scratch {
    std::vector<float> clipped, differences, products, transposed, largest;
  };

  std::size_t width_of(std::size_t t) const { return std::min(width_, w_.cols() - t * width_); }
  matrix_view<const float> inputs_of(std::size_t t) const { return {x_.data() + t * width_, x_.rows(), width_of(t), x_.stride()}; }
  matrix_view<float> gram(std::size_t t) { return {grams_.data() + t * width_ * width_, width_of(t), width_of(t)}; }

  void make_grams() {
    grams_.resize(grid_.cols * width_ * width_);
    parallel_for(grid_.cols, threads_, [&](std::size_t worker, std::size_t t) {
      const matrix_view<const float> x = inputs_of(t);
      std::vector<float>& memory = workers_[worker].transposed;
      memory.resize(x.size());
      const matrix_view<float> columns{memory.data(), x.cols(), x.rows()};
      for (std::size_t r = 0; r < x.rows(); ++r)
        for (std::size_t c = 0; c < x.cols(); ++c) columns(c, r) = x(r, c);
      one_thread_(matrix_view<const float>{columns}, matrix_view<const float>{columns}, gram(t));
      return true;
    });
  }

  /// The tiles of column t of the grid of some rows. False if one is not finite.
  bool try_tiles(scratch& own, std::size_t first, std::size_t t, std::vector<std::uint8_t>& steps, outcome& seen) {
    const std::size_t rows = std::min(rows_, w_.rows() - first), width = width_of(t);
    const matrix_view<const float> w{w_.row(first) + t * width_, rows, width, w_.stride()};
    own.clipped.resize(rows * width);
    own.differences.resize(clip_steps * rows * width);
    const std::size_t outputs = by_gram_ ? width : x_.rows();
    own.products.resize(clip_steps * rows * outputs);
    const matrix_view<float> differences{own.differences.data(), clip_steps * rows, width};
    const matrix_view<float> products{own.products.data(), clip_steps * rows, outputs};

    own.largest.assign(rows, 0.0f);
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < width; ++c) own.largest[r] = std::max(own.largest[r], std::fabs(w(r, c)));
    for (std::size_t step = 0; step < clip_steps; ++step)
      if (!quantization_error(own, w, step, differences.strip(step * rows, rows))) return false;
    one_thread_(matrix_view<const float>{differences}, by_gram_ ? matrix_view<const float>{gram(t)} : inputs_of(t), products);

    for (std::size_t r = 0; r < rows; ++r) {
      double lowest = 0;
      std::size_t best = 0;
      for (std::size_t step = 0; step < clip_steps; ++step) {
        const float* const y = products.row(step * rows + r);
        const double e = sum_of_products(y, by_gram_ ? differences.row(step * rows + r) : y, outputs);
        if (step == 0) seen.before += e;
        if (step == 0 || e < lowest) lowest = e, best = step;
      }
      seen.after += lowest;
      seen.clipped += best != 0;
      steps[(first + r) * grid_.cols + t] = static_cast<std::uint8_t>(best);
    }
    return true;
  }

  /// quantized(clipped(w)) - w. False if a weight is not finite.
  bool quantization_error(scratch& own, matrix_view<const float> w, std::size_t step, matrix_view<float> out) const {
    const matrix_view<float> clipped{own.clipped.data(), w.rows(), w.cols()};
    for (std::size_t r = 0; r < w.rows(); ++r) {
      const float limit = clip_ratio(step) * own.largest[r];
      const float* const from = w.row(r);
      float* const to = clipped.row(r);
      for (std::size_t c = 0; c < w.cols(); ++c) to[c] = std::min(std::max(from[c], -limit), limit);
    }
    if (!backend_.scaled_fake_quantize(matrix_view<const float>{clipped}, {}, spec_, out)) return false;
    for (std::size_t r = 0; r < w.rows(); ++r) {
      const float* const from = w.row(r);
      float* const to = out.row(r);
      for (std::size_t c = 0; c < w.cols(); ++c) to[c] -= from[c];
    }
    return true;
  }

  matrix_view<const float> w_, x_;
  quant_spec spec_;
  std::size_t width_;
  grid grid_;
  std::size_t threads_;
  gemm one_thread_;
  std::size_t rows_;
  bool by_gram_;
  native_backend backend_;
  std::vector<float> grams_;
  std::vector<scratch> workers_;
};

}  // namespace detail

QLIB_INLINE weight_clips search_clips(matrix_view<const float> w, const quant_spec& spec, matrix_view<const float> inputs, const gemm& products) {
  return detail::clip_search{w, spec, inputs, products}.run();
}

QLIB_INLINE std::uint64_t clip_search_bytes(std::size_t rows, std::size_t cols, const quant_spec& spec, std::size_t tokens, std::size_t threads) {
  const std::uint64_t width = resolve(spec.granularity, rows, cols).cols, tiles = grid_of(spec.granularity, 1, cols).cols;
  const std::uint64_t block = std::min(detail::clip_block_rows(width), rows), outputs = std::min<std::uint64_t>(width, tokens);
  const bool by_gram = width <= tokens;
  return sizeof(float) *
         ((by_gram ? tiles * width * width : 0) + threads * (block * (clip_steps * (width + outputs) + width) + (by_gram ? tokens * width : 0)));
}

}  // namespace qlib::inline v0
