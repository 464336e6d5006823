#pragma once
// Calls, injected failures, violations and the messages of threads. Has a lock of its own: usable from anywhere.
#include <cstdint>
#include <string>
#include <vector>

#include "settings.hpp"

namespace fake_acl {

/// Counts a call; the code with which it must fail, or 0.
int count_call(const char* function, bool can_fail = true);

/// Bytes that a copy of kind `kind` (1: to a device, 2: from one) will move.
void count_bytes(int kind, uint64_t bytes);
uint64_t bytes_copied(int kind);

/// The message that aclGetRecentErrMsg will give to this thread; returns the code.
int refuse(int code, const std::string& why);

/// As refuse; the sentence also enters the report, and the process aborts if ABORT is set. No code: undefined behaviour, 507899.
int violate(int code, const std::string& why);
int violate(const std::string& why);

/// A call's result passes here, so that every failure has a message and a last error.
int finish_call(const char* function, int code);

const char* take_message();
int last_error(bool clear);

/// Counts of calls and of faults start again if the faults are others than before.
void set_faults(const std::vector<fault>& faults, bool abort_on_violation, bool restart);
void clear_ledger();

std::vector<std::string> violations();
uint64_t fired_faults();
uint64_t calls_of(const std::string& function);

}  // namespace fake_acl
