// Normally distributed values, the same for a seed.
#pragma once
#include <cstddef>
#include <random>
#include <vector>

inline std::vector<float> random_values(std::size_t n, unsigned seed) {
  std::mt19937 random{seed};
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (float& v : out) v = normal(random);
  return out;
}
