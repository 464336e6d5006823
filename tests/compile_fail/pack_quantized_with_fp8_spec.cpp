// expect: pack_quantized_packer needs integer codes in the spec; this one is floating (use fp8_packer)
#include <qlib/quantize.hpp>

auto q =
    qlib::quantize<qlib::minmax_observer, qlib::rtn_rounder, qlib::pack_quantized_packer>(qlib::matrix_view<const float>{}, qlib::fp8_per_channel{});
