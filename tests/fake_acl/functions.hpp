// The exported functions, once: included with different definitions of two macros.
//
//   FAKE_ACL(age, kind, result, name, parameters, arguments)
//     age   any: in every release; late: absent in the `old` variant; hole: absent in the `missing_symbol` variant;
//          driver: others in the `no_driver` variant
//     kind  status: an injected failure does nothing else; release: it releases all the same; wait: it waits all the same (but for
//           timeouts); handle: it answers null; value: cannot fail; self: it counts itself
//   FAKE_ACL_OP(age, library, name, parameters, arguments)
//     a pair <name>GetWorkspaceSize(parameters, workspace*, executor*) and <name>(workspace, bytes, executor, stream)
//
// No include guard.
#if defined(FAKE_ACL_RUNTIME)
FAKE_ACL(driver, self, int, aclInit, (const char* json), (json))
FAKE_ACL(any, release, int, aclFinalize, (), ())
FAKE_ACL(late, release, int, aclFinalizeReference, (uint64_t * left), (left))
FAKE_ACL(driver, value, const char*, aclGetRecentErrMsg, (), ())
FAKE_ACL(any, status, int, aclrtGetDeviceCount, (uint32_t * count), (count))
FAKE_ACL(any, status, int, aclrtSetDevice, (int32_t device), (device))
FAKE_ACL(any, release, int, aclrtResetDevice, (int32_t device), (device))
FAKE_ACL(any, status, int, aclrtGetDevice, (int32_t * device), (device))
FAKE_ACL(any, status, int, aclrtCreateContext, (void** context, int32_t device), (context, device))
FAKE_ACL(any, release, int, aclrtDestroyContext, (void* context), (context))
FAKE_ACL(any, status, int, aclrtSetCurrentContext, (void* context), (context))
FAKE_ACL(any, status, int, aclrtGetCurrentContext, (void** context), (context))
FAKE_ACL(any, status, int, aclrtCreateStream, (void** stream), (stream))
FAKE_ACL(late, status, int, aclrtCreateStreamWithConfig, (void** stream, uint32_t priority, uint32_t flag), (stream, priority, flag))
FAKE_ACL(any, release, int, aclrtDestroyStream, (void* stream), (stream))
FAKE_ACL(any, wait, int, aclrtSynchronizeStream, (void* stream), (stream))
FAKE_ACL(late, wait, int, aclrtSynchronizeStreamWithTimeout, (void* stream, int32_t milliseconds), (stream, milliseconds))
FAKE_ACL(late, status, int, aclrtSetStreamFailureMode, (void* stream, uint64_t mode), (stream, mode))
FAKE_ACL(any, status, int, aclrtMalloc, (void** memory, size_t bytes, int policy), (memory, bytes, policy))
FAKE_ACL(late, status, int, aclrtMallocAlign32, (void** memory, size_t bytes, int policy), (memory, bytes, policy))
FAKE_ACL(any, release, int, aclrtFree, (void* memory), (memory))
FAKE_ACL(late, release, int, aclrtFreeWithDevSync, (void* memory), (memory))
FAKE_ACL(any, status, int, aclrtMallocHost, (void** memory, size_t bytes), (memory, bytes))
FAKE_ACL(any, release, int, aclrtFreeHost, (void* memory), (memory))
FAKE_ACL(any, status, int, aclrtMemcpy, (void* to, size_t room, const void* from, size_t bytes, int kind), (to, room, from, bytes, kind))
FAKE_ACL(hole, status, int, aclrtMemcpyAsync, (void* to, size_t room, const void* from, size_t bytes, int kind, void* stream),
         (to, room, from, bytes, kind, stream))
