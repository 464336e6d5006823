// aclInit to aclFinalize, devices, contexts, and questions about them.
#include <algorithm>
#include <cstring>

#include "api.hpp"
#include "event.hpp"
#include "ledger.hpp"
#include "stream.hpp"

namespace fake_acl {
namespace {

// A thread holds a device once, however often it sets it: the primary context by device.
thread_local std::map<int, uint64_t> held;

std::shared_ptr<context> new_context(world& w, int id, bool primary) {
  auto c = std::make_shared<context>();
  c->device = id;
  c->is_primary = primary;
  w.add(c);
  c->default_stream = new_stream(w, c, true);
  return c;
}

int check_device(const world& w, int64_t id) {
  if (const int c = not_initialized(w)) return c;
  const auto count = static_cast<int64_t>(w.now.devices.size());
  if (id >= 0 && id < count) return 0;
  return refuse(code::invalid_device, "there is no device " + std::to_string(id) + ", only " + std::to_string(count));
}

/// Ends all streams of a context, and the context.
void close_context(world& w, lock_t& lock, const std::shared_ptr<context>& c) {
  std::vector<std::shared_ptr<stream>> mine;
  for (const auto& [handle, o] : w.objects) {
    if (auto s = std::dynamic_pointer_cast<stream>(o); s && s->owner == c) mine.push_back(s);
  }
  for (const auto& s : mine) {
    close_stream(w, lock, s);
    s->owner->default_stream = nullptr;
  }
  w.remove(*c);
}

/// What the rules want destroyed before a reset or a context's end.
int report_survivors(const world& w, int id, const context* only) {
  for (const auto& [handle, o] : w.objects) {
    const auto* s = dynamic_cast<const stream*>(o.get());
    if (s != nullptr && !s->is_default && s->owner->device == id && (only == nullptr || s->owner.get() == only)) {
      return violate("a stream is alive when its context ends");
    }
    const auto* e = dynamic_cast<const event*>(o.get());
    if (e != nullptr && e->device == id && only == nullptr) return violate("an event is alive when its device is reset");
  }
  return 0;
}

}  // namespace

namespace api {

int aclInit(const char*) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  if (w.references == 0 && !update_settings(w, false)) return code::internal_error;
  if (const int injected = count_call("aclInit")) return refuse(injected, "injected failure");
  if (++w.references == 1) return 0;
  return refuse(code::repeated_initialize, "aclInit was called before");
}

int aclFinalize() {
  world& w = the_world();
  const lock_t lock{w.mutex};
  if (w.references == 0) return refuse(code::repeated_finalize, "nothing is left to finalize");
  w.references = 0;
  return 0;
}

int aclFinalizeReference(uint64_t* left) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  if (left != nullptr) *left = w.references;
  if (w.references == 0) return refuse(code::repeated_finalize, "nothing is left to finalize");
  --w.references;
  if (left != nullptr) *left = w.references;
  return 0;
}

const char* aclGetRecentErrMsg() { return take_message(); }
int aclrtGetLastError(int) { return last_error(true); }
int aclrtPeekAtLastError(int) { return last_error(false); }

int aclnnInit(const char*) { return 0; }
int aclnnFinalize() { return 0; }

int aclrtGetDeviceCount(uint32_t* count) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  if (const int c = not_initialized(w)) return c;
  if (count == nullptr) return violate(code::invalid_parameter, "null pointer");
  *count = static_cast<uint32_t>(w.now.devices.size());
  return 0;
}

int aclrtSetDevice(int32_t id) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  if (const int c = check_device(w, id)) return c;
  device& d = w.devices[static_cast<size_t>(id)];
  if (d.references == 0) d.primary = new_context(w, id, true);
  if (auto& mine = held[id]; mine != d.primary->handle) {
    mine = d.primary->handle;
    ++d.references;
  }
  set_current_context(d.primary->handle);
  return d.lost ? refuse(code::device_lost, "device " + std::to_string(id) + " is lost") : 0;
}

int aclrtResetDevice(int32_t id) {
  world& w = the_world();
  lock_t lock{w.mutex};
  if (const int c = check_device(w, id)) return c;
  device& d = w.devices[static_cast<size_t>(id)];
  if (d.references == 0) return violate(code::invalid_device, "device " + std::to_string(id) + " is reset and was not set");
  const auto primary = d.primary;
  if (current_context_handle() == primary->handle) set_current_context(0);
  held.erase(id);
  if (--d.references > 0) return 0;
  const int survivors = report_survivors(w, id, nullptr);
  d.primary = nullptr;
  close_context(w, lock, primary);
  if (survivors != 0) return survivors;
  return d.lost ? refuse(code::device_lost, "device " + std::to_string(id) + " is lost") : 0;
}

int aclrtGetDevice(int32_t* id) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  if (const int c = not_initialized(w)) return c;
  const auto mine = w.find<context>(as_pointer(current_context_handle()));
  if (mine == nullptr) return refuse(code::no_context, "this thread has no device");
  *id = mine->device;
  return 0;
}

int aclrtCreateContext(void** out, int32_t id) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  if (const int c = check_device(w, id)) return c;
  const auto c = new_context(w, id, false);
  set_current_context(c->handle);
  *out = as_pointer(c->handle);
  return 0;
}

int aclrtDestroyContext(void* handle) {
  world& w = the_world();
  lock_t lock{w.mutex};
  const auto c = w.find<context>(handle);
  if (c == nullptr || c->is_primary) return violate(code::invalid_handle, "not a live context of aclrtCreateContext");
  const int survivors = report_survivors(w, c->device, c.get());
  close_context(w, lock, c);
  return survivors;
}

