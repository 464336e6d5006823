/// The functions of Ascend's runtime and operator libraries that qlib calls: one list a tier, and everything else is made from it (the
/// table, the dlsym loop, the names, the check against real headers in tests/backend/ascend_abi).
///
/// Declared from facts about the ABI, without the vendor's headers: LP64, C linkage; aclError, aclnnStatus and every enum are std::int32_t,
/// every handle is void*. X(return type, name, (parameters)).
#pragma once
#include <qlib/config.hpp>

#include <cstddef>
#include <cstdint>

/// Without one of these there is no backend: the library refuses to open and names it.
#define QLIB_ACL_REQUIRED(X)                                                                                                                 \
  X(std::int32_t, aclInit, (const char* config_path))                                                                                        \
  X(std::int32_t, aclFinalize, ())                                                                                                           \
  X(const char*, aclGetRecentErrMsg, ())                                                                                                     \
  X(std::int32_t, aclrtGetDeviceCount, (std::uint32_t * count))                                                                              \
  X(std::int32_t, aclrtSetDevice, (std::int32_t device))                                                                                     \
  X(std::int32_t, aclrtCreateContext, (void** context, std::int32_t device))                                                                 \
  X(std::int32_t, aclrtDestroyContext, (void* context))                                                                                      \
  X(std::int32_t, aclrtSetCurrentContext, (void* context))                                                                                   \
  X(std::int32_t, aclrtGetCurrentContext, (void** context))                                                                                  \
  X(std::int32_t, aclrtCreateStream, (void** stream))                                                                                        \
  X(std::int32_t, aclrtDestroyStream, (void* stream))                                                                                        \
  X(std::int32_t, aclrtSynchronizeStream, (void* stream))                                                                                    \
  X(std::int32_t, aclrtMalloc, (void** memory, std::size_t bytes, std::int32_t policy))                                                      \
  X(std::int32_t, aclrtFree, (void* memory))                                                                                                 \
  X(std::int32_t, aclrtMallocHost, (void** memory, std::size_t bytes))                                                                       \
  X(std::int32_t, aclrtFreeHost, (void* memory))                                                                                             \
  X(std::int32_t, aclrtMemcpyAsync, (void* to, std::size_t room, const void* from, std::size_t bytes, std::int32_t kind, void* stream))      \
  X(const char*, aclrtGetSocName, ())                                                                                                        \
  X(void*, aclCreateTensor,                                                                                                                  \
    (const std::int64_t* dims, std::uint64_t rank, std::int32_t type, const std::int64_t* strides, std::int64_t offset, std::int32_t format, \
     const std::int64_t* storage_dims, std::uint64_t storage_rank, void* data))                                                              \
  X(void*, aclCreateScalar, (void* value, std::int32_t type))                                                                                \
  X(void*, aclCreateIntArray, (const std::int64_t* values, std::uint64_t count))                                                             \
  X(std::int32_t, aclDestroyTensor, (const void* tensor))                                                                                    \
  X(std::int32_t, aclDestroyScalar, (const void* scalar))                                                                                    \
  X(std::int32_t, aclDestroyIntArray, (const void* array))

/// Null in the table where the installed version lacks them: whoever uses one has another way.
#define QLIB_ACL_OPTIONAL(X)                                                                                \
  X(std::int32_t, aclFinalizeReference, (std::uint64_t * left))                                             \
  X(std::int32_t, aclrtSynchronizeStreamWithTimeout, (void* stream, std::int32_t milliseconds))             \
  X(std::int32_t, aclrtSetStreamFailureMode, (void* stream, std::uint64_t mode))                            \
  X(std::int32_t, aclrtCreateEvent, (void** event))                                                         \
  X(std::int32_t, aclrtCreateEventExWithFlag, (void** event, std::uint32_t flag))                           \
  X(std::int32_t, aclrtDestroyEvent, (void* event))                                                         \
  X(std::int32_t, aclrtRecordEvent, (void* event, void* stream))                                            \
  X(std::int32_t, aclrtStreamWaitEvent, (void* stream, void* event))                                        \
  X(std::int32_t, aclrtSynchronizeEvent, (void* event))                                                     \
  X(std::int32_t, aclrtEventElapsedTime, (float* milliseconds, void* first, void* last))                    \
  X(std::int32_t, aclrtGetMemInfo, (std::int32_t attribute, std::size_t * free, std::size_t * total))       \
  X(std::int32_t, aclrtGetDeviceInfo, (std::uint32_t device, std::int32_t attribute, std::int64_t * value)) \
  X(std::int32_t, aclrtCtxSetSysParamOpt, (std::int32_t option, std::int64_t value))                        \
  X(std::int32_t, aclsysGetVersionStr, (char* package, char* version))                                      \
  X(std::int32_t, aclDestroyAclOpExecutor, (void* executor))

/// The last two parameters of every op's first phase.
#define QLIB_ACL_PLAN std::uint64_t *workspace, void **executor

