#include "ledger.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace fake_acl {
namespace {

struct ledger {
  std::mutex mutex;
  std::vector<fault> faults;
  std::map<std::string, uint64_t> since_faults;  ///< calls by name, for the faults
  std::map<std::string, uint64_t> calls;
  std::vector<std::string> violations;
  uint64_t fired = 0;
  std::map<int, uint64_t> bytes;  ///< copied, by kind
  bool abort = false;
};

// Never destroyed: worker threads outlive static destruction.
ledger& book() {
  static ledger* const it = new ledger;
  return *it;
}

struct thread_words {
  std::string pending;
  std::string given;
  int last_error = 0;
};
thread_local thread_words words;

}  // namespace

int count_call(const char* function, bool can_fail) {
  ledger& b = book();
  const std::scoped_lock lock{b.mutex};
  ++b.calls[function];
  if (!can_fail) return 0;
  const uint64_t nth = ++b.since_faults[function];
  const bool is_task = std::strcmp(function, "task") == 0;
  if (!is_task) ++b.calls["*"];
  const uint64_t nth_of_all = is_task ? 0 : ++b.since_faults["*"];
  for (const fault& f : b.faults) {
    if ((f.function == function && f.nth == nth) || (f.function == "*" && f.nth == nth_of_all)) {
      ++b.fired;
      return f.code;
    }
  }
  return 0;
}

void count_bytes(int kind, uint64_t bytes) {
  ledger& b = book();
  const std::scoped_lock lock{b.mutex};
  b.bytes[kind] += bytes;
}

uint64_t bytes_copied(int kind) {
  ledger& b = book();
  const std::scoped_lock lock{b.mutex};
  const auto found = b.bytes.find(kind);
  return found == b.bytes.end() ? 0 : found->second;
}

int refuse(int code, const std::string& why) {
  words.pending = why;
  return code;
}

int violate(int code, const std::string& why) {
  ledger& b = book();
  bool stop = false;
  {
    const std::scoped_lock lock{b.mutex};
    b.violations.push_back(why + " (" + std::to_string(code) + ")");
    stop = b.abort;
  }
  if (stop) {
    std::fprintf(stderr, "fake ACL: violation: %s\n", why.c_str());
    std::abort();
  }
  return refuse(code, why);
}

int violate(const std::string& why) { return violate(507899, why); }

int finish_call(const char* function, int code) {
  if (code != 0) {
    words.last_error = code;
    const std::string why = words.pending.empty() ? "failed" : words.pending;
    words.pending = "E" + std::to_string(code) + ": " + function + ": " + why;
  }
  return code;
}

const char* take_message() {
  if (words.pending.empty()) return nullptr;
  words.given.swap(words.pending);
  words.pending.clear();
  return words.given.c_str();
}

int last_error(bool clear) {
  const int code = words.last_error;
  if (clear) words.last_error = 0;
  return code;
}

void set_faults(const std::vector<fault>& faults, bool abort_on_violation, bool restart) {
  ledger& b = book();
  const std::scoped_lock lock{b.mutex};
  const auto same = [](const fault& x, const fault& y) { return x.function == y.function && x.nth == y.nth && x.code == y.code; };
  bool changed = restart || faults.size() != b.faults.size();
  for (size_t i = 0; !changed && i < faults.size(); ++i) changed = !same(faults[i], b.faults[i]);
  b.abort = abort_on_violation;
  if (!changed) return;
  b.faults = faults;
  b.since_faults.clear();
  b.fired = 0;
}

void clear_ledger() {
  ledger& b = book();
  const std::scoped_lock lock{b.mutex};
  b.faults.clear();
  b.since_faults.clear();
  b.calls.clear();
  b.bytes.clear();
  b.violations.clear();
  b.fired = 0;
  b.abort = false;
  words = {};
}

std::vector<std::string> violations() {
  ledger& b = book();
  const std::scoped_lock lock{b.mutex};
  return b.violations;
}

uint64_t fired_faults() {
  ledger& b = book();
  const std::scoped_lock lock{b.mutex};
  return b.fired;
}

uint64_t calls_of(const std::string& function) {
  ledger& b = book();
  const std::scoped_lock lock{b.mutex};
  const auto found = b.calls.find(function);
  return found == b.calls.end() ? 0 : found->second;
}

}  // namespace fake_acl
