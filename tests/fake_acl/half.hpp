#pragma once
// fp16 and bf16 as the NPU rounds to them: half to even, subnormals kept.
#include <cstdint>
#include <cstring>

namespace fake_acl {

inline uint32_t bits_of_float(float x) {
  uint32_t u;
  std::memcpy(&u, &x, 4);
  return u;
}
inline float float_of_bits(uint32_t u) {
  float x;
  std::memcpy(&x, &u, 4);
  return x;
}

inline float from_f16(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t rest = h & 0x7FFFu;
  if (rest >= 0x7C00u) return float_of_bits(sign | 0x7F800000u | (rest & 0x3FFu) << 13);
  if (rest < 0x400u) return float_of_bits(sign | bits_of_float(static_cast<float>(rest) * 0x1p-24f));
  return float_of_bits(sign | ((rest << 13) + (112u << 23)));
}

inline uint16_t to_f16(float x) {
  const uint32_t u = bits_of_float(x);
  const auto sign = static_cast<uint16_t>(u >> 16 & 0x8000u);
  const uint32_t rest = u & 0x7FFFFFFFu;
  if (rest > 0x7F800000u) return sign | 0x7E00u;
  if (rest >= 0x477FF000u) return sign | 0x7C00u;  // from 65520 on
  if (rest < 0x38800000u) {                        // below 2^-14: the addition rounds to a multiple of 2^-24
    const float magic = float_of_bits(rest) + 0.5f;
    return static_cast<uint16_t>(sign | (bits_of_float(magic) - 0x3F000000u));
  }
  const uint32_t rounded = rest + 0xFFFu + (rest >> 13 & 1u);
  return static_cast<uint16_t>(sign | (rounded - (112u << 23)) >> 13);
}

inline float from_bf16(uint16_t h) { return float_of_bits(static_cast<uint32_t>(h) << 16); }

inline uint16_t to_bf16(float x) {
  const uint32_t u = bits_of_float(x);
  if ((u & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>(u >> 16 | 0x40u);
  return static_cast<uint16_t>((u + 0x7FFFu + (u >> 16 & 1u)) >> 16);
}

inline float round_f16(float x) { return from_f16(to_f16(x)); }
inline float round_bf16(float x) { return from_bf16(to_bf16(x)); }

/// fp16 of a core in saturation mode: no infinity comes from a finite number.
inline float saturate_f16(float x) {
  if (x > 65504.0f) return 65504.0f;
  if (x < -65504.0f) return -65504.0f;
  return round_f16(x);
}

}  // namespace fake_acl
