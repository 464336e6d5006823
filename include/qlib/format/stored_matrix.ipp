#pragma once
#include <qlib/core/convert.hpp>
#include <qlib/core/parallel.hpp>
#include <qlib/core/quant_spec.hpp>
#include <qlib/format/stored_matrix.hpp>
#include <qlib/packer/pack_quantized.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace qlib::inline v0 {

namespace detail {

template <class T>
T loaded(const std::byte* base, std::uint64_t at) {
  T v;
  std::memcpy(&v, base + at * sizeof v, sizeof v);
  return v;
}

inline float stored_number(dtype type, const std::byte* base, std::uint64_t at) {
  switch (type) {
    case dtype::f32:
      return loaded<float>(base, at);
    case dtype::bf16:
      return to_float(loaded<bf16>(base, at));
    case dtype::f16:
      return to_float(loaded<f16>(base, at));
    case dtype::f8_e4m3:
      return e4m3_to_float(loaded<std::uint8_t>(base, at));
    case dtype::i8:
      return static_cast<float>(loaded<std::int8_t>(base, at));
    case dtype::u8:
    case dtype::f8_e8m0:
      return static_cast<float>(loaded<std::uint8_t>(base, at));
    case dtype::i32:
      return static_cast<float>(loaded<std::int32_t>(base, at));
    case dtype::i64:
      return static_cast<float>(loaded<std::int64_t>(base, at));
    case dtype::f64:
      return static_cast<float>(loaded<double>(base, at));
    default:
      return std::numeric_limits<float>::quiet_NaN();
  }
}

/// Field `row` of a column of words [.., columns] that are packed along the rows, as a signed code.
inline float packed_field(const std::byte* words, std::size_t columns, std::size_t column, std::size_t row, unsigned bits) {
  const std::size_t bit = row * bits, word = bit / 32, at = bit % 32;
  std::uint64_t two = loaded<std::uint32_t>(words, word * columns + column);
  if (at + bits > 32) two |= static_cast<std::uint64_t>(loaded<std::uint32_t>(words, (word + 1) * columns + column)) << 32;
  const auto field = static_cast<std::int32_t>(two >> at & ((1u << bits) - 1));
  return static_cast<float>(field - (1 << (bits - 1)));
}

inline float signed_nibble(unsigned nibble) { return static_cast<float>(static_cast<int>(nibble ^ 8u) - 8); }

/// The codes of one row.
inline void codes_of_row(const std::byte* base, const stored_matrix& m, std::size_t r, float* out, std::vector<std::int8_t>& room) {
  constexpr std::array<float, 8> halves{0, .5f, 1, 1.5f, 2, 3, 4, 6};
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(base);
  const std::size_t k = m.cols;
  switch (m.layout) {
    case code_layout::floating:
      for (std::size_t c = 0; c < k; ++c) out[c] = stored_number(m.codes->info.dtype, base, r * k + c);
      return;
    case code_layout::bytes:
      for (std::size_t c = 0; c < k; ++c) out[c] = static_cast<float>(static_cast<std::int8_t>(bytes[r * k + c]));
      return;
    case code_layout::e4m3:
      for (std::size_t c = 0; c < k; ++c) out[c] = e4m3_to_float(bytes[r * k + c]);
      return;
    case code_layout::nibble_rows:
      for (std::size_t c = 0; c < k; ++c) out[c] = signed_nibble(bytes[r / 2 * k + c] >> (r % 2 * 4) & 15u);
      return;
    case code_layout::nibble_columns:
      for (std::size_t c = 0; c < k; ++c) out[c] = signed_nibble(bytes[(r * k + c) / 2] >> (c % 2 * 4) & 15u);
      return;
    case code_layout::e2m1:
      for (std::size_t c = 0; c < k; ++c) {
        const unsigned nibble = bytes[(r * k + c) / 2] >> (c % 2 * 4) & 15u;
        out[c] = nibble & 8u ? -halves[nibble & 7u] : halves[nibble];
      }
      return;
    case code_layout::words: {
      const quant_spec spec{.num_bits = m.num_bits};
      const pack_quantized_packer packer;
      room.resize(k);
      packer.unpack(0, spec, base + r * packer.layout(spec, 1, k).row_bytes(), matrix_view<std::int8_t>{room.data(), 1, k});
      for (std::size_t c = 0; c < k; ++c) out[c] = static_cast<float>(room[c]);
      return;
    }
  }
}

}  // namespace detail

