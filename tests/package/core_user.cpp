// A user of the headers alone: a matrix becomes int8.
#include <qlib/quantize.hpp>

#include <cstdio>

#if defined(QLIB_COMPILED)
#error "qlib::core is header-only"
#endif

int main() {
  const float w[] = {0.5f, -1.0f, 0.25f, 127.0f};
  const auto q = qlib::quantize(qlib::matrix_view<const float>{w, 2, 2}, qlib::int8_per_channel{});
  if (!q) return 1;
  std::printf("%d %d %d %d\n", q->codes()(0, 0), q->codes()(0, 1), q->codes()(1, 0), q->codes()(1, 1));
  return q->codes()(0, 1) == -127 && q->codes()(1, 1) == 127 ? 0 : 1;
}
