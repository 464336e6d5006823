// Streams and events as the C functions see them.
#include "api.hpp"
#include "event.hpp"
#include "ledger.hpp"

namespace fake_acl {
namespace {

int create_stream(void** out) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  if (const int failed = current_context(w, c)) return failed;
  if (out == nullptr) return violate(code::invalid_parameter, "null pointer");
  uint64_t on_device = 0;
  for (const auto& [handle, o] : w.objects) {
    const auto* s = dynamic_cast<const stream*>(o.get());
    on_device += s != nullptr && s->owner->device == c->device ? 1 : 0;
  }
  if (on_device >= w.soc.max_streams) return refuse(code::out_of_streams, "the device has " + std::to_string(on_device) + " streams already");
  *out = as_pointer(new_stream(w, c, false)->handle);
  return 0;
}

int synchronize(void* handle, int64_t milliseconds) {
  world& w = the_world();
  lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  std::shared_ptr<stream> s;
  if (const int failed = current_context(w, c, false)) return failed;
  s = handle == nullptr ? c->default_stream : w.find<stream>(handle);
  if (s == nullptr) return violate(code::invalid_handle, "not a live stream");
  if (s->owner != c) return violate(code::stream_not_in_context, "a stream of another context is synchronized");
  return wait_for(w, lock, *s, milliseconds);
}

int create_event(void** out, bool orders, bool times) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  if (const int failed = current_context(w, c)) return failed;
  if (out == nullptr) return violate(code::invalid_parameter, "null pointer");
  auto e = std::make_shared<event>();
  e->device = c->device;
  e->orders = orders;
  e->times = times;
  *out = as_pointer(w.add(e));
  return 0;
}

int find_event(world& w, const void* handle, std::shared_ptr<event>& out) {
  out = w.find<event>(handle);
  return out != nullptr ? 0 : violate(code::invalid_handle, "not a live event");
}

}  // namespace

namespace api {

int aclrtCreateStream(void** out) { return create_stream(out); }

int aclrtCreateStreamWithConfig(void** out, uint32_t, uint32_t flag) {
  if (flag > 3) return violate(code::invalid_parameter, "unknown stream flag " + std::to_string(flag));
  return create_stream(out);
}

int aclrtDestroyStream(void* handle) {
  world& w = the_world();
  lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  if (const int failed = current_context(w, c, false)) return failed;
  const auto s = w.find<stream>(handle);
  if (s == nullptr || s->is_default) return violate(code::invalid_handle, "not a live stream of aclrtCreateStream");
  if (s->owner != c) return violate(code::stream_not_in_context, "a stream is destroyed from another context");
  const bool lost = w.devices[static_cast<size_t>(c->device)].lost;
  const bool unproven = !s->open.empty();
  const std::string user = unproven ? s->open.front().function : "";
  close_stream(w, lock, s);
  if (unproven && !lost) return violate("a stream is destroyed before a synchronization proves that " + user + " is done");
  return lost ? refuse(code::device_lost, "device " + std::to_string(c->device) + " is lost") : 0;
}

int aclrtSynchronizeStream(void* handle) { return synchronize(handle, -1); }
int aclrtSynchronizeStreamWithTimeout(void* handle, int32_t milliseconds) { return synchronize(handle, milliseconds); }

int aclrtSetStreamFailureMode(void* handle, uint64_t mode) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  std::shared_ptr<stream> s;
  if (const int failed = find_stream(w, handle, c, s)) return failed;
  if (mode > 1) return violate(code::invalid_parameter, "unknown failure mode " + std::to_string(mode));
  if (s->mode_set) return violate(code::invalid_parameter, "the failure mode of a stream is set once");
  s->mode_set = true;
  s->stops = mode == 1;
  return 0;
}

int aclrtCreateEvent(void** out) { return create_event(out, true, true); }

int aclrtCreateEventExWithFlag(void** out, uint32_t flag) { return create_event(out, (flag & 1) != 0, (flag & 8) != 0); }

int aclrtDestroyEvent(void* handle) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::shared_ptr<event> e;
  if (const int failed = find_event(w, handle, e)) return failed;
  w.remove(*e);
  return 0;
}

int aclrtRecordEvent(void* event_handle, void* stream_handle) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  std::shared_ptr<stream> s;
  std::shared_ptr<event> e;
  if (const int failed = find_stream(w, stream_handle, c, s)) return failed;
  if (const int failed = find_event(w, event_handle, e)) return failed;
  if (e->device != c->device) return violate(code::stream_not_in_context, "an event of another device is recorded");
  e->last = std::make_shared<mark>();
  e->last->before = s->before;
  e->last->before[s->id] = s->enqueued;
  task t;
  t.function = "aclrtRecordEvent";
  t.records = e->last;
  return enqueue(w, *s, std::move(t));
}

int aclrtStreamWaitEvent(void* stream_handle, void* event_handle) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  std::shared_ptr<stream> s;
  std::shared_ptr<event> e;
  if (const int failed = find_stream(w, stream_handle, c, s)) return failed;
  if (const int failed = find_event(w, event_handle, e)) return failed;
  if (!e->orders) return violate(code::invalid_parameter, "a stream waits for an event without flag SYNC");
  if (e->last == nullptr) return 0;
  for (const auto& [id, number] : e->last->before) {
    if (id != s->id) s->before[id] = std::max(s->before[id], number);
  }
  task t;
  t.function = "aclrtStreamWaitEvent";
  t.awaits = e->last;
  return enqueue(w, *s, std::move(t));
}

int aclrtSynchronizeEvent(void* handle) {
  world& w = the_world();
  lock_t lock{w.mutex};
  std::shared_ptr<context> c;
  if (const int failed = current_context(w, c, false)) return failed;
  std::shared_ptr<event> e;
  if (const int failed = find_event(w, handle, e)) return failed;
  if (const auto last = e->last; last != nullptr) {
    w.progress.wait(lock, [&] { return last->complete; });
    learn(w, last->before);
    if (w.devices[static_cast<size_t>(e->device)].lost) return refuse(code::device_lost, "device " + std::to_string(e->device) + " is lost");
    if (last->code != 0) return refuse(last->code, "a task before the event failed with " + std::to_string(last->code));
  }
  return w.devices[static_cast<size_t>(c->device)].lost ? refuse(code::device_lost, "the device is lost") : 0;
}

int aclrtQueryEventStatus(void* handle, int* complete) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::shared_ptr<event> e;
  if (const int failed = find_event(w, handle, e)) return failed;
  *complete = e->last == nullptr || e->last->complete ? 1 : 0;
  if (e->last != nullptr && e->last->complete) learn(w, e->last->before);
  return 0;
}

int aclrtEventElapsedTime(float* milliseconds, void* first_handle, void* last_handle) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  std::shared_ptr<event> first, last;
  if (const int failed = find_event(w, first_handle, first)) return failed;
  if (const int failed = find_event(w, last_handle, last)) return failed;
  if (!first->times || !last->times) return violate(code::invalid_parameter, "elapsed time of an event without flag TIME_LINE");
  if (first->last == nullptr || last->last == nullptr || !first->last->complete || !last->last->complete) {
    return violate(code::invalid_parameter, "elapsed time of an event that is not recorded or not complete");
  }
  *milliseconds = std::chrono::duration<float, std::milli>(last->last->when - first->last->when).count();
  return 0;
}

}  // namespace api
}  // namespace fake_acl
