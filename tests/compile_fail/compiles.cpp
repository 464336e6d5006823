// The control: what the others get wrong, done right. It must compile.
#include <qlib/quantize.hpp>

using qlib::minmax_observer, qlib::rtn_rounder;
auto a = qlib::quantize(qlib::matrix_view<const float>{}, qlib::int8_per_channel{});
auto b = qlib::quantize<minmax_observer, rtn_rounder, qlib::int4_rows_packer>(qlib::matrix_view<qlib::bf16>{}, qlib::int4_per_channel{});
auto c = qlib::quantize<minmax_observer, rtn_rounder, qlib::int4_columns_packer>(qlib::matrix_view<qlib::f16>{}, qlib::int4_per_channel{});
auto d = qlib::quantize<minmax_observer, rtn_rounder, qlib::pack_quantized_packer>(qlib::matrix_view<float>{}, qlib::int4_per_group{});
auto e = qlib::quantize<minmax_observer, rtn_rounder, qlib::fp8_packer>(qlib::matrix_view<float>{}, qlib::fp8_per_channel{});
auto f = qlib::quantize<minmax_observer, rtn_rounder, qlib::fp8_packer>(qlib::matrix_view<float>{}, qlib::quant_spec{});  // an error, at run time

// `check` is a courtesy to users of static specs: a packer without it composes, too.
struct unchecked_packer {
  static constexpr std::string_view name = "unchecked";
  static constexpr std::size_t row_multiple = 1;
  static constexpr bool stores_codes = true;
  using options = qlib::no_options;
  explicit unchecked_packer(options = {}) {}
  qlib::status accepts(const qlib::quant_spec&, std::size_t, std::size_t) const { return {}; }
  qlib::packed_layout layout(const qlib::quant_spec&, std::size_t rows, std::size_t cols) const { return {qlib::dtype::i8, rows, cols}; }
  void pack(const auto&, const qlib::quant_spec&, qlib::matrix_view<const std::int8_t>, std::byte*) const {}
  void unpack(const auto&, const qlib::quant_spec&, const std::byte*, qlib::matrix_view<std::int8_t>) const {}
};
auto g = qlib::quantize<minmax_observer, rtn_rounder, unchecked_packer>(qlib::matrix_view<float>{}, qlib::int8_per_channel{});
