// expect: quantize needs float, qlib::bf16 or qlib::f16 elements
#include <qlib/quantize.hpp>

auto q = qlib::quantize(qlib::matrix_view<const double>{}, qlib::int8_per_channel{});
