/* For trees of operators alone, which lack this header: the types that their declarations name, opaque. No value, no function. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define ACL_FUNC_VISIBILITY
typedef int32_t aclError;
typedef int32_t aclDataType;
typedef int32_t aclFormat;
typedef uint16_t aclFloat16;
typedef void* aclrtStream;
typedef void* aclrtContext;
typedef void* aclrtEvent;
