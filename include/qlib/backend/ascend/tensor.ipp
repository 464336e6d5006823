#pragma once
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/tensor.hpp>

namespace qlib::inline v0::ascend {

QLIB_INLINE tensor::tensor(const device& d, void* data, std::int32_t type, std::initializer_list<std::int64_t> dims)
    : device_{&d}, handle_{d.api().aclCreateTensor(dims.begin(), dims.size(), type, nullptr, 0, format_nd, dims.begin(), dims.size(), data)} {}

QLIB_INLINE tensor tensor::transposed(const device& d, void* data, std::int32_t type, std::int64_t rows, std::int64_t cols) {
  const std::int64_t dims[] = {cols, rows}, strides[] = {1, cols}, storage[] = {rows, cols};
  return {d, d.api().aclCreateTensor(dims, 2, type, strides, 0, format_nd, storage, 2, data)};
}

QLIB_INLINE tensor tensor::fractal_nz(const device& d, void* data, std::int64_t rows, std::int64_t cols) {
  const std::int64_t dims[] = {rows, cols}, storage[] = {(cols + 31) / 32, (rows + 15) / 16, 16, 32};
  return {d, d.api().aclCreateTensor(dims, 2, type_int8, nullptr, 0, format_nz, storage, 4, data)};
}

QLIB_INLINE tensor::~tensor() {
  if (handle_) device_->api().aclDestroyTensor(handle_);
}

QLIB_INLINE scalar::scalar(const device& d, float value) : device_{d}, handle_{d.api().aclCreateScalar(&value, type_float)} {}

QLIB_INLINE scalar::~scalar() {
  if (handle_) device_.api().aclDestroyScalar(handle_);
}

QLIB_INLINE int_array::int_array(const device& d, std::initializer_list<std::int64_t> values)
    : device_{d}, handle_{d.api().aclCreateIntArray(values.begin(), values.size())} {}

QLIB_INLINE int_array::~int_array() {
  if (handle_) device_.api().aclDestroyIntArray(handle_);
}

}  // namespace qlib::inline v0::ascend
