// A unit with qlib::compiled and a header-only one pass each other the core's types: both must give the same bytes.
#include <qlib/quantize.hpp>

#include <algorithm>
#include <vector>

#if !defined(QLIB_COMPILED)
#error "this unit uses qlib::compiled"
#endif

qlib::result<qlib::quantized_matrix> quantized_by_headers(qlib::matrix_view<const float> w);

int main() {
  std::vector<float> w(64 * 257);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i * 2654435761u % 20011) / 10000.0f - 1.0f;
  const qlib::matrix_view<const float> weight{w.data(), 64, 257};
  const auto a = qlib::quantize(weight, qlib::int8_per_channel{});
  const auto b = quantized_by_headers(weight);
  return a && b && std::ranges::equal(a->bytes(), b->bytes()) && std::ranges::equal(a->scales(), b->scales()) ? 0 : 1;
}
