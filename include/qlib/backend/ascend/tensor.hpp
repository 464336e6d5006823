#pragma once
#include <qlib/backend/ascend/device.hpp>

#include <cstdint>
#include <initializer_list>

namespace qlib::inline v0::ascend {

/// A description of device memory for an op: dims, element type, address. Needed until the op is launched, not until it has run.
///
/// The address must be 32-byte aligned: nothing checks it, and the result is undefined.
class tensor {
 public:
  /// `data` in row-major order. Up to 4 dims.
  tensor(const device& d, void* data, std::int32_t type, std::initializer_list<std::int64_t> dims);
  /// The transpose of a row-major [rows, cols]: dims {cols, rows}, strides {1, cols}.
  static tensor transposed(const device& d, void* data, std::int32_t type, std::int64_t rows, std::int64_t cols);
  /// A row-major [rows, cols] of int8 that lies in FRACTAL_NZ, as `stage_fractal_nz` puts it.
  static tensor fractal_nz(const device& d, void* data, std::int64_t rows, std::int64_t cols);
  tensor(tensor&& other) noexcept : device_{other.device_}, handle_{std::exchange(other.handle_, nullptr)} {}
  tensor& operator=(tensor&&) = delete;
  ~tensor();

  /// Null where it could not be made (out of memory); ops then fail by themselves, as programming errors.
  void* handle() const { return handle_; }

 private:
  tensor(const device& d, void* handle) : device_{&d}, handle_{handle} {}
  const device* device_;
  void* handle_;
};

/// One number, as an argument of an op.
class scalar {
 public:
  scalar(const device& d, float value);
  scalar(const scalar&) = delete;
  scalar& operator=(const scalar&) = delete;
  ~scalar();
  void* handle() const { return handle_; }

 private:
  const device& device_;
  void* handle_;
};

/// A few integers, such as the dims that a reduction runs over.
class int_array {
 public:
  int_array(const device& d, std::initializer_list<std::int64_t> values);
  int_array(const int_array&) = delete;
  int_array& operator=(const int_array&) = delete;
  ~int_array();
  void* handle() const { return handle_; }

 private:
  const device& device_;
  void* handle_;
};

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/tensor.ipp>
#endif
