#pragma once
#include <qlib/config.hpp>

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace qlib::inline v0 {

/// How a worker came out of a task.
enum class task_outcome {
  done,
  stop,  ///< nobody shall take further tasks
  lost,  ///< the worker is gone, and another one has to do its task
};

enum class queue_end {
  complete,
  stopped,
  no_worker,  ///< all workers were lost
};

/// Calls work(worker, task) for every task in [0, tasks) until each is done, on `workers` threads; the caller's is one of them. Tasks are taken in
/// ascending order; one that was lost is taken next. Results must not depend on which worker ran a task.
template <class Work>
queue_end run_queue(std::size_t tasks, std::size_t workers, Work&& work) {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::size_t> again;
  std::size_t next = 0, running = 0;
  bool stop = false;
  const auto drain = [&](std::size_t worker) {
    std::unique_lock lock{mutex};
    for (;;) {
      // A task that still runs may come back.
      changed.wait(lock, [&] { return stop || !again.empty() || next < tasks || running == 0; });
      if (stop || (again.empty() && next >= tasks)) break;
      std::size_t task;
      if (!again.empty()) {
        task = again.front();
        again.pop_front();
      } else {
        task = next++;
      }
      ++running;
      lock.unlock();
      const task_outcome outcome = work(worker, task);
      lock.lock();
      --running;
      if (outcome == task_outcome::stop) stop = true;
      if (outcome == task_outcome::lost) again.push_back(task);
      changed.notify_all();
      if (outcome == task_outcome::lost) return;
    }
    changed.notify_all();
  };
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < workers; ++i) others.emplace_back(drain, i);
  drain(0);
  for (std::thread& t : others) t.join();
  if (stop) return queue_end::stopped;
  return again.empty() && next >= tasks ? queue_end::complete : queue_end::no_worker;
}

}  // namespace qlib::inline v0