/// X gives the first phase, name##GetWorkspaceSize; the second is ascend::launch_function for all. A missing op disables only itself.
#define QLIB_ACL_OPS(X)                                                                                                                              \
  X(std::int32_t, aclnnAscendQuantV3,                                                                                                                \
    (const void* x, const void* scale, const void* offset, bool sqrt_mode, const char* round_mode, std::int32_t type, std::int32_t axis,             \
     const void* y, QLIB_ACL_PLAN))                                                                                                                  \
  X(std::int32_t, aclnnAscendQuant,                                                                                                                  \
    (const void* x, const void* scale, const void* offset, bool sqrt_mode, const char* round_mode, std::int32_t type, const void* y, QLIB_ACL_PLAN)) \
  X(std::int32_t, aclnnAscendAntiQuant,                                                                                                              \
    (const void* x, const void* scale, const void* offset, std::int64_t type, bool sqrt_mode, const void* y, QLIB_ACL_PLAN))                         \
  X(std::int32_t, aclnnDynamicQuant, (const void* x, const void* smooth, const void* y, const void* scale, QLIB_ACL_PLAN))                           \
  X(std::int32_t, aclnnDynamicQuantV2,                                                                                                               \
    (const void* x, const void* smooth, const void* groups, std::int64_t type, const void* y, const void* scale, const void* offset, QLIB_ACL_PLAN)) \
  X(std::int32_t, aclnnAminmax, (const void* x, const void* dims, bool keep_dims, void* min, void* max, QLIB_ACL_PLAN))                              \
  X(std::int32_t, aclnnAmin, (const void* x, const void* dims, bool keep_dims, void* out, QLIB_ACL_PLAN))                                            \
  X(std::int32_t, aclnnAmax, (const void* x, const void* dims, bool keep_dims, void* out, QLIB_ACL_PLAN))                                            \
  X(std::int32_t, aclnnHistc, (const void* x, std::int64_t bins, const void* min, const void* max, void* out, QLIB_ACL_PLAN))                        \
  X(std::int32_t, aclnnQuantMatmulV5,                                                                                                                \
    (const void* x1, const void* x2, const void* x1_scale, const void* x2_scale, const void* y_scale, const void* x1_offset, const void* x2_offset,  \
     const void* y_offset, const void* bias, bool transpose1, bool transpose2, std::int64_t group_size, void* out, QLIB_ACL_PLAN))                   \
  X(std::int32_t, aclnnQuantMatmulV4,                                                                                                                \
    (const void* x1, const void* x2, const void* scale, const void* offset, const void* token_scale, const void* bias, bool transpose1,              \
     bool transpose2, const void* out, QLIB_ACL_PLAN))                                                                                               \
  X(std::int32_t, aclnnQuantMatmulV3,                                                                                                                \
    (const void* x1, const void* x2, const void* scale, const void* offset, const void* bias, bool transpose1, bool transpose2, const void* out,     \
     QLIB_ACL_PLAN))                                                                                                                                 \
  X(std::int32_t, aclnnWeightQuantBatchMatmulV3,                                                                                                     \
    (const void* x, const void* weight, const void* scale, const void* offset, const void* quant_scale, const void* quant_offset, const void* bias,  \
     std::int32_t group_size, std::int32_t precision, const void* y, QLIB_ACL_PLAN))                                                                 \
  X(std::int32_t, aclnnWeightQuantBatchMatmulV2,                                                                                                     \
    (const void* x, const void* weight, const void* scale, const void* offset, const void* quant_scale, const void* quant_offset, const void* bias,  \
     std::int32_t group_size, const void* y, QLIB_ACL_PLAN))                                                                                         \
  X(std::int32_t, aclnnMul, (const void* a, const void* b, void* out, QLIB_ACL_PLAN))                                                                \
  X(std::int32_t, aclnnInplaceMul, (void* a, const void* b, QLIB_ACL_PLAN))                                                                          \
  X(std::int32_t, aclnnAdd, (const void* a, const void* b, const void* alpha, void* out, QLIB_ACL_PLAN))                                             \
  X(std::int32_t, aclnnRound, (const void* x, void* out, QLIB_ACL_PLAN))                                                                             \
  X(std::int32_t, aclnnClamp, (const void* x, const void* min, const void* max, void* out, QLIB_ACL_PLAN))                                           \
  X(std::int32_t, aclnnCast, (const void* x, std::int32_t type, void* out, QLIB_ACL_PLAN))                                                           \
  X(std::int32_t, aclnnMm, (const void* a, const void* b, void* out, std::int8_t cube_math, QLIB_ACL_PLAN))

namespace qlib::inline v0::ascend {

/// An op's second phase: queues on `stream` what the first planned. Consumes the executor, also when it fails.
using launch_function = std::int32_t (*)(void* workspace, std::uint64_t bytes, void* executor, void* stream);

/// One member a function; null where the installed libraries lack it.
struct functions {
#define QLIB_ACL_MEMBER(type, name, parameters) type(*name) parameters = nullptr;
  QLIB_ACL_REQUIRED(QLIB_ACL_MEMBER)
  QLIB_ACL_OPTIONAL(QLIB_ACL_MEMBER)
#undef QLIB_ACL_MEMBER
#define QLIB_ACL_MEMBER(type, name, parameters)       \
  type(*name##GetWorkspaceSize) parameters = nullptr; \
  launch_function name = nullptr;
  QLIB_ACL_OPS(QLIB_ACL_MEMBER)
#undef QLIB_ACL_MEMBER
};

#define QLIB_ACL_NAME(type, name, parameters) #name,
inline constexpr const char* required_names[] = {QLIB_ACL_REQUIRED(QLIB_ACL_NAME)};
inline constexpr const char* optional_names[] = {QLIB_ACL_OPTIONAL(QLIB_ACL_NAME)};
inline constexpr const char* op_names[] = {QLIB_ACL_OPS(QLIB_ACL_NAME)};
#undef QLIB_ACL_NAME

}  // namespace qlib::inline v0::ascend
