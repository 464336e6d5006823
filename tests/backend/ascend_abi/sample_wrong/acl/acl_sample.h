/* Wrong on purpose: a 32-bit size, a parameter too many, a value, a double, another constant. */
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef enum { ACL_FLOAT = 1, ACL_BF16 = 26 } aclDataType;
typedef int aclError;

extern "C" {
aclError aclrtMalloc(void** devPtr, uint32_t size, int policy);
aclError aclrtFree(void* devPtr, int flag);
aclError aclrtGetDeviceCount(uint32_t count);
aclError aclrtSynchronizeStreamWithTimeout(void* stream, double timeout);
aclError aclrtSetDevice(int32_t device);
}
