// Memory of devices and of the host, and what moves between them.
#include <cstring>

#include "api.hpp"
#include "ledger.hpp"
#include "stream.hpp"

namespace fake_acl {
namespace {

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/// One side of a copy.
struct end {
  std::shared_ptr<allocation> memory;  ///< null: pageable
  std::byte* bytes = nullptr;
  size_t begin = 0;
  bool on_device() const { return memory != nullptr && memory->device != host; }
};

int locate(const world& w, const void* address, size_t bytes, const char* side, end& out) {
  if (address == nullptr) return violate(code::invalid_parameter, std::string("the ") + side + " is null");
  out.memory = w.memory.find(address);
  if (out.memory == nullptr) {
    if (was_device_memory(address)) return violate(code::invalid_parameter, std::string("the ") + side + " is device memory that was freed");
    out.bytes = static_cast<std::byte*>(const_cast<void*>(address));
    return 0;
  }
  out.begin = static_cast<size_t>(static_cast<const std::byte*>(address) - out.memory->handed);
  out.bytes = out.memory->backing + out.begin;
  if (bytes <= out.memory->size - out.begin) return 0;
  return violate(code::invalid_parameter, std::string("the ") + side + " overruns its allocation: " + std::to_string(bytes) + " bytes at " +
                                              std::to_string(out.begin) + " of " + std::to_string(out.memory->size));
}

struct copy_plan {
  end to, from;
  engine_kind engine = engine_kind::compute;
  std::vector<use> uses;
};

int plan_copy(const world& w, void* to, size_t room, const void* from, size_t bytes, int kind, copy_plan& plan) {
  if (bytes > room) return violate(code::invalid_parameter, std::to_string(bytes) + " bytes are copied to a place of " + std::to_string(room));
  if (const int c = locate(w, to, bytes, "destination", plan.to)) return c;
  if (const int c = locate(w, from, bytes, "source", plan.from)) return c;
  const int actual = (plan.from.on_device() ? 2 : 0) + (plan.to.on_device() ? 1 : 0);
  if (kind != actual && kind != 4) {
    return violate(code::invalid_parameter, "memcpy kind " + std::to_string(kind) + ", but the pointers say " + std::to_string(actual));
  }
  plan.engine = actual == 1 ? engine_kind::to_device : actual == 2 ? engine_kind::to_host : engine_kind::compute;
  count_bytes(actual, bytes);
  if (plan.to.memory) plan.uses.push_back({plan.to.memory, plan.to.begin, plan.to.begin + bytes, true});
  if (plan.from.memory) plan.uses.push_back({plan.from.memory, plan.from.begin, plan.from.begin + bytes, false});
  return 0;
}

int check_against_tasks(const world& w, const std::vector<use>& uses, const char* function) {
  for (const use& u : uses) {
    if (const auto other = conflicting_task(w, u, nullptr); !other.empty()) {
      return violate(std::string(function) + " does not wait for streams, and " + other + " may still use the memory");
    }
  }
  return 0;
}

int check_device(const world& w, const end& e, int id) {
  if (!e.on_device() || e.memory->device == id || w.devices[static_cast<size_t>(id)].peers.count(e.memory->device) != 0) return 0;
  return violate("memory of device " + std::to_string(e.memory->device) + " is used by a stream of device " + std::to_string(id));
}

int allocate(void** out, size_t bytes, int policy, size_t extra) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  if (const int failed = current_context(w, c)) return failed;
  if (out == nullptr || bytes == 0 || policy < 0 || policy > 5) {
    return violate(code::invalid_parameter, "a null place, no bytes, or an unknown policy " + std::to_string(policy));
  }
  device& d = w.devices[static_cast<size_t>(c->device)];
  const size_t charged = round_up(bytes, 32) + extra;
  if (bytes > w.now.memory || d.used + charged > w.now.memory) {
    return refuse(code::out_of_memory, std::to_string(bytes) + " bytes on device " + std::to_string(d.id) + ", which has " +
                                           std::to_string(w.now.memory - std::min(w.now.memory, d.used)) + " left");
  }
  auto memory = new_device_memory(d.id, bytes, charged);
  if (memory == nullptr) return refuse(code::out_of_memory, "the host of the fake has no memory left");
  d.used += charged;
  *out = memory->handed;
  w.memory.add(std::move(memory));
  return 0;
}

int release(world& w, void* address, bool pinned) {
  const auto found = address == nullptr ? nullptr : w.memory.find(address);
  if (found == nullptr || found->handed != address || (found->device == host) != pinned) {
    return violate(code::invalid_parameter, address == nullptr ? "free of a null pointer" : "not the start of a live allocation of this kind");
  }
  w.memory.remove(address);
  if (!pinned) w.devices[static_cast<size_t>(found->device)].used -= found->charged;
  const bool lost = !pinned && w.devices[static_cast<size_t>(found->device)].lost;
  if (const auto user = pending_user(w, *found); !user.empty() && !lost) return violate("memory is freed while " + user + " may still use it");
  return 0;
}

}  // namespace

