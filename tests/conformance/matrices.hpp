// Matrices that own their elements.
#pragma once
#include <qlib/core/convert.hpp>
#include <qlib/core/view.hpp>

#include <random>
#include <type_traits>
#include <vector>

namespace law {

template <class T>
struct matrix {
  std::size_t rows, cols;
  std::vector<T> elements;

  matrix(std::size_t r, std::size_t c, T fill = {}) : rows{r}, cols{c}, elements(r * c, fill) {}
  qlib::matrix_view<T> view() { return {elements.data(), rows, cols}; }
  qlib::matrix_view<const T> view() const { return {elements.data(), rows, cols}; }
};

template <class T>
T narrowed(float v) {
  if constexpr (std::is_same_v<T, float>) return v;
  else if constexpr (std::is_same_v<T, qlib::bf16>) return qlib::to_bf16(v);
  else return qlib::to_f16(v);
}

/// Normal values around `mean`: the same on every machine and run.
template <class T = float>
matrix<T> gaussian(std::size_t rows, std::size_t cols, unsigned seed, float mean = 0.0f) {
  std::mt19937 random{seed};
  matrix<T> m{rows, cols};
  for (T& x : m.elements) {
    float sum = -6;
    for (int i = 0; i < 12; ++i) sum += static_cast<float>(random() >> 8) * 0x1p-24f;
    x = narrowed<T>(0.05f * sum + mean);
  }
  return m;
}

/// Integers in [low, high].
inline matrix<std::int8_t> codes(std::size_t rows, std::size_t cols, int low, int high, unsigned seed) {
  std::mt19937 random{seed};
  matrix<std::int8_t> m{rows, cols};
  for (std::int8_t& x : m.elements) x = static_cast<std::int8_t>(low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1)));
  return m;
}

}  // namespace law
