#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/parallel.hpp>
#include <qlib/core/range.hpp>
#include <qlib/suppressor/weight_clip.hpp>

#include <algorithm>
#include <array>

namespace qlib::inline v0 {

namespace detail {

/// What is tried at once: some tiles side by side, whose ten versions should stay in the L2 cache. Wide strips quantize several times as fast as
/// single groups do, and rows share the packing of the other operand of a product.
struct clip_block {
  std::size_t rows, tiles, stride;  ///< stride: of a version's rows, in floats; not a power of two, or columns of rows share cache sets

  clip_block(std::size_t matrix_rows, std::size_t width, std::size_t tiles_of_a_row) {
    constexpr std::size_t columns = 1024, elements = std::size_t{1} << 18;
    tiles = std::clamp<std::size_t>(columns / std::max<std::size_t>(1, width), 1, std::max<std::size_t>(1, tiles_of_a_row));
    rows = std::min(matrix_rows, std::max<std::size_t>(16, elements / (clip_steps * tiles * width)));
    stride = (tiles * width + 15) / 16 * 16 + 16;
  }
};

/// The sum of a[i] b[i], in f64: squares of small weights leave f32.
inline double sum_of_products(const float* a, const float* b, std::size_t n) {
  constexpr std::size_t lanes = 8;
  std::array<double, lanes> part{};
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (std::size_t l = 0; l < lanes; ++l) part[l] += static_cast<double>(a[i + l]) * static_cast<double>(b[i + l]);
  for (; i < n; ++i) part[0] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return ((part[0] + part[4]) + (part[1] + part[5])) + ((part[2] + part[6]) + (part[3] + part[7]));
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
        block_{w.rows(), width_, grid_.cols},
        by_gram_{width_ <= inputs.rows()},
        workers_(threads_) {}

  weight_clips run() {
    weight_clips out;
    out.steps.assign(grid_.tiles(), 0);
    if (out.steps.empty() || x_.rows() == 0) return out;
    if (by_gram_) make_grams();
    const std::size_t blocks = (w_.rows() + block_.rows - 1) / block_.rows;
    std::vector<outcome> of_block(blocks);
    const bool finite = parallel_for(blocks, threads_, [&](std::size_t worker, std::size_t block) {
      for (std::size_t t = 0; t < grid_.cols; t += block_.tiles)
        if (!try_tiles(workers_[worker], block * block_.rows, t, out.steps, of_block[block])) return false;
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
    std::vector<float> clipped, differences, products, transposed;
    std::vector<range> ranges;
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

  /// Tiles [first_tile, first_tile + block_.tiles) of some rows. False if one is not finite.
  bool try_tiles(scratch& own, std::size_t first_row, std::size_t first_tile, std::vector<std::uint8_t>& steps, outcome& seen) {
    const std::size_t rows = std::min(block_.rows, w_.rows() - first_row), tiles = std::min(block_.tiles, grid_.cols - first_tile);
    const std::size_t first = first_tile * width_, columns = std::min(tiles * width_, w_.cols() - first);
    const matrix_view<const float> w{w_.row(first_row) + first, rows, columns, w_.stride()};
    own.clipped.resize(block_.rows * block_.stride);
    own.differences.resize(clip_steps * block_.rows * block_.stride);
    const matrix_view<float> differences{own.differences.data(), clip_steps * rows, columns, block_.stride};

    own.ranges.assign(rows * tiles, range::empty());
    quant_spec spec = spec_;
    spec.granularity = tile::per_group(width_);
    backend_.ranges(w, spec.granularity, std::span{own.ranges});
    for (std::size_t step = 0; step < clip_steps; ++step)
      if (!quantization_error(own, w, spec, step, differences.strip(step * rows, rows))) return false;

    for (std::size_t t = 0; t < tiles; ++t) {
      const std::size_t width = width_of(first_tile + t), outputs = by_gram_ ? width : x_.rows();
      const matrix_view<const float> d{differences.data() + t * width_, clip_steps * rows, width, block_.stride};
      own.products.resize(clip_steps * rows * outputs);
      const matrix_view<float> products{own.products.data(), clip_steps * rows, outputs};
      one_thread_(d, by_gram_ ? matrix_view<const float>{gram(first_tile + t)} : inputs_of(first_tile + t), products);
      for (std::size_t r = 0; r < rows; ++r) {
        double lowest = 0;
        std::size_t best = 0;
        for (std::size_t step = 0; step < clip_steps; ++step) {
          const float* const y = products.row(step * rows + r);
          const double e = sum_of_products(y, by_gram_ ? d.row(step * rows + r) : y, outputs);
          if (step == 0) seen.before += e;
          if (step == 0 || e < lowest) lowest = e, best = step;
        }
        seen.after += lowest;
        seen.clipped += best != 0;
        steps[(first_row + r) * grid_.cols + first_tile + t] = static_cast<std::uint8_t>(best);
      }
    }
    return true;
  }

  /// quantized(clipped(w)) - w. False if a weight is not finite.
  bool quantization_error(scratch& own, matrix_view<const float> w, const quant_spec& spec, std::size_t step, matrix_view<float> out) const {
    const matrix_view<float> clipped{own.clipped.data(), w.rows(), w.cols(), block_.stride};
    const std::size_t tiles = own.ranges.size() / w.rows();
    if (step > 0)
      for (std::size_t r = 0; r < w.rows(); ++r)
        for (std::size_t t = 0; t < tiles; ++t) {
          const range& seen = own.ranges[r * tiles + t];
          const float limit = clip_ratio(step) * std::max(-seen.min, seen.max);
          const std::size_t last = std::min(w.cols(), (t + 1) * width_);
          const float* const from = w.row(r);
          float* const to = clipped.row(r);
          for (std::size_t c = t * width_; c < last; ++c) to[c] = std::min(std::max(from[c], -limit), limit);
        }
    if (!backend_.scaled_fake_quantize(step > 0 ? matrix_view<const float>{clipped} : w, {}, spec, out)) return false;
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
  clip_block block_;
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
  const detail::clip_block block{rows, width, tiles};
  const bool by_gram = width <= tokens;
  const std::uint64_t tried = block.rows * ((clip_steps + 1) * block.stride + clip_steps * (by_gram ? width : tokens));
  return sizeof(float) * ((by_gram ? tiles * width * width : 0) + threads * (tried + (by_gram ? tokens * width : 0)));
}

}  // namespace qlib::inline v0
