#pragma once
// Control of the fake ACL from inside a process. Exported by libacl_rt.so and libascendcl.so of the fake; every variant in one process shares
// one state.
#include <cstdint>

extern "C" {

/// Waits for queued tasks, then forgets everything: objects, devices, references of aclInit, settings made here, counts and violations.
/// Threads must call aclrtSetDevice again.
void qlib_fake_acl_reset(void);

/// Sets what the environment variable QLIB_FAKE_ACL_<key> would set, at once and until the next reset; a null value takes the setting
/// back. 0, or 107000 for an unknown key or a value that cannot be read.
int qlib_fake_acl_configure(const char* key, const char* value);

/// One line for each violation ("violation: ...") and each object still alive ("leak: ..."); "" if there is none. Valid until the
/// thread's next call.
const char* qlib_fake_acl_report(void);

uint64_t qlib_fake_acl_violations(void);
uint64_t qlib_fake_acl_leaks(void);

/// Failures injected since FAIL was last set.
uint64_t qlib_fake_acl_fired(void);

/// Calls of a function since the last reset; "*": of all functions that can fail; "task": tasks that devices started.
uint64_t qlib_fake_acl_calls(const char* function);

/// Bytes that copies to a device (kind 1) or from one (kind 2) moved since the last reset.
uint64_t qlib_fake_acl_bytes(int kind);
}
