#pragma once
// Numbers of the C ABI that the fake answers with.
#include <cstdint>

namespace fake_acl {

namespace code {
constexpr int ok = 0;
constexpr int not_initialized = 100001;
constexpr int repeated_initialize = 100002;
constexpr int repeated_finalize = 100037;
constexpr int stub_library = 100039;
constexpr int invalid_parameter = 107000;
constexpr int invalid_device = 107001;
constexpr int no_context = 107002;
constexpr int stream_not_in_context = 107003;
constexpr int invalid_handle = 107017;
constexpr int null_pointer = 161001;
constexpr int invalid_argument = 161002;
constexpr int not_supported = 207000;
constexpr int out_of_memory = 207001;
constexpr int out_of_streams = 207008;
constexpr int product_unsupported = 361001;
constexpr int internal_error = 500000;
constexpr int device_lost = 507010;
constexpr int stream_timeout = 507046;
constexpr int tiling_failed = 561002;
constexpr int no_kernel = 561003;
constexpr int undefined_behaviour = 507899;  ///< what the fake answers where a device would do anything
}  // namespace code

namespace dtype {
constexpr int f32 = 0;
constexpr int f16 = 1;
constexpr int i8 = 2;
constexpr int i32 = 3;
constexpr int u8 = 4;
constexpr int i16 = 6;
constexpr int u16 = 7;
constexpr int u32 = 8;
constexpr int i64 = 9;
constexpr int u64 = 10;
constexpr int f64 = 11;
constexpr int boolean = 12;
constexpr int bf16 = 27;
constexpr int i4 = 29;
}  // namespace dtype

namespace format {
constexpr int nd = 2;
constexpr int fractal_nz = 29;
}  // namespace format

/// Bits of one element; 0: a dtype that the fake does not know.
constexpr int bits_of(int type) {
  switch (type) {
    case dtype::i4:
      return 4;
    case dtype::i8:
    case dtype::u8:
    case dtype::boolean:
      return 8;
    case dtype::f16:
    case dtype::bf16:
    case dtype::i16:
    case dtype::u16:
      return 16;
    case dtype::f32:
    case dtype::i32:
    case dtype::u32:
      return 32;
    case dtype::i64:
    case dtype::u64:
    case dtype::f64:
      return 64;
    default:
      return 0;
  }
}

}  // namespace fake_acl
