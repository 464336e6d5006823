#pragma once
#include <qlib/concepts.hpp>

namespace qlib::inline v0 {

/// Two output channels a byte, [out_features / 2, in_features] int8, the even row in the low nibble: AscendV1's int4
/// (msModelSlim's `pack_int4`, W4A16 per group and W4A8).
struct int4_rows_packer {
  static constexpr std::string_view name = "int4_rows";
  static constexpr std::size_t row_multiple = 2;
  static constexpr bool stores_codes = false;
  using options = no_options;

  explicit int4_rows_packer(options = {}) {}

  template <StaticSpec S>
  static consteval void check() {
    static_assert(S::type == number::integer && S::num_bits == 4, "int4_rows_packer needs int4 codes in the spec");
  }

  status accepts(const quant_spec& spec, std::size_t rows, std::size_t) const {
    if (spec.type != number::integer || spec.num_bits != 4) return error{.subject = "int4_rows_packer", .problem = "needs int4 codes", .remedy = {}};
    if (rows % 2 != 0)
      return error{.subject = "int4_rows_packer",
                   .problem = "out_features " + std::to_string(rows) + " is odd, and two rows share a byte",
                   .remedy = "leave the layer float or use --format compressed_tensors"};
    return {};
  }
  packed_layout layout(const quant_spec&, std::size_t rows, std::size_t cols) const { return {dtype::i8, rows / 2, cols}; }

  /// codes: an even number of rows.
  void pack(const auto& backend, const quant_spec&, matrix_view<const std::int8_t> codes, std::byte* out) const {
    backend.pack_nibble_rows(codes, matrix_view<std::uint8_t>{reinterpret_cast<std::uint8_t*>(out), codes.rows() / 2, codes.cols()});
  }
  void unpack(const auto&, const quant_spec&, const std::byte* in, matrix_view<std::int8_t> codes) const {
    for (std::size_t r = 0; r < codes.rows(); ++r)
      for (std::size_t c = 0; c < codes.cols(); ++c) {
        const auto byte = static_cast<std::uint8_t>(in[(r / 2) * codes.cols() + c]);
        const int nibble = r % 2 == 0 ? byte & 15 : byte >> 4;
        codes(r, c) = static_cast<std::int8_t>((nibble ^ 8) - 8);
      }
  }
};
static_assert(Packer<int4_rows_packer>);

}  // namespace qlib::inline v0
