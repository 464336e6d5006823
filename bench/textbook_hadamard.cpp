// The loop of every textbook, as the compiler makes it at -O3: compiled twice, for any x86-64 and for the machine at hand.
#include <cstddef>

void QLIB_TEXTBOOK_NAME(float* x, std::size_t n) {
  for (std::size_t h = 1; h < n; h *= 2)
    for (std::size_t i = 0; i < n; i += 2 * h)
      for (std::size_t j = i; j < i + h; ++j) {
        const float a = x[j], b = x[j + h];
        x[j] = a + b;
        x[j + h] = a - b;
      }
}
