#pragma once
#include <qlib/config.hpp>

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace qlib::inline v0 {

/// Calls work(worker, task) for every task in [0, tasks), each once, on `threads` threads; the caller's is one of them. Tasks are
/// taken in ascending order. `work` returns false to stop early: tasks not yet taken are then left out. Returns whether all ran.
///
/// Results must not depend on which worker ran a task: write to a place that belongs to the task.
template <class Work>
bool parallel_for(std::size_t tasks, std::size_t threads, Work&& work) {
  std::atomic<std::size_t> next{0};
  std::atomic<bool> stop{false};
  const auto drain = [&](std::size_t worker) {
    while (!stop.load(std::memory_order_relaxed)) {
      const std::size_t task = next.fetch_add(1, std::memory_order_relaxed);
      if (task >= tasks) return;
      if (!work(worker, task)) stop.store(true, std::memory_order_relaxed);
    }
  };
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < threads && i < tasks; ++i) others.emplace_back(drain, i);
  drain(0);
  for (std::thread& t : others) t.join();
  return !stop.load();
}

}  // namespace qlib::inline v0
