#include "world.hpp"

#include <utility>

#include "ledger.hpp"
#include "stream.hpp"

namespace fake_acl {
namespace {

thread_local uint64_t this_context = 0;
constexpr uint64_t first_handle = 0x4AC100000000;  // no mapping starts here: a handle that is dereferenced faults

}  // namespace

// Never destroyed: worker threads outlive static destruction.
world& the_world() {
  static world* const it = new world;
  return *it;
}

uint64_t world::add(std::shared_ptr<object> o) {
  o->handle = first_handle + 64 * next_handle++;
  const uint64_t handle = o->handle;
  objects.emplace(handle, std::move(o));
  return handle;
}

bool update_settings(world& w, bool restart_faults) {
  std::string problem;
  settings s;
  if (!read_settings(w.changes, s, problem)) {
    refuse(code::invalid_parameter, problem);
    return false;
  }
  w.now = s;
  w.soc = profile_of(s.soc);
  set_faults(s.faults, s.abort, restart_faults);
  while (w.devices.size() < s.devices.size()) {
    w.devices.emplace_back();
    w.devices.back().id = static_cast<int>(w.devices.size()) - 1;
  }
  return true;
}

int not_initialized(const world& w) { return w.references == 0 ? violate(code::not_initialized, "called before aclInit or after aclFinalize") : 0; }

void set_current_context(uint64_t handle) { this_context = handle; }
uint64_t current_context_handle() { return this_context; }

int current_context(world& w, std::shared_ptr<context>& out, bool need_device) {
  if (const int c = not_initialized(w)) return c;
  out = w.find<context>(as_pointer(this_context));
  if (out == nullptr) return violate(code::no_context, "this thread has no context: aclrtSetDevice is missing, or the device was reset");
  if (need_device && w.devices[static_cast<size_t>(out->device)].lost) {
    return refuse(code::device_lost, "device " + std::to_string(out->device) + " is lost");
  }
  return 0;
}

}  // namespace fake_acl
