#pragma once
// The functions behind the exported names. They take the world's lock and answer codes; calls.cpp counts and injects.
#include <cstddef>
#include <cstdint>

namespace fake_acl::api {

#define FAKE_ACL_RUNTIME
#define FAKE_ACL_TENSOR
#define FAKE_ACL_OPS
#define FAKE_ACL_UNPACK(...) __VA_ARGS__
#define FAKE_ACL(age, kind, result, name, parameters, arguments) result name parameters;
#define FAKE_ACL_OP(age, library, name, parameters, arguments) int name(FAKE_ACL_UNPACK parameters, uint64_t* workspace, void** executor);
#include "functions.hpp"
#undef FAKE_ACL
#undef FAKE_ACL_OP
#undef FAKE_ACL_OPS
#undef FAKE_ACL_TENSOR
#undef FAKE_ACL_RUNTIME

/// Phase 2 of every op. `injected`: 0, or the code with which it fails instead of running.
int launch(const char* name, int injected, void* workspace, uint64_t bytes, void* executor, void* stream);

}  // namespace fake_acl::api
