// expect: p.unpack(b, spec, in, codes)
#include <qlib/quantize.hpp>

struct one_way_packer {
  static constexpr std::string_view name = "one_way";
  static constexpr std::size_t row_multiple = 1;
  static constexpr bool stores_codes = false;
  using options = qlib::no_options;
  explicit one_way_packer(options = {}) {}
  qlib::status accepts(const qlib::quant_spec&, std::size_t, std::size_t) const { return {}; }
  qlib::packed_layout layout(const qlib::quant_spec&, std::size_t rows, std::size_t cols) const { return {qlib::dtype::i8, rows, cols}; }
  void pack(const auto&, const qlib::quant_spec&, qlib::matrix_view<const std::int8_t>, std::byte*) const {}
};
static_assert(qlib::Packer<one_way_packer>);
