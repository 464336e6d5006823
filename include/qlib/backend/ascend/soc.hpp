#pragma once
#include <qlib/config.hpp>

#include <cstdint>
#include <string_view>

namespace qlib::inline v0::ascend {

/// Chips that take the same ops. The names that the runtime tells are treacherous: "Ascend910B" is the first generation, "Ascend910B1" is not.
enum class soc_family : std::uint8_t {
  unknown,  ///< every op is tried, and tested before it is used
  train1,   ///< Ascend 910, 910A, 910 Pro, 910 Premium and "910B" without a digit
  p310,     ///< 310P
  a2,       ///< 910B1 to 910B4
  a3,       ///< 910_93xx
  b310,     ///< 310B: no op that qlib uses
  a5,       ///< 950
};

/// "A2 (910B1 to 910B4)", ...
std::string_view name_of(soc_family family);

/// `architecture`: attribute 601 of the device, or 0 where the runtime does not tell it; the name decides then.
soc_family family_of(std::string_view soc_name, std::int64_t architecture);

/// bfloat16 arithmetic is in the chip.
constexpr bool has_bf16(soc_family family) { return family != soc_family::train1 && family != soc_family::p310 && family != soc_family::b310; }

/// DynamicQuant takes rows of whole 32 values alone.
constexpr bool has_32_wide_tokens(soc_family family) { return family == soc_family::train1 || family == soc_family::p310; }

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/soc.ipp>
#endif
