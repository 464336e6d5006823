// expect: fp8_packer needs floating codes in the spec; this one has integers (use int8_packer)
#include <qlib/quantize.hpp>

auto q = qlib::quantize<qlib::minmax_observer, qlib::rtn_rounder, qlib::fp8_packer>(qlib::matrix_view<const float>{}, qlib::int8_per_channel{});