FAKE_ACL(any, status, int, aclrtMemset, (void* to, size_t room, int32_t value, size_t bytes), (to, room, value, bytes))
FAKE_ACL(any, status, int, aclrtMemsetAsync, (void* to, size_t room, int32_t value, size_t bytes, void* stream), (to, room, value, bytes, stream))
FAKE_ACL(any, status, int, aclrtCreateEvent, (void** event), (event))
FAKE_ACL(late, status, int, aclrtCreateEventExWithFlag, (void** event, uint32_t flag), (event, flag))
FAKE_ACL(any, release, int, aclrtDestroyEvent, (void* event), (event))
FAKE_ACL(any, status, int, aclrtRecordEvent, (void* event, void* stream), (event, stream))
FAKE_ACL(any, status, int, aclrtStreamWaitEvent, (void* stream, void* event), (stream, event))
FAKE_ACL(any, wait, int, aclrtSynchronizeEvent, (void* event), (event))
FAKE_ACL(late, status, int, aclrtQueryEventStatus, (void* event, int* complete), (event, complete))
FAKE_ACL(any, status, int, aclrtEventElapsedTime, (float* milliseconds, void* first, void* last), (milliseconds, first, last))
FAKE_ACL(any, status, int, aclrtGetMemInfo, (int attribute, size_t* available, size_t* total), (attribute, available, total))
FAKE_ACL(any, handle, const char*, aclrtGetSocName, (), ())
FAKE_ACL(any, status, int, aclrtGetRunMode, (int* mode), (mode))
FAKE_ACL(any, value, size_t, aclDataTypeSize, (int type), (type))
FAKE_ACL(any, status, int, aclrtDeviceCanAccessPeer, (int32_t * can, int32_t device, int32_t peer), (can, device, peer))
FAKE_ACL(any, status, int, aclrtDeviceEnablePeerAccess, (int32_t peer, uint32_t flags), (peer, flags))
FAKE_ACL(late, status, int, aclrtGetDeviceInfo, (uint32_t device, int attribute, int64_t* value), (device, attribute, value))
FAKE_ACL(any, status, int, aclGetDeviceCapability, (uint32_t device, int attribute, int64_t* value), (device, attribute, value))
FAKE_ACL(late, status, int, aclGetCannAttribute, (int attribute, int32_t* value), (attribute, value))
FAKE_ACL(late, status, int, aclrtCtxSetSysParamOpt, (int option, int64_t value), (option, value))
FAKE_ACL(late, status, int, aclrtSetSysParamOpt, (int option, int64_t value), (option, value))
FAKE_ACL(late, status, int, aclsysGetVersionStr, (char* package, char* version), (package, version))
FAKE_ACL(late, status, int, aclsysGetVersionNum, (char* package, int32_t* version), (package, version))
FAKE_ACL(any, value, int, aclrtGetLastError, (int level), (level))
FAKE_ACL(any, value, int, aclrtPeekAtLastError, (int level), (level))
FAKE_ACL(late, status, int, aclrtBinaryLoadFromFile, (const char* path, void* options, void** binary), (path, options, binary))
FAKE_ACL(late, status, int, aclrtBinaryGetFunction, (void* binary, const char* name, void** function), (binary, name, function))
FAKE_ACL(late, status, int, aclrtBinaryUnLoad, (void* binary), (binary))
FAKE_ACL(late, status, int, aclrtLaunchKernel, (void* function, uint32_t blocks, const void* arguments, size_t bytes, void* stream),
         (function, blocks, arguments, bytes, stream))
FAKE_ACL(late, status, int, aclrtLaunchKernelWithHostArgs,
         (void* function, uint32_t blocks, void* stream, void* config, void* arguments, size_t bytes, void* places, size_t count),
         (function, blocks, stream, config, arguments, bytes, places, count))
#endif

#if defined(FAKE_ACL_TENSOR)
FAKE_ACL(any, handle, void*, aclCreateTensor,
         (const int64_t* dims, uint64_t rank, int type, const int64_t* strides, int64_t offset, int format, const int64_t* storage,
          uint64_t storage_rank, void* data),
         (dims, rank, type, strides, offset, format, storage, storage_rank, data))
