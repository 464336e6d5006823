/* A sample in the vendor's manner, written for the test of the check. */
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef enum { ACL_FLOAT = 0, ACL_BF16 = 27 } aclDataType;
typedef int aclError;
typedef void* aclrtStream;
typedef enum { SAMPLE_HUGE_FIRST } sampleMallocPolicy;

extern "C" {
aclError aclrtMalloc(void** devPtr, size_t size, sampleMallocPolicy policy);
aclError aclrtFree(void* devPtr);
aclError aclrtGetDeviceCount(uint32_t* count);
aclError aclrtSynchronizeStreamWithTimeout(aclrtStream stream, int32_t timeout);
}
