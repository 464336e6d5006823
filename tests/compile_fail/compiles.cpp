// The control: what the others get wrong, done right. It must compile.
#include <qlib/quantize.hpp>

using qlib::minmax_observer, qlib::rtn_rounder;
auto a = qlib::quantize(qlib::matrix_view<const float>{}, qlib::int8_per_channel{});
auto b = qlib::quantize<minmax_observer, rtn_rounder, qlib::int4_rows_packer>(qlib::matrix_view<qlib::bf16>{}, qlib::int4_per_channel{});
auto c = qlib::quantize<minmax_observer, rtn_rounder, qlib::int4_columns_packer>(qlib::matrix_view<qlib::f16>{}, qlib::int4_per_channel{});
auto d = qlib::quantize<minmax_observer, rtn_rounder, qlib::pack_quantized_packer>(qlib::matrix_view<float>{}, qlib::int4_per_group{});
auto e = qlib::quantize<minmax_observer, rtn_rounder, qlib::fp8_packer>(qlib::matrix_view<float>{}, qlib::fp8_per_channel{});
auto f = qlib::quantize<minmax_observer, rtn_rounder, qlib::fp8_packer>(qlib::matrix_view<float>{}, qlib::quant_spec{});  // an error, at run time
