#pragma once
// What a SoC is called, has and supports.
#include <cstdint>
#include <string>

namespace fake_acl {

/// Families of SoCs as bits of a set.
namespace family {
constexpr unsigned gen1 = 1;  ///< 910A, 910Pro, and "Ascend910B" without a digit
constexpr unsigned p310 = 2;  ///< 310P
constexpr unsigned b310 = 4;  ///< 310B: no op
constexpr unsigned a2 = 8;    ///< 910B1..4, 910_93xx, and names that nobody knows
constexpr unsigned a950 = 16;
constexpr unsigned usual = p310 | a2 | a950;
constexpr unsigned all = gen1 | usual;
}  // namespace family

struct soc_profile {
  std::string name;
  unsigned family = family::a2;
  bool known = true;
  int64_t arch = 2201;
  int64_t ai_cores = 20;
  int64_t cube_cores = 20;
  int64_t vector_cores = 40;
  int64_t ub_bytes = 196608;
  int64_t l2_bytes = 192 << 20;
  uint64_t max_streams = 1984;
  bool bf16 = true;
  bool hbm = true;  ///< false: DDR

  /// fp16 arithmetic, ties away from zero, smooth ignored.
  bool old_numerics() const { return (family & (family::p310 | family::gen1)) != 0; }
};

soc_profile profile_of(const std::string& soc);

}  // namespace fake_acl
