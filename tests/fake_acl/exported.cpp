// The exported names of one library of one variant. The definitions FAKE_ACL_RUNTIME, _TENSOR, _NN, _MATH choose the library's role;
// FAKE_ACL_OLD, _STUB, _NO_DRIVER, _MISSING choose the variant.
#include <cstddef>
#include <cstdint>

#include "control.hpp"

#define FAKE_ACL_EXPORT extern "C" __attribute__((visibility("default")))
#define FAKE_ACL_UNPACK(...) __VA_ARGS__

namespace {

template <class Result>
[[maybe_unused]] Result stubbed() {
  if constexpr (sizeof(Result) == sizeof(int)) {
    return 100039;
  } else {
    return Result{};
  }
}

}  // namespace

#if defined(FAKE_ACL_STUB)
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define FAKE_ACL_EMIT(kind, result, name, parameters, arguments) \
  FAKE_ACL_EXPORT result name parameters { return stubbed<result>(); }
#define FAKE_ACL_EMIT_OP(name, parameters, arguments)                                                          \
  FAKE_ACL_EXPORT int name##GetWorkspaceSize(FAKE_ACL_UNPACK parameters, uint64_t*, void**) { return 100039; } \
  FAKE_ACL_EXPORT int name(void*, uint64_t, void*, void*) { return 100039; }
#else
#define FAKE_ACL_EMIT(kind, result, name, parameters, arguments) \
  extern "C" result fake_##name parameters;                      \
  FAKE_ACL_EXPORT result name parameters { return fake_##name arguments; }
#define FAKE_ACL_EMIT_OP(name, parameters, arguments)                                                            \
  extern "C" int fake_##name##GetWorkspaceSize(FAKE_ACL_UNPACK parameters, uint64_t*, void**);                   \
  extern "C" int fake_##name(void*, uint64_t, void*, void*);                                                     \
  FAKE_ACL_EXPORT int name##GetWorkspaceSize(FAKE_ACL_UNPACK parameters, uint64_t* workspace, void** executor) { \
    return fake_##name##GetWorkspaceSize(FAKE_ACL_UNPACK arguments, workspace, executor);                        \
  }                                                                                                              \
  FAKE_ACL_EXPORT int name(void* workspace, uint64_t bytes, void* executor, void* stream) { return fake_##name(workspace, bytes, executor, stream); }
#endif

#define FAKE_ACL_AGE_any(...) FAKE_ACL_EMIT(__VA_ARGS__)
#if defined(FAKE_ACL_OLD)
#define FAKE_ACL_AGE_late(...)
#define FAKE_ACL_OP_AGE_late(...)
#else
#define FAKE_ACL_AGE_late(...) FAKE_ACL_EMIT(__VA_ARGS__)
#define FAKE_ACL_OP_AGE_late(...) FAKE_ACL_EMIT_OP(__VA_ARGS__)
#endif
#if defined(FAKE_ACL_MISSING)
#define FAKE_ACL_AGE_hole(...)
#else
#define FAKE_ACL_AGE_hole(...) FAKE_ACL_EMIT(__VA_ARGS__)
#endif
#if defined(FAKE_ACL_NO_DRIVER)
#define FAKE_ACL_AGE_driver(...)
#else
#define FAKE_ACL_AGE_driver(...) FAKE_ACL_EMIT(__VA_ARGS__)
#endif
#define FAKE_ACL_OP_AGE_any(...) FAKE_ACL_EMIT_OP(__VA_ARGS__)

#if defined(FAKE_ACL_NN)
#define FAKE_ACL_LIBRARY_nn(age, ...) FAKE_ACL_OP_AGE_##age(__VA_ARGS__)
#else
#define FAKE_ACL_LIBRARY_nn(...)
#endif
#if defined(FAKE_ACL_MATH)
#define FAKE_ACL_LIBRARY_math(age, ...) FAKE_ACL_OP_AGE_##age(__VA_ARGS__)
#else
#define FAKE_ACL_LIBRARY_math(...)
#endif
#if defined(FAKE_ACL_NN) || defined(FAKE_ACL_MATH)
#define FAKE_ACL_OPS
#endif

#define FAKE_ACL(age, ...) FAKE_ACL_AGE_##age(__VA_ARGS__)
#define FAKE_ACL_OP(age, library, ...) FAKE_ACL_LIBRARY_##library(age, __VA_ARGS__)
#include "functions.hpp"

#if defined(FAKE_ACL_RUNTIME)
#if defined(FAKE_ACL_NO_DRIVER)
namespace {
thread_local const char* message = nullptr;
}
FAKE_ACL_EXPORT int aclInit(const char*) {
  message = "E500000: aclInit: the driver reports no SoC name";
  return 500000;
}
FAKE_ACL_EXPORT const char* aclGetRecentErrMsg() {
  const char* const given = message;
  message = nullptr;
  return given;
}
#endif

extern "C" {
void fake_control_reset(void);
int fake_control_configure(const char*, const char*);
const char* fake_control_report(void);
uint64_t fake_control_violations(void);
uint64_t fake_control_leaks(void);
uint64_t fake_control_fired(void);
uint64_t fake_control_calls(const char*);
uint64_t fake_control_bytes(int);
}
FAKE_ACL_EXPORT void qlib_fake_acl_reset(void) { fake_control_reset(); }
FAKE_ACL_EXPORT int qlib_fake_acl_configure(const char* key, const char* value) { return fake_control_configure(key, value); }
FAKE_ACL_EXPORT const char* qlib_fake_acl_report(void) { return fake_control_report(); }
FAKE_ACL_EXPORT uint64_t qlib_fake_acl_violations(void) { return fake_control_violations(); }
FAKE_ACL_EXPORT uint64_t qlib_fake_acl_leaks(void) { return fake_control_leaks(); }
FAKE_ACL_EXPORT uint64_t qlib_fake_acl_fired(void) { return fake_control_fired(); }
FAKE_ACL_EXPORT uint64_t qlib_fake_acl_calls(const char* function) { return fake_control_calls(function); }
FAKE_ACL_EXPORT uint64_t qlib_fake_acl_bytes(int kind) { return fake_control_bytes(kind); }
#endif
