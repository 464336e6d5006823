#include <doctest/doctest.h>
#include <qlib/core/work_queue.hpp>

#include <atomic>
#include <vector>

using namespace qlib;

TEST_CASE("a queue runs every task once, for any number of workers") {
  for (const std::size_t workers : {1, 2, 7}) {
    std::vector<std::atomic<int>> runs(100);
    const queue_end end = run_queue(100, workers, [&](std::size_t, std::size_t task) {
      ++runs[task];
      return task_outcome::done;
    });
    CHECK(end == queue_end::complete);
    for (const auto& n : runs) CHECK(n == 1);
  }
}

TEST_CASE("the task of a lost worker is done by another one, also when it was the last task") {
  for (const std::size_t fails_at : {0, 50, 99}) {
    std::vector<std::atomic<int>> finished(100);
    std::atomic<bool> lost{false};
    const queue_end end = run_queue(100, 3, [&](std::size_t, std::size_t task) {
      if (task == fails_at && !lost.exchange(true)) return task_outcome::lost;
      ++finished[task];
      return task_outcome::done;
    });
    CHECK(end == queue_end::complete);
    for (const auto& n : finished) CHECK(n == 1);
  }
}

TEST_CASE("without workers left a queue ends and says so") {
  std::atomic<int> done{0};
  const queue_end end = run_queue(100, 3, [&](std::size_t worker, std::size_t task) {
    if (task >= 10 + worker) return task_outcome::lost;
    ++done;
    return task_outcome::done;
  });
  CHECK(end == queue_end::no_worker);
  CHECK(done < 100);
}

TEST_CASE("a task that stops the queue leaves the others out") {
  std::atomic<int> ran{0};
  const queue_end end = run_queue(1000, 2, [&](std::size_t, std::size_t task) {
    ++ran;
    return task == 3 ? task_outcome::stop : task_outcome::done;
  });
  CHECK(end == queue_end::stopped);
  CHECK(ran < 1000);
}

TEST_CASE("a queue without tasks is complete") {
  CHECK(run_queue(0, 4, [](std::size_t, std::size_t) { return task_outcome::stop; }) == queue_end::complete);
}
