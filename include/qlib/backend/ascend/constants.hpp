/// Numbers of Ascend's C interface: X(our name, its name there, value). The check against real headers reads the same list.
#pragma once
#include <qlib/config.hpp>

#include <cstdint>

#define QLIB_ACL_CONSTANTS(X)                                     \
  X(type_undefined, ACL_DT_UNDEFINED, -1)                         \
  X(type_float, ACL_FLOAT, 0)                                     \
  X(type_float16, ACL_FLOAT16, 1)                                 \
  X(type_int8, ACL_INT8, 2)                                       \
  X(type_int32, ACL_INT32, 3)                                     \
  X(type_uint8, ACL_UINT8, 4)                                     \
  X(type_int64, ACL_INT64, 9)                                     \
  X(type_uint64, ACL_UINT64, 10)                                  \
  X(type_bf16, ACL_BF16, 27)                                      \
  X(type_int4, ACL_INT4, 29)                                      \
  X(format_nd, ACL_FORMAT_ND, 2)                                  \
  X(format_nz, ACL_FORMAT_FRACTAL_NZ, 29)                         \
  X(copy_host_to_device, ACL_MEMCPY_HOST_TO_DEVICE, 1)            \
  X(copy_device_to_host, ACL_MEMCPY_DEVICE_TO_HOST, 2)            \
  X(copy_device_to_device, ACL_MEMCPY_DEVICE_TO_DEVICE, 3)        \
  X(malloc_huge_first, ACL_MEM_MALLOC_HUGE_FIRST, 0)              \
  X(memory_ddr, ACL_DDR_MEM, 0)                                   \
  X(memory_hbm, ACL_HBM_MEM, 1)                                   \
  X(option_deterministic, ACL_OPT_DETERMINISTIC, 0)               \
  X(event_sync, ACL_EVENT_SYNC, 1)                                \
  X(event_time_line, ACL_EVENT_TIME_LINE, 8)                      \
  X(error_repeat_initialize, ACL_ERROR_REPEAT_INITIALIZE, 100002) \
  X(error_out_of_memory, ACL_ERROR_RT_MEMORY_ALLOCATION, 207001)

namespace qlib::inline v0::ascend {

#define QLIB_ACL_CONSTANT(ours, theirs, value) inline constexpr std::int32_t ours = value;
QLIB_ACL_CONSTANTS(QLIB_ACL_CONSTANT)
#undef QLIB_ACL_CONSTANT

// Not in the headers of all versions.
inline constexpr std::int32_t attribute_npu_arch = 601;      ///< of aclrtGetDeviceInfo, CANN 9.1 and later
inline constexpr std::int32_t attribute_cube_cores = 102;    ///< of aclrtGetDeviceInfo
inline constexpr std::int32_t attribute_vector_cores = 201;  ///< of aclrtGetDeviceInfo
inline constexpr std::uint64_t stop_on_failure = 1;          ///< of aclrtSetStreamFailureMode
inline constexpr std::int32_t error_no_context = 107002;
inline constexpr std::int32_t error_wait_timeout = 507046;  ///< of waiting for a stream: it may still run
inline constexpr std::int32_t error_stub = 100039;          ///< every function of a stub library returns it

}  // namespace qlib::inline v0::ascend
