#pragma once
#include <qlib/concepts.hpp>

#include <cstring>

namespace qlib::inline v0 {

/// float8 e4m3fn bits, [out_features, in_features]: compressed-tensors' `float-quantized`, AscendV1's W8A8FP8_DYNAMIC.
struct fp8_packer {
  static constexpr std::string_view name = "fp8";
  static constexpr std::size_t row_multiple = 1;
  static constexpr bool stores_codes = true;
  using options = no_options;

  explicit fp8_packer(options = {}) {}

  template <StaticSpec S>
  static consteval void check() {
    static_assert(S::type == number::floating, "fp8_packer needs floating codes in the spec; this one has integers (use int8_packer)");
  }

  status accepts(const quant_spec& spec, std::size_t, std::size_t) const {
    if (spec.type == number::floating && spec.num_bits == 8) return {};
    return error{.subject = "fp8_packer", .problem = "needs e4m3 codes", .remedy = "use int8_packer or pack_quantized for integers"};
  }
  packed_layout layout(const quant_spec&, std::size_t rows, std::size_t cols) const { return {dtype::f8_e4m3, rows, cols}; }

  void pack(const auto&, const quant_spec&, matrix_view<const std::int8_t> codes, std::byte* out) const {
    for (std::size_t r = 0; r < codes.rows(); ++r) std::memcpy(out + r * codes.cols(), codes.row(r), codes.cols());
  }
  void unpack(const auto&, const quant_spec&, const std::byte* in, matrix_view<std::int8_t> codes) const {
    for (std::size_t r = 0; r < codes.rows(); ++r) std::memcpy(codes.row(r), in + r * codes.cols(), codes.cols());
  }
};
static_assert(Packer<fp8_packer>);

}  // namespace qlib::inline v0
