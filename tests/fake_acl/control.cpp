// Reset, settings and report.
#include <cstdio>
#include <fstream>

#include "ledger.hpp"
#include "stream.hpp"

#define FAKE_ACL_CONTROL extern "C" __attribute__((visibility("default")))

namespace fake_acl {
namespace {

std::vector<std::string> leaks(const world& w) {
  std::vector<std::string> lines;
  for (const auto& [handle, o] : w.objects) {
    if (o->leaks()) lines.push_back(o->describe());
  }
  for (const auto& [address, memory] : w.memory.all()) {
    lines.push_back(std::to_string(memory->size) + " bytes of " +
                    (memory->device == host ? "pinned memory" : "memory of device " + std::to_string(memory->device)));
  }
  return lines;
}

std::string report() {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::string text;
  for (const auto& line : violations()) text += "violation: " + line + "\n";
  for (const auto& line : leaks(w)) text += "leak: " + line + "\n";
  return text;
}

/// Appends the report to the file REPORT when the process ends.
struct at_exit {
  ~at_exit() {
    std::string file;
    {
      world& w = the_world();
      const lock_t lock{w.mutex};
      file = w.now.report;
    }
    if (file.empty()) return;
    std::ofstream(file, std::ios::app) << report() << "fake ACL: " << calls_of("*") << " calls, " << calls_of("task") << " tasks, " << fired_faults()
                                       << " injected failures\n";
  }
} write_report;

}  // namespace
}  // namespace fake_acl

using namespace fake_acl;

FAKE_ACL_CONTROL void fake_control_reset(void) {
  world& w = the_world();
  lock_t lock{w.mutex};
  std::vector<std::shared_ptr<stream>> all;
  for (const auto& [handle, o] : w.objects) {
    if (auto s = std::dynamic_pointer_cast<stream>(o)) all.push_back(s);
  }
  for (const auto& s : all) close_stream(w, lock, s);
  w.progress.wait(lock, [&] { return w.workers == 0; });
  for (const auto& s : all) {
    if (s->owner->default_stream == s) s->owner->default_stream = nullptr;
  }
  w.objects.clear();
  w.streams.clear();
  w.memory.clear();
  w.devices.clear();
  w.changes.clear();
  w.references = 0;
  w.deterministic = false;
  clear_ledger();
}

FAKE_ACL_CONTROL int fake_control_configure(const char* key, const char* value) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  if (key == nullptr || !known_setting(key)) return code::invalid_parameter;
  const overrides before = w.changes;
  w.changes.erase(key);
  if (value != nullptr) w.changes[key] = value;
  if (update_settings(w, std::string(key) == "FAIL")) return 0;
  w.changes = before;
  return code::invalid_parameter;
}

FAKE_ACL_CONTROL const char* fake_control_report(void) {
  thread_local std::string text;
  text = report();
  return text.c_str();
}

FAKE_ACL_CONTROL uint64_t fake_control_violations(void) { return violations().size(); }

FAKE_ACL_CONTROL uint64_t fake_control_leaks(void) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  return leaks(w).size();
}

FAKE_ACL_CONTROL uint64_t fake_control_fired(void) { return fired_faults(); }
FAKE_ACL_CONTROL uint64_t fake_control_bytes(int kind) { return bytes_copied(kind); }
FAKE_ACL_CONTROL uint64_t fake_control_calls(const char* function) { return function == nullptr ? 0 : calls_of(function); }