int aclrtSetCurrentContext(void* handle) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  const auto c = w.find<context>(handle);
  if (c == nullptr) return violate(code::invalid_handle, "not a live context");
  set_current_context(c->handle);
  return 0;
}

int aclrtGetCurrentContext(void** handle) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  const auto c = w.find<context>(as_pointer(current_context_handle()));
  if (c == nullptr) return refuse(code::no_context, "this thread has no context");
  *handle = as_pointer(c->handle);
  return 0;
}

int aclrtGetMemInfo(int attribute, size_t* available, size_t* total) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  if (const int failed = current_context(w, c)) return failed;
  // DDR 0, HBM 1; a question for HBM falls back to DDR.
  const bool answers = attribute == 1 || (attribute == 0 && !w.soc.hbm);
  *total = answers ? w.now.memory : 0;
  const uint64_t used = w.devices[static_cast<size_t>(c->device)].used;
  *available = answers && used < w.now.memory ? w.now.memory - used : 0;
  return 0;
}

const char* aclrtGetSocName() {
  world& w = the_world();
  const lock_t lock{w.mutex};
  return w.references == 0 ? nullptr : w.soc.name.c_str();
}

int aclrtGetRunMode(int* mode) {
  *mode = 1;
  return 0;
}

size_t aclDataTypeSize(int type) { return type == dtype::i4 ? 1 : static_cast<size_t>(bits_of(type)) / 8; }

int aclrtDeviceCanAccessPeer(int32_t* can, int32_t id, int32_t peer) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  if (const int c = check_device(w, id)) return c;
  if (const int c = check_device(w, peer)) return c;
  *can = id != peer;
  return 0;
}

int aclrtDeviceEnablePeerAccess(int32_t peer, uint32_t flags) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  if (const int failed = current_context(w, c)) return failed;
  if (const int failed = check_device(w, peer)) return failed;
  if (flags != 0 || peer == c->device) return violate(code::invalid_parameter, "peer access wants another device and flags 0");
  w.devices[static_cast<size_t>(c->device)].peers.insert(peer);
  return 0;
}

int aclrtGetDeviceInfo(uint32_t id, int attribute, int64_t* value) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  if (const int c = check_device(w, id)) return c;
  switch (attribute) {
    case 101:
      *value = w.soc.ai_cores;
      return 0;
    case 102:
      *value = w.soc.cube_cores;
      return 0;
    case 201:
      *value = w.soc.vector_cores;
      return 0;
    case 204:
      *value = w.soc.ub_bytes;
      return 0;
    case 301:
      *value = static_cast<int64_t>(w.now.memory);
      return 0;
    case 302:
      *value = w.soc.l2_bytes;
      return 0;
    case 601:
      if (!w.soc.known) return refuse(code::not_supported, "the runtime does not know the architecture of " + w.soc.name);
      *value = w.soc.arch;
      return 0;
    default:
      return refuse(code::invalid_parameter, "unknown attribute " + std::to_string(attribute));
  }
}

int aclGetDeviceCapability(uint32_t id, int attribute, int64_t* value) {
  constexpr int modern[] = {101, 201, 302};
  if (attribute < 0 || attribute > 2) return refuse(code::invalid_parameter, "unknown attribute " + std::to_string(attribute));
  return aclrtGetDeviceInfo(id, modern[attribute], value);
}

int aclGetCannAttribute(int attribute, int32_t* value) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  if (attribute != 0 && attribute != 1) return refuse(code::invalid_parameter, "unknown attribute " + std::to_string(attribute));
  *value = w.soc.bf16 ? 1 : 0;  // the same SoCs have INF_NAN mode
  return 0;
}

int aclrtCtxSetSysParamOpt(int option, int64_t value) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  if (const int failed = current_context(w, c)) return failed;
  if (option != 0) return refuse(code::invalid_parameter, "unknown option " + std::to_string(option));
  c->deterministic = value != 0;
  return 0;
}

int aclrtSetSysParamOpt(int option, int64_t value) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  if (option != 0) return refuse(code::invalid_parameter, "unknown option " + std::to_string(option));
  w.deterministic = value != 0;
  return 0;
}

int aclsysGetVersionStr(char* package, char* version) {
  if (package == nullptr || version == nullptr) return violate(code::invalid_parameter, "null pointer");
  std::strcpy(version, "9.1.0");
  return 0;
}

int aclsysGetVersionNum(char* package, int32_t* version) {
  if (package == nullptr || version == nullptr) return violate(code::invalid_parameter, "null pointer");
  *version = 90100000;
  return 0;
}

int aclrtBinaryLoadFromFile(const char*, void*, void**) { return refuse(code::not_supported, "the fake runs no binaries"); }
int aclrtBinaryGetFunction(void*, const char*, void**) { return refuse(code::not_supported, "the fake runs no binaries"); }
int aclrtBinaryUnLoad(void*) { return refuse(code::not_supported, "the fake runs no binaries"); }
int aclrtLaunchKernel(void*, uint32_t, const void*, size_t, void*) { return refuse(code::not_supported, "the fake runs no binaries"); }
int aclrtLaunchKernelWithHostArgs(void*, uint32_t, void*, void*, void*, size_t, void*, size_t) {
  return refuse(code::not_supported, "the fake runs no binaries");
}

}  // namespace api
}  // namespace fake_acl
