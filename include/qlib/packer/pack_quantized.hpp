#pragma once
#include <qlib/concepts.hpp>

#include <cstring>
#include <optional>

namespace qlib::inline v0 {

/// compressed-tensors' `pack-quantized`: each row is a little-endian stream of fields of `num_bits` bits, field = code + 2^(b-1),
/// cut into int32 words; [out_features, ceil(in_features * b / 32)]. Unused bits are zero.
struct pack_quantized_packer {
  static constexpr std::string_view name = "pack_quantized";
  static constexpr std::size_t row_multiple = 1;
  static constexpr bool stores_codes = false;
  using options = no_options;

  explicit pack_quantized_packer(options = {}) {}

  template <StaticSpec S>
  static consteval void check() {
    static_assert(S::type == number::integer, "pack_quantized_packer needs integer codes in the spec; this one is floating (use fp8_packer)");
  }

  status accepts(const quant_spec& spec, std::size_t, std::size_t) const {
    if (spec.type == number::integer && spec.num_bits >= 2 && spec.num_bits <= 8) return {};
    return error{.subject = "pack_quantized_packer", .problem = "needs integer codes of 2 to 8 bits", .remedy = "use fp8_packer for e4m3"};
  }
  packed_layout layout(const quant_spec& spec, std::size_t rows, std::size_t cols) const {
    return {dtype::i32, rows, (cols * static_cast<std::size_t>(spec.num_bits) + 31) / 32};
  }

  /// Where pack is the backend's pack_nibbles: its `flip`.
  std::optional<std::uint8_t> nibble_flip(const quant_spec& spec) const { return spec.num_bits == 4 ? std::optional{std::uint8_t{8}} : std::nullopt; }

  void pack(const auto& backend, const quant_spec& spec, matrix_view<const std::int8_t> codes, std::byte* out) const {
    const std::size_t row_bytes = layout(spec, codes.rows(), codes.cols()).row_bytes();
    auto* bytes = reinterpret_cast<std::uint8_t*>(out);
    if (spec.num_bits == 4) return backend.pack_nibbles(codes, *nibble_flip(spec), matrix_view<std::uint8_t>{bytes, codes.rows(), row_bytes});
    const unsigned b = static_cast<unsigned>(spec.num_bits), half = 1u << (b - 1);
    for (std::size_t r = 0; r < codes.rows(); ++r) {
      std::uint8_t* to = bytes + r * row_bytes;
      std::uint8_t* const end = to + row_bytes;
      std::uint32_t pending = 0;
      unsigned filled = 0;
      for (std::size_t c = 0; c < codes.cols(); ++c) {
        pending |= (static_cast<std::uint32_t>(codes(r, c) + static_cast<int>(half)) & ((1u << b) - 1)) << filled;
        for (filled += b; filled >= 8; filled -= 8, pending >>= 8) *to++ = static_cast<std::uint8_t>(pending);
      }
      if (filled > 0) *to++ = static_cast<std::uint8_t>(pending);
      while (to < end) *to++ = 0;
    }
  }

  void unpack(const auto&, const quant_spec& spec, const std::byte* in, matrix_view<std::int8_t> codes) const {
    const std::size_t row_bytes = layout(spec, codes.rows(), codes.cols()).row_bytes();
    const unsigned b = static_cast<unsigned>(spec.num_bits), half = 1u << (b - 1);
    for (std::size_t r = 0; r < codes.rows(); ++r) {
      const std::byte* from = in + r * row_bytes;
      std::uint32_t pending = 0;
      unsigned filled = 0;
      for (std::size_t c = 0; c < codes.cols(); ++c) {
        for (; filled < b; filled += 8) pending |= static_cast<std::uint32_t>(*from++) << filled;
        codes(r, c) = static_cast<std::int8_t>(static_cast<int>(pending & ((1u << b) - 1)) - static_cast<int>(half));
        pending >>= b;
        filled -= b;
      }
    }
  }
};
static_assert(Packer<pack_quantized_packer>);

/// Zero points of a `pack-quantized` weight, packed the same way along the output channels: words[ceil(rows * b / 32), cols] from
/// zero_points[rows, cols] (specs: compressed-tensors packs them transposed).
inline void pack_zero_points(matrix_view<const std::int32_t> zero_points, int num_bits, matrix_view<std::uint32_t> words) {
  const unsigned b = static_cast<unsigned>(num_bits), half = 1u << (b - 1);
  for (std::size_t r = 0; r < words.rows(); ++r) std::memset(words.row(r), 0, words.cols() * sizeof(std::uint32_t));
  for (std::size_t r = 0; r < zero_points.rows(); ++r)
    for (std::size_t c = 0; c < zero_points.cols(); ++c) {
      const std::uint32_t fieldv = static_cast<std::uint32_t>(zero_points(r, c) + static_cast<int>(half)) & ((1u << b) - 1);
      const std::size_t bit = r * b, word = bit / 32, shift = bit % 32;
      words(word, c) |= fieldv << shift;
      if (shift + b > 32) words(word + 1, c) |= fieldv >> (32 - shift);
    }
}

}  // namespace qlib::inline v0
