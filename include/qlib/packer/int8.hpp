#pragma once
#include <qlib/concepts.hpp>

#include <cstring>

namespace qlib::inline v0 {

/// One code a byte, [out_features, in_features] int8: AscendV1's W8A8 and W8A16, compressed-tensors' `int-quantized`. Narrower
/// integers are stored one a byte too, as both formats do where no packed layout exists.
struct int8_packer {
  static constexpr std::string_view name = "int8";
  static constexpr std::size_t row_multiple = 1;
  static constexpr bool stores_codes = true;
  using options = no_options;

  explicit int8_packer(options = {}) {}

  template <StaticSpec S>
  static consteval void check() {
    static_assert(S::type == number::integer, "int8_packer needs integer codes in the spec; this one is floating (use fp8_packer)");
  }

  status accepts(const quant_spec& spec, std::size_t, std::size_t) const {
    if (spec.type == number::integer && spec.num_bits >= 2 && spec.num_bits <= 8) return {};
    return error{.subject = "int8_packer", .problem = "needs integer codes of 2 to 8 bits", .remedy = "use fp8_packer for e4m3"};
  }
  packed_layout layout(const quant_spec&, std::size_t rows, std::size_t cols) const { return {dtype::i8, rows, cols}; }

  void pack(const auto&, const quant_spec&, matrix_view<const std::int8_t> codes, std::byte* out) const {
    for (std::size_t r = 0; r < codes.rows(); ++r) std::memcpy(out + r * codes.cols(), codes.row(r), codes.cols());
  }
  void unpack(const auto&, const quant_spec&, const std::byte* in, matrix_view<std::int8_t> codes) const {
    for (std::size_t r = 0; r < codes.rows(); ++r) std::memcpy(codes.row(r), in + r * codes.cols(), codes.cols());
  }
};
static_assert(Packer<int8_packer>);

}  // namespace qlib::inline v0
