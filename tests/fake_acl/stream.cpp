#include "stream.hpp"

#include <algorithm>
#include <thread>
#include <utility>

#include "ledger.hpp"

namespace fake_acl {
namespace {

std::chrono::nanoseconds delay_of(const settings& now, engine_kind engine, uint64_t bytes) {
  const uint64_t per_kib = engine == engine_kind::compute ? now.compute_ns_per_kib : now.copy_ns_per_kib;
  return std::chrono::nanoseconds(now.task_us * 1000 + static_cast<uint64_t>(static_cast<double>(per_kib) * static_cast<double>(bytes) / 1024));
}

bool is_lost(world& w, device& d) {
  ++d.tasks;
  const auto found = w.now.lost.find(d.id);
  if (found != w.now.lost.end() && d.tasks >= found->second) d.lost = true;
  return d.lost;
}

int execute(world& w, lock_t& lock, stream& s, task& t) {
  device& d = w.devices[static_cast<size_t>(s.owner->device)];
  if (t.records) {
    t.records->code = s.error;
    t.records->when = clock::now();
    t.records->complete = true;
    return 0;
  }
  if (t.awaits) {
    w.progress.wait(lock, [&] { return t.awaits->complete; });
    return 0;
  }
  engine& e = d.engines[static_cast<int>(t.engine)];
  const uint64_t ticket = e.next++;
  w.progress.wait(lock, [&] { return e.serving == ticket; });
  int result = 0;
  if (is_lost(w, d)) {
    result = code::device_lost;
  } else if (s.owner->stopped_by != 0) {
    result = s.owner->stopped_by;
  } else {
    result = count_call("task");
    const auto deadline = clock::now() + delay_of(w.now, t.engine, t.bytes);
    lock.unlock();
    // A copy touches memory as late as it can, a kernel keeps its engine as long as it can.
    if (t.engine != engine_kind::compute) std::this_thread::sleep_until(deadline);
    if (result == 0) result = t.work();
    if (t.engine == engine_kind::compute) std::this_thread::sleep_until(deadline);
    lock.lock();
  }
  ++e.serving;
  return result;
}

void keep_error(stream& s, const task& t, int result) {
  s.error = result;
  s.error_text = t.function + " failed on the device with " + std::to_string(result);
  if (s.stops && s.owner->stopped_by == 0) s.owner->stopped_by = result;
}

void work(world& w, const std::shared_ptr<stream>& s) {
  lock_t lock{w.mutex};
  for (;;) {
    s->wake.wait(lock, [&] { return s->closing || !s->queue.empty(); });
    if (s->queue.empty()) break;
    task t = std::move(s->queue.front());
    s->queue.pop_front();
    if (const int result = execute(w, lock, *s, t)) keep_error(*s, t, result);
    s->completed = t.number;
    w.progress.notify_all();
  }
  w.streams.erase(s->id);
  --w.workers;
  w.progress.notify_all();
}

bool overlap(const use& a, const use& b) { return a.memory == b.memory && (a.writes || b.writes) && a.begin < b.end && b.begin < a.end; }

}  // namespace

std::shared_ptr<stream> new_stream(world& w, const std::shared_ptr<context>& owner, bool is_default) {
  auto s = std::make_shared<stream>();
  s->owner = owner;
  s->is_default = is_default;
  w.add(s);
  s->id = s->handle;
  w.streams.emplace(s->id, s);
  return s;
}

int find_stream(world& w, const void* handle, std::shared_ptr<context>& context, std::shared_ptr<stream>& out) {
  if (const int c = current_context(w, context)) return c;
  out = handle == nullptr ? context->default_stream : w.find<stream>(handle);
  if (out == nullptr) return violate(code::invalid_handle, "not a live stream");
  if (out->owner != context) {
    return violate(code::stream_not_in_context, "the stream belongs to device " + std::to_string(out->owner->device) +
                                                    ", or to another context, and this thread is on device " + std::to_string(context->device));
  }
  return 0;
}

std::string conflicting_task(const world& w, const use& u, const stream* ordered) {
  for (const auto& [id, other] : w.streams) {
    uint64_t done = other->known;
    if (ordered != nullptr) {
      if (ordered->id == id) continue;
      const auto found = ordered->before.find(id);
      if (found != ordered->before.end()) done = std::max(done, found->second);
    }
    for (const auto& open : other->open) {
      if (open.number <= done) continue;
      for (const use& theirs : open.uses) {
        if (overlap(u, theirs)) return open.function;
      }
    }
  }
  return {};
}

std::string pending_user(const world& w, const allocation& memory) {
  for (const auto& [id, s] : w.streams) {
    for (const auto& open : s->open) {
      for (const use& u : open.uses) {
        if (u.memory.get() == &memory) return open.function;
      }
    }
  }
  return {};
}

int enqueue(world& w, stream& s, task t) {
  for (const use& u : t.uses) {
    if (const auto other = conflicting_task(w, u, &s); !other.empty()) {
      return violate(t.function + (u.writes ? " writes" : " reads") + " memory that " + other +
                     " uses on another stream, and no event orders the two");
    }
  }
  t.number = ++s.enqueued;
  s.open.push_back({t.number, t.function, t.uses});
  s.queue.push_back(std::move(t));
  if (!s.started) {
    s.started = true;
    ++w.workers;
    std::thread([&w, self = w.streams.at(s.id)] { work(w, self); }).detach();
  }
  s.wake.notify_one();
  return 0;
}

void learn(world& w, const order& before) {
  for (const auto& [id, number] : before) {
    const auto found = w.streams.find(id);
    if (found == w.streams.end()) continue;
    stream& s = *found->second;
    s.known = std::max(s.known, number);
    while (!s.open.empty() && s.open.front().number <= s.known) s.open.pop_front();
  }
}

int wait_for(world& w, lock_t& lock, stream& s, int64_t milliseconds) {
  const uint64_t target = s.enqueued;
  order seen = s.before;
  seen[s.id] = target;
  const auto done = [&] { return s.completed >= target; };
  if (milliseconds < 0) {
    w.progress.wait(lock, done);
  } else if (!w.progress.wait_until(lock, clock::now() + std::chrono::milliseconds(milliseconds), done)) {
    return refuse(code::stream_timeout, "the stream is not done after " + std::to_string(milliseconds) + " ms");
  }
  learn(w, seen);
  const int device = s.owner->device;
  if (w.devices[static_cast<size_t>(device)].lost) return refuse(code::device_lost, "device " + std::to_string(device) + " is lost");
  const int result = s.error;
  if (result != 0) {
    refuse(result, s.error_text);
    if (!s.stops) s.error = 0;
  }
  return result;
}

void run_on_engine(world& w, lock_t& lock, int id, engine_kind kind, uint64_t bytes, const std::function<void()>& action) {
  engine& e = w.devices[static_cast<size_t>(id)].engines[static_cast<int>(kind)];
  const uint64_t ticket = e.next++;
  w.progress.wait(lock, [&] { return e.serving == ticket; });
  const auto deadline = clock::now() + delay_of(w.now, kind, bytes);
  lock.unlock();
  std::this_thread::sleep_until(deadline);
  action();
  lock.lock();
  ++e.serving;
  w.progress.notify_all();
}

void close_stream(world& w, lock_t& lock, const std::shared_ptr<stream>& s) {
  w.remove(*s);
  s->closing = true;
  if (!s->started) {
    w.streams.erase(s->id);
    return;
  }
  s->wake.notify_one();
  w.progress.wait(lock, [&] { return s->completed == s->enqueued; });
}

}  // namespace fake_acl
