#pragma once
// Streams run their tasks in order on a thread of their own; engines serialize the tasks of a device. What the host knows to be done is
// kept apart from what happens to be done: a use of memory ends when a synchronization proves it.
#include "world.hpp"

namespace fake_acl {

/// Bytes [begin, end) of an allocation that a task reads or writes.
struct use {
  std::shared_ptr<allocation> memory;
  size_t begin = 0;
  size_t end = 0;
  bool writes = false;
};

/// For each stream id: the task up to which everything is ordered before.
using order = std::map<uint64_t, uint64_t>;

/// A place in a stream that an event marks.
struct mark {
  bool complete = false;
  int code = 0;
  clock::time_point when;
  order before;
};

struct task {
  uint64_t number = 0;  ///< from 1, in its stream
  std::string function;
  engine_kind engine = engine_kind::none;
  uint64_t bytes = 0;
  std::vector<use> uses;
  std::function<int()> work;              ///< a code of the device, or 0
  std::shared_ptr<mark> records, awaits;  ///< of events
};

struct stream : object {
  const char* kind() const override { return "stream"; }
  bool leaks() const override { return !is_default; }
  uint64_t id = 0;
  std::shared_ptr<context> owner;
  bool is_default = false;
  bool started = false;
  bool closing = false;
  std::deque<task> queue;
  std::condition_variable wake;
  uint64_t enqueued = 0, completed = 0;
  uint64_t known = 0;  ///< up to here the host knows that tasks are done
  order before;        ///< of other streams, by events
  struct unproven {
    uint64_t number;
    std::string function;
    std::vector<use> uses;
  };
  std::deque<unproven> open;  ///< tasks after `known`
  int error = 0;
  std::string error_text;
  bool stops = false, mode_set = false;
};

std::shared_ptr<stream> new_stream(world& w, const std::shared_ptr<context>& owner, bool is_default);

/// The stream of a handle (null: the context's default stream), in the current context of this thread.
int find_stream(world& w, const void* handle, std::shared_ptr<context>& context, std::shared_ptr<stream>& out);

/// Queues a task; a conflict with an unordered task of another stream is a violation.
int enqueue(world& w, stream& s, task t);

/// A task that may still run and conflicts with this use; "" if none. `ordered`: null for the host.
std::string conflicting_task(const world& w, const use& u, const stream* ordered);

/// A task that may still use the allocation; "" if none.
std::string pending_user(const world& w, const allocation& memory);

/// Waits until all tasks queued so far are done; milliseconds < 0: forever. Answers the stream's error.
int wait_for(world& w, lock_t& lock, stream& s, int64_t milliseconds);

/// What the host learns from a mark, or from a stream, that is done.
void learn(world& w, const order& before);

/// Runs work on an engine of a device from this thread.
void run_on_engine(world& w, lock_t& lock, int device, engine_kind engine, uint64_t bytes, const std::function<void()>& work);

/// Ends the stream's thread after its tasks; the stream is no longer found.
void close_stream(world& w, lock_t& lock, const std::shared_ptr<stream>& s);

}  // namespace fake_acl
