#pragma once
// Everything that lives between aclInit and aclFinalize, behind one lock.
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "codes.hpp"
#include "memory.hpp"
#include "profile.hpp"
#include "settings.hpp"

namespace fake_acl {

using clock = std::chrono::steady_clock;
using lock_t = std::unique_lock<std::mutex>;

/// Base of what a handle names. Handles are numbers that are never given out twice, so a stale one is always noticed.
struct object {
  virtual ~object() = default;
  virtual const char* kind() const = 0;
  virtual std::string describe() const { return kind(); }
  virtual bool leaks() const { return true; }
  uint64_t handle = 0;
};

/// Runs one task at a time, in the order of asking.
struct engine {
  uint64_t next = 0;
  uint64_t serving = 0;
};
enum class engine_kind { to_device, to_host, compute, none };

struct context;
struct device {
  int id = 0;
  engine engines[3];
  bool lost = false;
  uint64_t tasks = 0;
  uint64_t used = 0;  ///< bytes
  uint64_t references = 0;
  std::set<int> peers;
  std::shared_ptr<context> primary;
};

struct stream;
struct context : object {
  const char* kind() const override { return "context"; }
  bool leaks() const override { return !is_primary; }
  int device = 0;
  bool is_primary = false;
  bool deterministic = false;
  int stopped_by = 0;  ///< the first error of a stream in mode stop
  std::shared_ptr<stream> default_stream;
};

struct world {
  std::mutex mutex;
  std::condition_variable progress;  ///< a task or an engine finished
  overrides changes;
  settings now;
  soc_profile soc;
  uint64_t references = 0;  ///< of aclInit
  uint64_t next_handle = 0;
  uint64_t workers = 0;  ///< running threads
  bool deterministic = false;
  std::map<uint64_t, std::shared_ptr<object>> objects;
  std::map<uint64_t, std::shared_ptr<stream>> streams;  ///< by stream id; those whose tasks may be unfinished stay after DestroyStream
  address_map memory;
  std::deque<device> devices;  ///< grows only: references stay valid

  uint64_t add(std::shared_ptr<object> o);
  template <class T>
  std::shared_ptr<T> find(const void* handle) const {
    const auto found = objects.find(reinterpret_cast<uintptr_t>(handle));
    return found == objects.end() ? nullptr : std::dynamic_pointer_cast<T>(found->second);
  }
  bool remove(const object& o) { return objects.erase(o.handle) == 1; }
};

world& the_world();

inline void* as_pointer(uint64_t handle) { return reinterpret_cast<void*>(handle); }

/// Reads the settings again; false if they cannot be read.
bool update_settings(world& w, bool restart_faults);

/// This thread's context. Fails with 100001 before aclInit, 107002 without SetDevice; with `need_device`, 507010 on a lost device.
int current_context(world& w, std::shared_ptr<context>& out, bool need_device = true);
void set_current_context(uint64_t handle);
uint64_t current_context_handle();

int not_initialized(const world& w);

}  // namespace fake_acl
