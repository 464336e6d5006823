// Quantizes a matrix to int8 inside another program: the core alone, no file, no JSON.
#include <qlib/quantize.hpp>

#include <cstdio>
#include <vector>

int main() {
  const std::vector<float> w = {0.10f, -0.52f, 0.33f, 0.91f,  -1.27f, 0.05f, 0.64f,  -0.18f,  //
                                2.00f, -0.03f, 0.70f, -1.10f, 0.25f,  0.00f, -0.60f, 1.50f};  // [2, 8]
  const qlib::matrix_view<const float> weight{w.data(), 2, 8};
  const auto q = qlib::quantize(weight, qlib::int8_per_channel{});
  if (!q) return std::fprintf(stderr, "%s\n", q.error().text().c_str()), 1;

  for (std::size_t r = 0; r < weight.rows(); ++r) {
    std::printf("scale %.7f  codes", static_cast<double>(q->scales()[r]));
    for (std::size_t c = 0; c < weight.cols(); ++c) std::printf(" %4d", q->codes()(r, c));
    std::printf("\n");
  }
}