FAKE_ACL(any, handle, void*, aclCreateScalar, (void* value, int type), (value, type))
FAKE_ACL(any, handle, void*, aclCreateIntArray, (const int64_t* values, uint64_t count), (values, count))
FAKE_ACL(any, handle, void*, aclCreateTensorList, (void* const* tensors, uint64_t count), (tensors, count))
FAKE_ACL(any, release, int, aclDestroyTensor, (const void* tensor), (tensor))
FAKE_ACL(any, release, int, aclDestroyScalar, (const void* scalar), (scalar))
FAKE_ACL(any, release, int, aclDestroyIntArray, (const void* array), (array))
FAKE_ACL(any, release, int, aclDestroyTensorList, (const void* list), (list))
FAKE_ACL(late, status, int, aclSetAclOpExecutorRepeatable, (void* executor), (executor))
FAKE_ACL(late, release, int, aclDestroyAclOpExecutor, (void* executor), (executor))
FAKE_ACL(late, status, int, aclSetTensorAddr, (void* executor, size_t index, void* tensor, void* data), (executor, index, tensor, data))
FAKE_ACL(late, status, int, aclSetInputTensorAddr, (void* executor, size_t index, void* tensor, void* data), (executor, index, tensor, data))
FAKE_ACL(late, status, int, aclSetOutputTensorAddr, (void* executor, size_t index, void* tensor, void* data), (executor, index, tensor, data))
FAKE_ACL(late, status, int, aclSetRawTensorAddr, (void* tensor, void* data), (tensor, data))
FAKE_ACL(any, status, int, aclnnInit, (const char* json), (json))
FAKE_ACL(any, release, int, aclnnFinalize, (), ())
#endif

#if defined(FAKE_ACL_OPS)
using tensor_t = const void*;
FAKE_ACL_OP(any, nn, aclnnAscendQuant, (tensor_t x, tensor_t scale, tensor_t offset, bool root, const char* mode, int32_t type, tensor_t y),
            (x, scale, offset, root, mode, type, y))
FAKE_ACL_OP(late, nn, aclnnAscendQuantV3,
            (tensor_t x, tensor_t scale, tensor_t offset, bool root, const char* mode, int32_t type, int32_t axis, tensor_t y),
            (x, scale, offset, root, mode, type, axis, y))
FAKE_ACL_OP(any, nn, aclnnAscendAntiQuant, (tensor_t x, tensor_t scale, tensor_t offset, int64_t type, bool root, tensor_t y),
            (x, scale, offset, type, root, y))
FAKE_ACL_OP(any, nn, aclnnDynamicQuant, (tensor_t x, tensor_t smooth, tensor_t y, tensor_t scale), (x, smooth, y, scale))
FAKE_ACL_OP(late, nn, aclnnDynamicQuantV2, (tensor_t x, tensor_t smooth, tensor_t groups, int64_t type, tensor_t y, tensor_t scale, tensor_t offset),
            (x, smooth, groups, type, y, scale, offset))
FAKE_ACL_OP(any, nn, aclnnQuantMatmulV3, (tensor_t x1, tensor_t x2, tensor_t scale, tensor_t offset, tensor_t bias, bool t1, bool t2, tensor_t out),
            (x1, x2, scale, offset, bias, t1, t2, out))
FAKE_ACL_OP(any, nn, aclnnQuantMatmulV4,
            (tensor_t x1, tensor_t x2, tensor_t scale, tensor_t offset, tensor_t token, tensor_t bias, bool t1, bool t2, tensor_t out),
            (x1, x2, scale, offset, token, bias, t1, t2, out))
