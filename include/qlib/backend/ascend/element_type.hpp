#pragma once
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/core/dtype.hpp>

namespace qlib::inline v0::ascend {

/// The device's number of an element type; f32, f16, bf16, i8 or i32.
constexpr std::int32_t type_of(dtype t) {
  switch (t) {
    case dtype::f32:
      return type_float;
    case dtype::f16:
      return type_float16;
    case dtype::bf16:
      return type_bf16;
    case dtype::i8:
      return type_int8;
    case dtype::i32:
      return type_int32;
    default:
      return type_undefined;
  }
}

}  // namespace qlib::inline v0::ascend
