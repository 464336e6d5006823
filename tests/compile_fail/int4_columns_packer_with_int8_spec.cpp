// expect: int4_columns_packer needs int4 codes in the spec
#include <qlib/quantize.hpp>

auto q =
    qlib::quantize<qlib::minmax_observer, qlib::rtn_rounder, qlib::int4_columns_packer>(qlib::matrix_view<const float>{}, qlib::int8_per_channel{});
