/// What tests of the Ascend backend share: the chips that the fake plays, and matrices with room between their rows.
#pragma once
#include "backends.hpp"

#include <qlib/backend/scalar.hpp>

#include <cstring>

namespace law {

/// A matrix whose rows lie apart, as those of a larger one.
template <class T>
struct loose {
  std::size_t rows, cols, stride;
  std::vector<T> memory;

  loose(std::size_t r, std::size_t c) : rows{r}, cols{c}, stride{c + 3}, memory(r * (c + 3)) {}
  loose(std::size_t r, std::size_t c, unsigned seed) : loose{r, c} {
    const auto values = law::gaussian<T>(r, c, seed);
    for (std::size_t i = 0; i < r; ++i)
      for (std::size_t j = 0; j < c; ++j) memory[i * stride + j] = values.view()(i, j);
  }
  qlib::matrix_view<T> view() { return {memory.data(), rows, cols, stride}; }
  qlib::matrix_view<const T> view() const { return {memory.data(), rows, cols, stride}; }
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace law
