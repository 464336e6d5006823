// Streams, engines, events.
#include <atomic>
#include <chrono>
#include <thread>

#include "bindings.hpp"

using namespace fake_acl_test;

namespace {

struct chunk {
  P host_memory = nullptr, device_memory = nullptr, tensor = nullptr;
  explicit chunk(size_t floats) {
    REQUIRE(host_malloc(&host_memory, floats * 4) == 0);
    REQUIRE(device_malloc(&device_memory, floats * 4, 0) == 0);
    std::memset(host_memory, 0, floats * 4);
    const i64 dims[] = {static_cast<i64>(floats)};
    tensor = create_tensor(dims, 1, F32, nullptr, 0, 2, dims, 1, device_memory);
  }
  chunk(const chunk&) = delete;
  ~chunk() {
    destroy_tensor(tensor);
    device_free(device_memory);
    host_free(host_memory);
  }
};

int run_abs(P tensor, P stream) {
  u64 workspace = 0;
  P executor = nullptr;
  const int c = abs_.plan(workspace, executor, tensor, tensor);
  return c != 0 ? c : abs_.launch(nullptr, 0, executor, stream);
}

template <class F>
double milliseconds_of(F run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST_CASE("streams of a device overlap copies with compute, and each engine runs one task at a time") {
  session s;
  constexpr size_t floats = 1024;  // 4 KiB
  chunk a(floats), b(floats);
  P second = nullptr;
  CHECK(create_stream(&second) == 0);
  CHECK(fake_configure("COPY_NS_PER_KIB", "5000000") == 0);     // 20 ms a chunk
  CHECK(fake_configure("COMPUTE_NS_PER_KIB", "2500000") == 0);  // of 8 KiB read and written: 20 ms
  const auto step = [&](chunk& c, P stream) {
    CHECK(copy_async(c.device_memory, floats * 4, c.host_memory, floats * 4, host_to_device, stream) == 0);
    CHECK(run_abs(c.tensor, stream) == 0);
    CHECK(copy_async(c.host_memory, floats * 4, c.device_memory, floats * 4, device_to_host, stream) == 0);
  };
  const double alone = milliseconds_of([&] {
    step(a, s.stream);
    CHECK(sync_within(s.stream, 5000) == 0);
  });
  CHECK(alone >= 60);
  const double both = milliseconds_of([&] {
    for (int i = 0; i < 2; ++i) {
      step(a, s.stream);
      step(b, second);
    }
    CHECK(sync_within(s.stream, 5000) == 0);
    CHECK(sync_within(second, 5000) == 0);
  });
  CHECK(both >= 80);          // 4 copies to the device, one after another
  CHECK(both < 3.6 * alone);  // 4 times as long without overlap, 140 / 60 = 2.3 times at best
  CHECK(destroy_stream(second) == 0);
  CHECK(fake_violations() == 0);
}

TEST_CASE("copies of two streams in one direction take the sum of their times") {
  session s;
  chunk a(1024), b(1024);
  P second = nullptr;
  CHECK(create_stream(&second) == 0);
  CHECK(fake_configure("COPY_NS_PER_KIB", "10000000") == 0);  // 40 ms a chunk
  const double time = milliseconds_of([&] {
    CHECK(copy_async(a.device_memory, 4096, a.host_memory, 4096, host_to_device, s.stream) == 0);
    CHECK(copy_async(b.device_memory, 4096, b.host_memory, 4096, host_to_device, second) == 0);
    CHECK(sync_within(s.stream, 5000) == 0);
    CHECK(sync_within(second, 5000) == 0);
  });
  CHECK(time >= 80);
}

TEST_CASE("a wait with a timeout gives 507046 and the stream goes on") {
  session s;
  chunk a(256);
  CHECK(fake_configure("TASK_US", "150000") == 0);
  CHECK(run_abs(a.tensor, s.stream) == 0);
  CHECK(sync_within(s.stream, 5) == 507046);
  CHECK(sync_within(s.stream, -1) == 0);
}

TEST_CASE("a stream belongs to the context that made it") {
  session s("Ascend910B3", 2);
  chunk a(256);
  CHECK(set_device(1) == 0);
  CHECK(sync_stream(s.stream) == 107003);
  CHECK(copy_async(a.device_memory, 4, a.host_memory, 4, host_to_device, s.stream) == 107003);
  CHECK(run_abs(a.tensor, s.stream) == 107003);
  CHECK(destroy_stream(s.stream) == 107003);
  P there = nullptr;
  CHECK(create_stream(&there) == 0);
  CHECK(copy_async(a.device_memory, 4, a.host_memory, 4, host_to_device, there) == 507899);  // memory of device 0
  CHECK(set_device(0) == 0);
  CHECK(fake_violations() == 5);
  CHECK(sync_stream(s.stream) == 0);
}

TEST_CASE("a created context has streams of its own") {
  session s;
  P made = nullptr, now = nullptr, stream = nullptr;
  CHECK(call<int(P*, i32)>{"aclrtCreateContext"}(&made, 0) == 0);
  CHECK(call<int(P*)>{"aclrtGetCurrentContext"}(&now) == 0);
  CHECK(now == made);
  CHECK(sync_stream(s.stream) == 107003);
  CHECK(create_stream(&stream) == 0);
  CHECK(destroy_stream(stream) == 0);
  CHECK(call<int(P)>{"aclrtDestroyContext"}(made) == 0);
  CHECK(create_stream(&stream) == 107002);
  CHECK(set_device(0) == 0);
  CHECK(create_stream(&stream) == 0);
}

TEST_CASE("a stream is destroyed after a synchronization only") {
  session s;
  chunk a(256);
  P second = nullptr;
  CHECK(create_stream(&second) == 0);
  CHECK(run_abs(a.tensor, second) == 0);
  CHECK(destroy_stream(second) == 507899);
  CHECK(destroy_stream(second) == 107017);
  CHECK(fake_violations() == 2);
}

TEST_CASE("a device has so many streams") {
  session s("Ascend310B1");  // 512
  int code = 0, made = 0;
  for (P stream = nullptr; code == 0 && made < 600; ++made) code = create_stream(&stream);
  CHECK(code == 207008);
  CHECK(made < 513);
}

TEST_CASE("a failed task surfaces at the next synchronization; by default later tasks run") {
  session s;
  chunk a(256);
  static_cast<float*>(a.host_memory)[0] = -3;
  CHECK(fake_configure("FAIL", "task:1:507015") == 0);
  CHECK(run_abs(a.tensor, s.stream) == 0);
  CHECK(copy_async(a.device_memory, 1024, a.host_memory, 1024, host_to_device, s.stream) == 0);
  CHECK(sync_within(s.stream, 5000) == 507015);
  CHECK(std::string(message()).find("aclnnAbs failed on the device with 507015") != std::string::npos);
  CHECK(sync_within(s.stream, 5000) == 0);
  float first = 0;
  CHECK(copy(&first, 4, a.device_memory, 4, device_to_host) == 0);
  CHECK(first == -3);
}

TEST_CASE("with failure mode 1 the first error stays, and stops the context's other streams") {
  session s;
  chunk a(256), b(256);
  P second = nullptr;
  CHECK(create_stream(&second) == 0);
  CHECK(set_failure_mode(s.stream, 1) == 0);
  CHECK(set_failure_mode(s.stream, 1) == 107000);  // once
  CHECK(fake_configure("FAIL", "task:1:507015;task:2:507035") == 0);
  CHECK(run_abs(a.tensor, s.stream) == 0);
  CHECK(copy_async(a.device_memory, 1024, a.host_memory, 1024, host_to_device, s.stream) == 0);
  CHECK(sync_within(s.stream, 5000) == 507015);
  CHECK(sync_within(s.stream, 5000) == 507015);
  CHECK(run_abs(b.tensor, second) == 0);
  CHECK(sync_within(second, 5000) == 507015);
  CHECK(fake_calls("task") == 1);
}

TEST_CASE("two streams on the same memory need an event between them") {
  session s;
  chunk a(256);
  P second = nullptr, event = nullptr;
  CHECK(create_stream(&second) == 0);
  CHECK(create_event(&event, 1) == 0);
  CHECK(copy_async(a.device_memory, 1024, a.host_memory, 1024, host_to_device, s.stream) == 0);
  CHECK(run_abs(a.tensor, second) == 507899);
  CHECK(std::string(fake_report()).find("no event orders") != std::string::npos);
  CHECK(record(event, s.stream) == 0);
  CHECK(stream_wait(second, event) == 0);
  CHECK(run_abs(a.tensor, second) == 0);
  CHECK(sync_within(second, 5000) == 0);
  CHECK(fake_violations() == 1);
  CHECK(host_free(a.host_memory) == 0);  // the event proves the copy of the first stream done, too
  a.host_memory = nullptr;
  CHECK(host_malloc(&a.host_memory, 4) == 0);
  CHECK(destroy_stream(second) == 0);
  CHECK(destroy_event(event) == 0);
  CHECK(fake_violations() == 1);
}

TEST_CASE("a slot is free again when its event is synchronized or seen complete") {
  session s;
  chunk a(256);
  P event = nullptr;
  int complete = -1;
  const call<int(P, int*)> query{"aclrtQueryEventStatus"};
  CHECK(create_event(&event, 1) == 0);
  CHECK(query(event, &complete) == 0);
  CHECK(complete == 1);  // before the first record
  CHECK(sync_event(event) == 0);
  CHECK(fake_configure("TASK_US", "100000") == 0);
  CHECK(run_abs(a.tensor, s.stream) == 0);
  CHECK(record(event, s.stream) == 0);
  CHECK(query(event, &complete) == 0);
  CHECK(complete == 0);
  CHECK(sync_event(event) == 0);
  float first = 0;
  CHECK(copy(&first, 4, a.device_memory, 4, device_to_host) == 0);
  CHECK(run_abs(a.tensor, s.stream) == 0);
  CHECK(record(event, s.stream) == 0);  // again
  for (complete = 0; complete == 0;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(query(event, &complete) == 0);
  }
  CHECK(copy(&first, 4, a.device_memory, 4, device_to_host) == 0);
  CHECK(fake_violations() == 0);
  CHECK(destroy_event(event) == 0);
  CHECK(destroy_event(event) == 107017);
}

TEST_CASE("an event orders with flag 1 and measures time with flag 8") {
  session s;
  chunk a(256);
  P order = nullptr, from = nullptr, to = nullptr;
  float time = 0;
  const call<int(float*, P, P)> elapsed{"aclrtEventElapsedTime"};
  CHECK(create_event(&order, 1) == 0);
  CHECK(create_event(&from, 8) == 0);
  CHECK(create_event(&to, 8) == 0);
  CHECK(fake_configure("TASK_US", "20000") == 0);
  CHECK(record(from, s.stream) == 0);
  CHECK(run_abs(a.tensor, s.stream) == 0);
  CHECK(record(to, s.stream) == 0);
  CHECK(record(order, s.stream) == 0);
  CHECK(sync_within(s.stream, 5000) == 0);
  CHECK(elapsed(&time, from, to) == 0);
  CHECK(time >= 20.0f);
  CHECK(elapsed(&time, from, order) == 107000);
  CHECK(stream_wait(s.stream, from) == 107000);
}

TEST_CASE("many threads on many streams leave nothing behind") {
  session s("Ascend910B3", 2);
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t, &failures] {
      P stream = nullptr, memory = nullptr, pinned = nullptr;
      failures += set_device(t % 2) != 0;
      failures += create_stream(&stream) != 0;
      failures += device_malloc(&memory, 4096, 0) != 0;
      failures += host_malloc(&pinned, 4096) != 0;
      const i64 dims[] = {1024};
      for (int i = 0; i < 20; ++i) {
        static_cast<float*>(pinned)[i] = static_cast<float>(-t - i);
        P tensor = create_tensor(dims, 1, F32, nullptr, 0, 2, dims, 1, memory);
        failures += copy_async(memory, 4096, pinned, 4096, host_to_device, stream) != 0;
        failures += run_abs(tensor, stream) != 0;
        failures += destroy_tensor(tensor) != 0;
        failures += copy_async(pinned, 4096, memory, 4096, device_to_host, stream) != 0;
        failures += sync_within(stream, 10000) != 0;
        failures += static_cast<float*>(pinned)[i] != static_cast<float>(t + i);
      }
      failures += device_free(memory) != 0;
      failures += host_free(pinned) != 0;
      failures += destroy_stream(stream) != 0;
    });
  }
  for (auto& t : threads) t.join();
  CHECK(failures == 0);
  CHECK(std::string(fake_report()) == "leak: stream\n");  // the session's
}
