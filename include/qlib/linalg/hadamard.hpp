#pragma once
#include <qlib/core/view.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace qlib::inline v0 {

class hadamard_rotation {
 public:
  hadamard_rotation(std::size_t size, std::size_t block, std::uint64_t seed) : block_{block ? block : size}, signs_(block_, 1.0f) {
    for (std::size_t i = 0; seed && i < block_; ++i) {
      seed = seed * 6364136223846793005u + 1442695040888963407u;
      signs_[i] = (seed >> 63) ? -1.0f : 1.0f;
    }
  }
  static bool exists(std::size_t size, std::size_t block) {
    const std::size_t b = block ? block : size;
    return b && size % b == 0 && (b & (b - 1)) == 0;
  }
  void rows(matrix_view<float> w) const {
    for (std::size_t r = 0; r < w.rows(); ++r)
      for (std::size_t c = 0; c < w.cols(); c += block_) {
        float* x = w.row(r) + c;
        for (std::size_t i = 0; i < block_; ++i) x[i] *= signs_[i];
        for (std::size_t h = 1; h < block_; h *= 2)
          for (std::size_t i = 0; i < block_; i += 2 * h)
            for (std::size_t j = i; j < i + h; ++j) {
              const float a = x[j], b = x[j + h];
              x[j] = a + b;
              x[j + h] = a - b;
            }
        for (std::size_t i = 0; i < block_; ++i) x[i] /= std::sqrt(static_cast<float>(block_));
      }
  }
  void columns(matrix_view<float> w) const {
    std::vector<float> t(w.rows());
    for (std::size_t c = 0; c < w.cols(); ++c) {
      for (std::size_t r = 0; r < w.rows(); ++r) t[r] = w(r, c);
      rows({t.data(), 1, t.size()});
      for (std::size_t r = 0; r < w.rows(); ++r) w(r, c) = t[r];
    }
  }

 private:
  std::size_t block_;
  std::vector<float> signs_;
};

}  // namespace qlib::inline v0
