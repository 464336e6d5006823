#include <qlib/core/parallel.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <vector>

namespace {
using namespace qlib;
}

TEST_CASE("every task runs once, whatever the number of threads") {
  for (const std::size_t threads : {0u, 1u, 2u, 7u, 40u})
    for (const std::size_t tasks : {0u, 1u, 2u, 33u, 1000u}) {
      std::vector<std::atomic<int>> runs(tasks);
      std::atomic<bool> worker_known{true};
      const bool all = parallel_for(tasks, threads, [&](std::size_t worker, std::size_t task) {
        if (worker >= std::max<std::size_t>(1, threads)) worker_known = false;
        ++runs[task];
        return true;
      });
      CHECK(all);
      CHECK(worker_known);
      CHECK(std::all_of(runs.begin(), runs.end(), [](const std::atomic<int>& n) { return n == 1; }));
    }
}

TEST_CASE("one thread takes the tasks in order, on the caller's thread") {
  std::vector<std::size_t> order;
  const auto caller = std::this_thread::get_id();
  CHECK(parallel_for(5, 1, [&](std::size_t worker, std::size_t task) {
    order.push_back(task);
    return worker == 0 && std::this_thread::get_id() == caller;
  }));
  CHECK(order == std::vector<std::size_t>{0, 1, 2, 3, 4});
}

TEST_CASE("a task that says stop leaves out what was not yet taken") {
  std::vector<std::size_t> taken;
  CHECK(!parallel_for(100, 1, [&](std::size_t, std::size_t task) {
    taken.push_back(task);
    return task < 9;
  }));
  CHECK(taken.size() == 10);
  CHECK(!parallel_for(100, 4, [](std::size_t, std::size_t task) { return task != 99; }));  // even when it is the last one
}
