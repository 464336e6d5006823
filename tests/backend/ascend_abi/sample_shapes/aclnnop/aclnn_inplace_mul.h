/* Both phases made by a macro that writes their names. */
#pragma once
#include "acl/acl_shapes.h"
#define SHAPES_OP(name, ...)                                                                \
  extern "C" int32_t aclnn##name##GetWorkspaceSize(__VA_ARGS__, uint64_t*, struct plan**); \
  extern "C" int32_t aclnn##name(void*, uint64_t, struct plan*, void*);
SHAPES_OP(InplaceMul, void* self, const void* other)