namespace api {

int aclrtMalloc(void** memory, size_t bytes, int policy) { return allocate(memory, bytes, policy, 32); }
int aclrtMallocAlign32(void** memory, size_t bytes, int policy) { return allocate(memory, bytes, policy, 0); }

int aclrtFree(void* memory) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  const int failed = current_context(w, c);
  if (failed != 0 && failed != code::device_lost) return failed;
  const int result = release(w, memory, false);
  return result != 0 ? result : failed;
}

int aclrtFreeWithDevSync(void* memory) {
  world& w = the_world();
  lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  const int failed = current_context(w, c);
  if (failed != 0 && failed != code::device_lost) return failed;
  std::vector<std::shared_ptr<stream>> all;
  for (const auto& [id, s] : w.streams) {
    if (s->owner->device == c->device) all.push_back(s);
  }
  for (const auto& s : all) {
    const uint64_t target = s->enqueued;
    w.progress.wait(lock, [&] { return s->completed >= target; });
    learn(w, {{s->id, target}});
  }
  const int result = release(w, memory, false);
  return result != 0 ? result : failed;
}

int aclrtMallocHost(void** out, size_t bytes) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  if (const int failed = current_context(w, c)) return failed;
  if (out == nullptr || bytes == 0) return violate(code::invalid_parameter, "a null place, or no bytes");
  auto memory = new_pinned_memory(bytes);
  if (memory == nullptr) return refuse(code::out_of_memory, "the host has no memory left");
  *out = memory->handed;
  w.memory.add(std::move(memory));
  return 0;
}

int aclrtFreeHost(void* memory) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  if (const int c = not_initialized(w)) return c;
  return release(w, memory, true);
}

int aclrtMemcpy(void* to, size_t room, const void* from, size_t bytes, int kind) {
  world& w = the_world();
  lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  if (const int failed = current_context(w, c)) return failed;
  copy_plan plan;
  if (const int failed = plan_copy(w, to, room, from, bytes, kind, plan)) return failed;
  if (const int failed = check_against_tasks(w, plan.uses, "aclrtMemcpy")) return failed;
  run_on_engine(w, lock, c->device, plan.engine, bytes, [&] { std::memmove(plan.to.bytes, plan.from.bytes, bytes); });
  return 0;
}

int aclrtMemcpyAsync(void* to, size_t room, const void* from, size_t bytes, int kind, void* handle) {
  world& w = the_world();
  lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  std::shared_ptr<stream> s;
  if (const int failed = find_stream(w, handle, c, s)) return failed;
  copy_plan plan;
  if (const int failed = plan_copy(w, to, room, from, bytes, kind, plan)) return failed;
  if (!plan.to.on_device() && !plan.from.on_device()) return refuse(code::not_supported, "no asynchronous copy from host to host");
  if (const int failed = check_device(w, plan.to, c->device)) return failed;
  if (const int failed = check_device(w, plan.from, c->device)) return failed;
  task t;
  t.function = "aclrtMemcpyAsync";
  t.engine = plan.engine;
  t.bytes = bytes;
  t.uses = plan.uses;
  t.work = [to_bytes = plan.to.bytes, from_bytes = plan.from.bytes, bytes] {
    std::memmove(to_bytes, from_bytes, bytes);
    return 0;
  };
  if (const int failed = enqueue(w, *s, std::move(t))) return failed;
  if (plan.to.memory && plan.from.memory) return 0;
  const uint64_t target = s->enqueued;  // pageable: back when done
  w.progress.wait(lock, [&] { return s->completed >= target; });
  order seen = s->before;
  seen[s->id] = target;
  learn(w, seen);
  return 0;
}

int aclrtMemset(void* to, size_t room, int32_t value, size_t bytes) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  if (const int failed = current_context(w, c)) return failed;
  end target;
  if (bytes > room) return violate(code::invalid_parameter, "more bytes are set than there is room for");
  if (const int failed = locate(w, to, bytes, "destination", target)) return failed;
  if (target.memory == nullptr) return violate(code::invalid_parameter, "memset of host memory that is not from aclrtMallocHost");
  if (const int failed = check_against_tasks(w, {{target.memory, target.begin, target.begin + bytes, true}}, "aclrtMemset")) return failed;
  std::memset(target.bytes, value, bytes);
  return 0;
}

int aclrtMemsetAsync(void* to, size_t room, int32_t value, size_t bytes, void* handle) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  std::shared_ptr<stream> s;
  if (const int failed = find_stream(w, handle, c, s)) return failed;
  end target;
  if (bytes > room) return violate(code::invalid_parameter, "more bytes are set than there is room for");
  if (const int failed = locate(w, to, bytes, "destination", target)) return failed;
  if (target.memory == nullptr) return violate(code::invalid_parameter, "memset of host memory that is not from aclrtMallocHost");
  if (const int failed = check_device(w, target, c->device)) return failed;
  task t;
  t.function = "aclrtMemsetAsync";
  t.engine = engine_kind::compute;
  t.bytes = bytes;
  t.uses = {{target.memory, target.begin, target.begin + bytes, true}};
  t.work = [place = target.bytes, value, bytes] {
    std::memset(place, value, bytes);
    return 0;
  };
  return enqueue(w, *s, std::move(t));
}

}  // namespace api
}  // namespace fake_acl
