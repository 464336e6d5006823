#pragma once
#include <qlib/core/dtype.hpp>
#include <qlib/core/view.hpp>

#include <concepts>

namespace qlib::inline v0 {

enum class number { integer, floating };  ///< floating with 8 bits is float8 e4m3fn

/// Whose formula turns a range into a scale (docs/rounding.md has both as a table).
enum class scale_rule {
  ascend,              ///< absmax / (2^(b-1) - 1), floor 2^-23; msModelSlim, MindIE, vLLM-Ascend
  compressed_tensors,  ///< absmax / ((qmax - qmin) / 2), a zero scale becomes epsilon; LLM-Compressor, vLLM
};

/// What a weight matrix is quantized to. Everything that decides bits is here, as data.
struct quant_spec {
  number type = number::integer;
  int num_bits = 8;  ///< 2..8 for integers, 8 for floating
  bool symmetric = true;
  tile granularity = tile::per_channel();
  scale_rule rule = scale_rule::ascend;
  dtype scale_dtype = dtype::f32;  ///< scales are rounded to it before codes are computed
  dtype arithmetic = dtype::f32;   ///< bf16 or f16: every operation is rounded to it, as the peers do (`--compat`)
  bool nearest_codes = false;      ///< x / s is in f32 whatever `arithmetic` says: the peers' parameters, with codes that are never further away

  constexpr int qmin() const { return -(1 << (num_bits - 1)); }
  constexpr int qmax() const { return (1 << (num_bits - 1)) - 1; }
  friend constexpr bool operator==(const quant_spec&, const quant_spec&) = default;
};

/// A spec whose kind is known at compile time, so that a packer which cannot store it is refused by the compiler.
template <class S>
concept StaticSpec = std::convertible_to<const S&, quant_spec> && requires {
  { S::type } -> std::convertible_to<number>;
  { S::num_bits } -> std::convertible_to<int>;
  { S::grouped } -> std::convertible_to<bool>;
};

/// int8, one scale an output channel.
struct int8_per_channel {
  static constexpr number type = number::integer;
  static constexpr int num_bits = 8;
  static constexpr bool grouped = false;
  scale_rule rule = scale_rule::ascend;
  bool symmetric = true;
  constexpr operator quant_spec() const { return {.symmetric = symmetric, .rule = rule}; }
};

/// int4, one scale an output channel.
struct int4_per_channel {
  static constexpr number type = number::integer;
  static constexpr int num_bits = 4;
  static constexpr bool grouped = false;
  scale_rule rule = scale_rule::ascend;
  bool symmetric = true;
  constexpr operator quant_spec() const { return {.num_bits = 4, .symmetric = symmetric, .rule = rule}; }
};

/// int4, one scale for `group_size` consecutive input features.
struct int4_per_group {
  static constexpr number type = number::integer;
  static constexpr int num_bits = 4;
  static constexpr bool grouped = true;
  std::size_t group_size = 128;
  bool symmetric = true;
  scale_rule rule = scale_rule::compressed_tensors;
  constexpr operator quant_spec() const { return {.num_bits = 4, .symmetric = symmetric, .granularity = tile::per_group(group_size), .rule = rule}; }
};

/// float8 e4m3fn, one scale an output channel.
struct fp8_per_channel {
  static constexpr number type = number::floating;
  static constexpr int num_bits = 8;
  static constexpr bool grouped = false;
  scale_rule rule = scale_rule::compressed_tensors;
  constexpr operator quant_spec() const { return {.type = number::floating, .rule = rule}; }
};

}  // namespace qlib::inline v0