QLIB_INLINE float stored_value(const weight_folder& folder, const stored_tensor& t, std::uint64_t at) {
  return detail::stored_number(t.info.dtype, folder.bytes(t).data(), at);
}

QLIB_INLINE std::vector<float> stored_values(const weight_folder& folder, const stored_tensor& t) {
  std::vector<float> out(t.info.elements());
  const std::byte* base = folder.bytes(t).data();
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = detail::stored_number(t.info.dtype, base, i);
  return out;
}

QLIB_INLINE void dequantize(const weight_folder& folder, const stored_matrix& m, std::size_t first_row, matrix_view<float> out, std::size_t threads) {
  const auto base_of = [&](const stored_tensor* t) { return t ? folder.bytes(*t).data() : nullptr; };
  const std::byte *codes = base_of(m.codes), *scales = base_of(m.scale), *zeros = base_of(m.zero_point), *seconds = base_of(m.second_scale);
  const std::size_t tiles = (m.cols + m.tile_cols - 1) / m.tile_cols, second_tiles = (m.cols + m.second_cols - 1) / m.second_cols;
  std::vector<std::size_t> tile_of;
  if (m.group_index) {
    tile_of.resize(m.cols);
    for (std::size_t c = 0; c < m.cols; ++c) tile_of[c] = static_cast<std::size_t>(stored_value(folder, *m.group_index, c));
  }
  constexpr std::size_t block = 16;
  parallel_for((out.rows() + block - 1) / block, threads, [&](std::size_t, std::size_t task) {
    std::vector<float> scale(tiles, 1.0f), zero(tiles, 0.0f);
    std::vector<std::int8_t> room;
    for (std::size_t i = task * block; i < std::min(out.rows(), (task + 1) * block); ++i) {
      const std::size_t r = first_row + i, tile_row = r / m.tile_rows;
      float* w = out.row(i);
      detail::codes_of_row(codes, m, r, w, room);
      for (std::size_t t = 0; t < tiles; ++t) {
        if (!m.row_scales.empty()) scale[t] = m.row_scales[r];
        else if (scales) {
          const float stored = detail::stored_number(m.scale->info.dtype, scales, tile_row * tiles + t);
          scale[t] = (m.powers_of_two ? std::ldexp(1.0f, static_cast<int>(stored) - 127) : stored);
          if (m.global_scale != 1) scale[t] /= m.global_scale;
        }
        if (m.packed_zero_points) zero[t] = detail::packed_field(zeros, tiles, t, tile_row, static_cast<unsigned>(m.num_bits));
        else if (zeros) zero[t] = detail::stored_number(m.zero_point->info.dtype, zeros, tile_row * tiles + t);
      }
      if (zeros)
        for (std::size_t c = 0; c < m.cols; ++c) w[c] -= zero[tile_of.empty() ? c / m.tile_cols : tile_of[c]];
      if (seconds)
        for (std::size_t c = 0; c < m.cols; ++c)
          w[c] *= detail::stored_number(m.second_scale->info.dtype, seconds, r * second_tiles + c / m.second_cols);
      if (!tile_of.empty()) {
        for (std::size_t c = 0; c < m.cols; ++c) w[c] *= scale[tile_of[c]];
      } else {
        for (std::size_t t = 0; t < tiles; ++t)
          for (std::size_t c = t * m.tile_cols; c < std::min(m.cols, (t + 1) * m.tile_cols); ++c) w[c] *= scale[t];
      }
    }
    return true;
  });
}

QLIB_INLINE std::vector<std::int64_t> row_sums(const weight_folder& folder, const stored_matrix& m) {
  std::vector<std::int64_t> sums(m.rows);
  const auto* codes = reinterpret_cast<const std::int8_t*>(folder.bytes(*m.codes).data());
  for (std::size_t r = 0; r < m.rows; ++r)
    for (std::size_t c = 0; c < m.cols; ++c) sums[r] += codes[r * m.cols + c];
  return sums;
}

}  // namespace qlib::inline v0