FAKE_ACL_OP(late, nn, aclnnQuantMatmulV5,
            (tensor_t x1, tensor_t x2, tensor_t s1, tensor_t s2, tensor_t sy, tensor_t o1, tensor_t o2, tensor_t oy, tensor_t bias, bool t1, bool t2,
             int64_t group, tensor_t out),
            (x1, x2, s1, s2, sy, o1, o2, oy, bias, t1, t2, group, out))
FAKE_ACL_OP(any, nn, aclnnWeightQuantBatchMatmulV2,
            (tensor_t x, tensor_t w, tensor_t scale, tensor_t offset, tensor_t sq, tensor_t oq, tensor_t bias, int32_t group, tensor_t y),
            (x, w, scale, offset, sq, oq, bias, group, y))
FAKE_ACL_OP(late, nn, aclnnWeightQuantBatchMatmulV3,
            (tensor_t x, tensor_t w, tensor_t scale, tensor_t offset, tensor_t sq, tensor_t oq, tensor_t bias, int32_t group, int32_t precise,
             tensor_t y),
            (x, w, scale, offset, sq, oq, bias, group, precise, y))
FAKE_ACL_OP(any, nn, aclnnMm, (tensor_t a, tensor_t b, tensor_t out, int8_t cube), (a, b, out, cube))
FAKE_ACL_OP(any, nn, aclnnTransQuantParamV2, (tensor_t scale, tensor_t offset, tensor_t out), (scale, offset, out))
FAKE_ACL_OP(any, nn, aclnnConvertWeightToINT4Pack, (tensor_t weight, tensor_t packed), (weight, packed))
FAKE_ACL_OP(any, math, aclnnAminmax, (tensor_t x, const void* dims, bool keep, tensor_t low, tensor_t high), (x, dims, keep, low, high))
FAKE_ACL_OP(any, math, aclnnAminmaxAll, (tensor_t x, tensor_t low, tensor_t high), (x, low, high))
FAKE_ACL_OP(any, math, aclnnAmax, (tensor_t x, const void* dims, bool keep, tensor_t out), (x, dims, keep, out))
FAKE_ACL_OP(any, math, aclnnAmin, (tensor_t x, const void* dims, bool keep, tensor_t out), (x, dims, keep, out))
FAKE_ACL_OP(any, math, aclnnMaxDim, (tensor_t x, int64_t dim, bool keep, tensor_t out, tensor_t index), (x, dim, keep, out, index))
FAKE_ACL_OP(any, math, aclnnHistc, (tensor_t x, int64_t bins, const void* low, const void* high, tensor_t out), (x, bins, low, high, out))
FAKE_ACL_OP(any, math, aclnnMul, (tensor_t a, tensor_t b, tensor_t out), (a, b, out))
FAKE_ACL_OP(any, math, aclnnMuls, (tensor_t a, const void* b, tensor_t out), (a, b, out))
FAKE_ACL_OP(any, math, aclnnInplaceMul, (tensor_t a, tensor_t b), (a, b))
FAKE_ACL_OP(any, math, aclnnAdd, (tensor_t a, tensor_t b, const void* alpha, tensor_t out), (a, b, alpha, out))
FAKE_ACL_OP(any, math, aclnnAdds, (tensor_t a, const void* b, const void* alpha, tensor_t out), (a, b, alpha, out))
FAKE_ACL_OP(any, math, aclnnAbs, (tensor_t a, tensor_t out), (a, out))
FAKE_ACL_OP(any, math, aclnnRound, (tensor_t a, tensor_t out), (a, out))
FAKE_ACL_OP(any, math, aclnnClamp, (tensor_t a, const void* low, const void* high, tensor_t out), (a, low, high, out))
FAKE_ACL_OP(any, math, aclnnCast, (tensor_t a, int type, tensor_t out), (a, type, out))
FAKE_ACL_OP(any, math, aclnnInplaceCopy, (tensor_t to, tensor_t from), (to, from))
FAKE_ACL_OP(any, math, aclnnPermute, (tensor_t a, const void* order, tensor_t out), (a, order, out))
#endif
