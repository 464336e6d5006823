// Matrices whose views have gaps between rows, so that whatever is written beside a row shows.
#pragma once
#include "matrices.hpp"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace law {

/// A matrix whose rows are further apart than its columns need, and start anywhere: `guard` elements lie between.
template <class T>
struct loose_matrix {
  std::size_t rows, cols, guard;
  std::vector<T> memory;

  loose_matrix(std::size_t r, std::size_t c, std::size_t g = 3, T fill = {}) : rows{r}, cols{c}, guard{g}, memory(g + r * (c + g), fill) {}
  qlib::matrix_view<T> view() { return {memory.data() + guard, rows, cols, cols + guard}; }
  qlib::matrix_view<const T> view() const { return {memory.data() + guard, rows, cols, cols + guard}; }
  friend bool operator==(const loose_matrix& a, const loose_matrix& b) {
    return a.memory.size() == b.memory.size() && std::memcmp(a.memory.data(), b.memory.data(), a.memory.size() * sizeof(T)) == 0;
  }
};

enum class data { gaussian, one_sign, zeros, tiny, huge };
inline constexpr data all_data[] = {data::gaussian, data::one_sign, data::zeros, data::tiny, data::huge};

template <class T>
loose_matrix<T> make(std::size_t rows, std::size_t cols, data kind, std::mt19937& random) {
  loose_matrix<T> m{rows, cols};
  std::normal_distribution<float> gaussian{0, 0.05f};
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < cols; ++c) {
      float v = gaussian(random);
      if (kind == data::one_sign) v = (rows + cols) % 2 ? std::fabs(v) + 0.01f : -std::fabs(v) - 0.01f;
      if (kind == data::zeros) v = random() % 3 == 0 ? -0.0f : random() % 2 == 0 ? 0.0f : std::copysign(0x1p-149f, v);
      if (kind == data::tiny) v *= 0x1p-130f;
      if (kind == data::huge) v *= std::is_same_v<T, qlib::f16> ? 1e5f : 0x1p127f;
      m.view()(r, c) = narrowed<T>(v);
    }
  return m;
}

/// The values of gaussian(), apart.
template <class T>
loose_matrix<T> loose_gaussian(std::size_t rows, std::size_t cols, unsigned seed) {
  const auto values = gaussian<T>(rows, cols, seed);
  loose_matrix<T> m{rows, cols};
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < cols; ++c) m.view()(r, c) = values.view()(r, c);
  return m;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// Equal bits, but for which NaN a NaN is.
inline bool same_but_nan(const loose_matrix<float>& a, const loose_matrix<float>& b) {
  for (std::size_t i = 0; i < a.memory.size(); ++i)
    if (!(std::isnan(a.memory[i]) && std::isnan(b.memory[i])) && std::memcmp(&a.memory[i], &b.memory[i], sizeof(float)) != 0) return false;
  return a.memory.size() == b.memory.size();
}

}  // namespace law
