#pragma once
#include <qlib/recipe/ascii_case.hpp>
#include <qlib/recipe/presets.hpp>

#include <array>

namespace qlib::inline v0 {

namespace detail {

QLIB_INLINE std::vector<preset> make_presets() {
  quantization_args int8_channel;
  quantization_args int8_token;
  int8_token.strategy = strategy::token;
  int8_token.dynamic = true;

  quantization_args fp8_channel = int8_channel, fp8_token = int8_token;
  fp8_channel.type = fp8_token.type = number::floating;

  quantization_args fp8_block = fp8_channel;
  fp8_block.strategy = strategy::block;
  fp8_block.block_rows = fp8_block.block_cols = 128;
  quantization_args fp8_group = fp8_token;
  fp8_group.strategy = strategy::group;
  fp8_group.group_size = 128;

  quantization_args grouped;
  grouped.strategy = strategy::group;
  grouped.group_size = 128;

  std::vector<preset> all;
  all.push_back({"W8A8", {int8_channel, int8_token, {}}});
  all.push_back({"INT8", {int8_channel, int8_token, {}}});
  for (int bits = 2; bits <= 8; ++bits) {
    grouped.num_bits = bits;
    all.push_back({"W" + std::to_string(bits) + "A16", {grouped, std::nullopt, {}}});
  }
  grouped.num_bits = 4;
  grouped.symmetric = false;
  all.push_back({"W4A16_ASYM", {grouped, std::nullopt, {}}});
  quantization_args fp8_tensor = fp8_channel;
  fp8_tensor.strategy = strategy::tensor;
  fp8_tensor.observer = "static_minmax";
  all.push_back({"FP8", {fp8_tensor, fp8_tensor, {}}});
  all.push_back({"FP8_DYNAMIC", {fp8_channel, fp8_token, {}}});
  all.push_back({"FP8_BLOCK", {fp8_block, fp8_group, {}}});
  all.push_back({"UNQUANTIZED", {}});
  return all;
}

}  // namespace detail

QLIB_INLINE const std::vector<preset>& presets() {
  static const std::vector<preset> all = detail::make_presets();
  return all;
}

QLIB_INLINE const preset* find_preset(std::string_view name) {
  const std::string lower = detail::lower_case(name);
  for (const preset& p : presets())
    if (detail::lower_case(p.name) == lower) return &p;
  return nullptr;
}

QLIB_INLINE std::span<const std::string_view> unbuilt_presets() {
  static constexpr std::array<std::string_view, 16> names{"W2A8", "W3A8",   "W4A8",     "W5A8",  "W6A8",     "W7A8",  "W2A4",     "W3A4",
                                                          "W4A4", "W4AFP8", "NVFP4A16", "NVFP4", "MXFP4A16", "MXFP4", "MXFP8A16", "MXFP8"};
  return names;
}

}  // namespace qlib::inline v0
