#pragma once
#include <qlib/config.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0::ascend {

/// What a backend does, as reports name it.
enum class operation : std::uint8_t {
  ranges,
  column_absmax,
  histogram,
  quantize,
  dequantize,
  scale,
  quantize_per_token,
  int8_matmul,
  weight_only_matmul,
  hold
};
inline constexpr std::size_t operation_count = 10;
inline constexpr std::array<std::string_view, operation_count> operation_names{
    "ranges", "column_absmax", "histogram", "quantize", "dequantize", "scale", "quantize_per_token", "int8_matmul", "weight_only_matmul", "hold"};

/// How it was done: a device op, or some after each other, or the CPU. What takes another layout of its operands is another path, because it
/// may be refused on its own.
enum class path : std::uint8_t {
  cpu,
  aminmax,
  amin_amax,
  aminmax_columns,
  amin_amax_columns,
  histc,
  quant_v3,
  quant_v3_transposed,
  quant_transposed,
  quant_v3_columns,
  quant_columns,
  quant_elementwise,
  cast_mul,
  inplace_mul,
  mul,
  dynamic_quant,
  dynamic_quant_v2,
  in_two_steps,
  quant_matmul_v5,
  quant_matmul_v4,
  quant_matmul_v3,
  quant_matmul_v5_half,
  quant_matmul_v4_half,
  quant_matmul_v3_half,
  weight_quant_v3,
  weight_quant_v2,
  anti_quant_mm,
  hold_widened,
  hold_floats,
};
inline constexpr std::size_t path_count = 29;
inline constexpr std::array<std::string_view, path_count> path_names{
    "cpu",
    "Aminmax",
    "Amin + Amax",
    "Aminmax over rows",
    "Amin + Amax over rows",
    "Histc",
    "AscendQuantV3",
    "AscendQuantV3, transposed view",
    "AscendQuant, transposed view",
    "AscendQuantV3, a scale a column",
    "AscendQuant, a scale a column",
    "Mul + Add + Round + Clamp + Cast",
    "Cast + Add + Mul",
    "InplaceMul",
    "Mul",
    "DynamicQuant",
    "DynamicQuantV2",
    "ranges, then quantize",
    "QuantMatmulV5",
    "QuantMatmulV4",
    "QuantMatmulV3",
    "QuantMatmulV5 to f16, FRACTAL_NZ",
    "QuantMatmulV4 to f16, FRACTAL_NZ",
    "QuantMatmulV3 to f16, 64-bit scale",
    "WeightQuantBatchMatmulV3",
    "WeightQuantBatchMatmulV2",
    "AscendAntiQuant + Mm",
    "Cast to f32",
    "as f32",
};

constexpr std::string_view name_of(operation o) { return operation_names[static_cast<std::size_t>(o)]; }
constexpr std::string_view name_of(path p) { return path_names[static_cast<std::size_t>(p)]; }

/// The paths that each operation took.
class path_record {
 public:
  void note(operation o, path p) { taken_[static_cast<std::size_t>(o)] |= std::uint32_t{1} << static_cast<unsigned>(p); }
  bool took(operation o, path p) const { return (taken_[static_cast<std::size_t>(o)] >> static_cast<unsigned>(p) & 1u) != 0; }
  void forget() { taken_ = {}; }

  /// "quantize: AscendQuantV3, cpu": one line an operation that was used.
  std::vector<std::string> lines() const {
    std::vector<std::string> out;
    for (std::size_t o = 0; o < operation_count; ++o) {
      std::string line;
      for (std::size_t p = path_count; p-- > 0;)  // the CPU last
        if (taken_[o] >> p & 1u) line += (line.empty() ? ": " : ", ") + std::string{path_names[p]};
      if (!line.empty()) out.push_back(std::string{operation_names[o]} + line);
    }
    return out;
  }

 private:
  std::array<std::uint32_t, operation_count> taken_{};
};

}  // namespace qlib::inline v0::ascend
