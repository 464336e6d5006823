// One entry a function for the exporting libraries: counts the call, injects failures, keeps messages.
#include "api.hpp"
#include "ledger.hpp"

#define FAKE_ACL_ENTRY extern "C" __attribute__((visibility("default")))

namespace fake_acl {
namespace {

constexpr bool is_timeout(int code) { return code == 507046 || code == 507047 || code == 107019 || code == 107020; }

template <class F>
int call_status(const char* name, F run) {
  if (const int injected = count_call(name)) return finish_call(name, refuse(injected, "injected failure"));
  return finish_call(name, run());
}

template <class F>
int call_release(const char* name, F run) {
  const int injected = count_call(name);
  const int result = run();
  return finish_call(name, injected != 0 ? refuse(injected, "injected failure") : result);
}

template <class F>
int call_wait(const char* name, F run) {
  const int injected = count_call(name);
  if (is_timeout(injected)) return finish_call(name, refuse(injected, "injected timeout"));
  const int result = run();
  return finish_call(name, injected != 0 ? refuse(injected, "injected failure") : result);
}

template <class F>
auto call_handle(const char* name, F run) -> decltype(run()) {
  if (const int injected = count_call(name)) {
    finish_call(name, refuse(injected, "injected failure"));
    return nullptr;
  }
  return run();
}

template <class F>
auto call_value(const char* name, F run) {
  count_call(name, false);
  return run();
}

template <class F>
int call_self(const char* name, F run) {
  return finish_call(name, run());
}

}  // namespace
}  // namespace fake_acl

#define FAKE_ACL_RUNTIME
#define FAKE_ACL_TENSOR
#define FAKE_ACL_OPS
#define FAKE_ACL(age, kind, result, name, parameters, arguments)                        \
  FAKE_ACL_ENTRY result fake_##name parameters {                                        \
    return fake_acl::call_##kind(#name, [&] { return fake_acl::api::name arguments; }); \
  }
#define FAKE_ACL_OP(age, library, name, parameters, arguments)                                                                                   \
  FAKE_ACL_ENTRY int fake_##name##GetWorkspaceSize(FAKE_ACL_UNPACK parameters, uint64_t* workspace, void** executor) {                           \
    return fake_acl::call_status(#name "GetWorkspaceSize", [&] { return fake_acl::api::name(FAKE_ACL_UNPACK arguments, workspace, executor); }); \
  }                                                                                                                                              \
  FAKE_ACL_ENTRY int fake_##name(void* workspace, uint64_t bytes, void* executor, void* stream) {                                                \
    const int injected = fake_acl::count_call(#name);                                                                                            \
    return fake_acl::finish_call(#name, fake_acl::api::launch(#name, injected, workspace, bytes, executor, stream));                             \
  }
#include "functions.hpp"
