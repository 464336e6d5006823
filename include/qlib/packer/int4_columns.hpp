#pragma once
#include <qlib/concepts.hpp>

#include <optional>
#include <string>

namespace qlib::inline v0 {

/// Two input channels a byte, [out_features, in_features / 2] int8, the even column in the low nibble: AscendV1's per-channel W4A16.
struct int4_columns_packer {
  static constexpr std::string_view name = "int4_columns";
  static constexpr std::size_t row_multiple = 1;
  static constexpr bool stores_codes = false;
  using options = no_options;

  explicit int4_columns_packer(options = {}) {}

  template <StaticSpec S>
  static consteval void check() {
    static_assert(S::type == number::integer && S::num_bits == 4, "int4_columns_packer needs int4 codes in the spec");
  }

  status accepts(const quant_spec& spec, std::size_t, std::size_t cols) const {
    if (spec.type != number::integer || spec.num_bits != 4)
      return error{.subject = "int4_columns_packer", .problem = "needs int4 codes", .remedy = "use int8_packer for wider codes"};
    if (cols % 2 != 0)
      return error{.subject = "int4_columns_packer",
                   .problem = "in_features " + std::to_string(cols) + " is odd, and two columns share a byte",
                   .remedy = "leave the layer float or use --format compressed_tensors"};
    return {};
  }
  packed_layout layout(const quant_spec&, std::size_t rows, std::size_t cols) const { return {dtype::i8, rows, cols / 2}; }

  /// Where pack is the backend's pack_nibbles: its `flip`.
  std::optional<std::uint8_t> nibble_flip(const quant_spec&) const { return std::uint8_t{0}; }

  void pack(const auto& backend, const quant_spec&, matrix_view<const std::int8_t> codes, std::byte* out) const {
    backend.pack_nibbles(codes, std::uint8_t{0}, matrix_view<std::uint8_t>{reinterpret_cast<std::uint8_t*>(out), codes.rows(), codes.cols() / 2});
  }
  void unpack(const auto&, const quant_spec&, const std::byte* in, matrix_view<std::int8_t> codes) const {
    for (std::size_t r = 0; r < codes.rows(); ++r)
      for (std::size_t c = 0; c < codes.cols(); ++c) {
        const auto byte = static_cast<std::uint8_t>(in[r * (codes.cols() / 2) + c / 2]);
        const int nibble = c % 2 == 0 ? byte & 15 : byte >> 4;
        codes(r, c) = static_cast<std::int8_t>((nibble ^ 8) - 8);
      }
  }
};
static_assert(Packer<int4_columns_packer>);

}  // namespace qlib::inline v0
