/* Declarations as other versions might write them, made up for the test of the check: not complete by itself (no stdint.h), attributes before and
   after the type, a default argument, noexcept, a macro that declares, enums of fixed size, a namespace. */
#pragma once
#define SHAPES_VISIBLE __attribute__((visibility("default")))
#define SHAPES_API(type, name, parameters) SHAPES_VISIBLE type name parameters;
#define ACL_INT8 2
static const int ACL_ERROR_REPEAT_INITIALIZE = 100002;

enum aclShapesKind : int32_t { ACL_MEMCPY_HOST_TO_DEVICE = 1 };
typedef void* aclrtStream;

extern "C" {
SHAPES_VISIBLE int32_t aclrtSetDevice(int32_t device) noexcept;
int32_t SHAPES_VISIBLE aclrtCreateContext(void** context, int32_t device = 0);
SHAPES_API(int32_t, aclrtMallocHost, (void** memory, size_t bytes))
int32_t
aclrtMemcpyAsync(void* to, size_t room, const void* from, size_t bytes,
                 aclShapesKind kind, aclrtStream stream);
}

namespace shapes {
inline namespace v1 {
int32_t aclrtFree(void*);
}
}
