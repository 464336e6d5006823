// The objects of the adapter: they free what they hold, in any order of failures, and on any thread.
#include "ascend_fake.hpp"

#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/event.hpp>
#include <qlib/backend/ascend/op_call.hpp>

#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace qlib;
using namespace qlib::ascend;
using ascend_test::fake;

/// A loaded library and an open device.
struct opened {
  std::shared_ptr<library> lib;
  device dev;

  explicit opened(const fake& f, int id = 0) : lib{f.load()} {
    const failure failed = dev.open(*lib, id);
    REQUIRE_MESSAGE(!failed, failed.line());
  }
  ~opened() {
    dev.close();
    CHECK(lib->shutdown());
  }
};

/// x * y by the device, element by element; all four arrays have n floats.
failure multiply(const device& d, const stream& s, workspace& space, void* x, void* y, void* out, std::int64_t n) {
  const tensor a{d, x, type_float, {n}}, b{d, y, type_float, {n}}, c{d, out, type_float, {n}};
  op_call call{space, "aclnnMul"};
  if (failure f = call.plan(d.api().aclnnMulGetWorkspaceSize(a.handle(), b.handle(), c.handle(), call.bytes(), call.executor()))) return f;
  return call.launch(d.api().aclnnMul, s);
}

}  // namespace

TEST_CASE("Ascend objects: copies and an op run in the order they were queued, and are done after a synchronization") {
  fake f{{{"TASK_US", "2000"}}};
  opened o{f};
  stream s;
  REQUIRE(!s.open(o.dev));
  workspace space{o.dev};
  constexpr std::size_t n = 100, bytes = n * sizeof(float);
  buffer pinned, on_device;
  layout places;
  const std::size_t x = places.add(bytes), y = places.add(bytes), z = places.add(bytes);
  CHECK(x % 64 == 0);
  CHECK(y % 64 == 0);
  CHECK(y >= x + bytes + 32);
  REQUIRE(!pinned.allocate(o.dev, memory_place::pinned, places.bytes()));
  REQUIRE(!on_device.allocate(o.dev, memory_place::device, places.bytes()));
  auto* host = reinterpret_cast<float*>(pinned.data());
  for (std::size_t i = 0; i < n; ++i) host[i] = static_cast<float>(i), host[y / 4 + i] = 0.5f;
  CHECK(!s.upload(on_device.data(), pinned.data(), places.bytes()));
  CHECK(!multiply(o.dev, s, space, on_device.data() + x, on_device.data() + y, on_device.data() + z, n));
  CHECK(!s.download(pinned.data() + z, on_device.data() + z, bytes));
  CHECK(!s.synchronize(10'000));
  for (std::size_t i = 0; i < n; ++i) REQUIRE(host[z / 4 + i] == static_cast<float>(i) * 0.5f);
}

TEST_CASE("Ascend objects: memory is freed once, when its last owner goes") {
  fake f;
  opened o{f};
  buffer a;
  REQUIRE(!a.allocate(o.dev, memory_place::device, 1000));
  CHECK(a.size() == 1000);
  buffer b = std::move(a);
  CHECK(a.data() == nullptr);  // NOLINT: a moved-from buffer holds nothing
  REQUIRE(!a.allocate(o.dev, memory_place::pinned, 10));
  std::memset(a.data(), 1, a.size());
  b = std::move(a);
  CHECK(b.size() == 10);
  CHECK(!b.allocate(o.dev, memory_place::device, 0));
  CHECK(b.data() == nullptr);
  CHECK(f.calls("aclrtFree") == 1);
  CHECK(f.calls("aclrtFreeHost") == 1);
}

TEST_CASE("Ascend objects: a refused allocation holds nothing and says why") {
  fake f{{{"MEMORY", "100000"}}};
  opened o{f};
  buffer b;
  const failure failed = b.allocate(o.dev, memory_place::device, 1'000'000);
  REQUIRE(failed);
  CHECK(failed.kind == failure_class::out_of_memory);
  CHECK(failed.code == 207001);
  CHECK(failed.text.find("aclrtMalloc: ") == 0);
  CHECK(b.data() == nullptr);
}

TEST_CASE("Ascend objects: a plan that is not launched frees its executor, and a launch that fails has none left") {
  for (const char* fault : {"", "aclnnMul:1:561003", "aclnnMul:1:507015", "aclrtMalloc:2:207001"}) {
    CAPTURE(std::string{fault});
    fake f;
    if (*fault) f.set("FAIL", fault);
    opened o{f};
    stream s;
    REQUIRE(!s.open(o.dev));
    workspace space{o.dev};
    buffer memory;
    REQUIRE(!memory.allocate(o.dev, memory_place::device, 4096));
    {
      const tensor a{o.dev, memory.data(), type_float, {16}}, b{o.dev, memory.data() + 1024, type_float, {16}};
      op_call call{space, "aclnnMul"};
      CHECK(!call.plan(o.dev.api().aclnnMulGetWorkspaceSize(a.handle(), a.handle(), b.handle(), call.bytes(), call.executor())));
    }
    const failure failed = multiply(o.dev, s, space, memory.data(), memory.data() + 1024, memory.data() + 2048, 16);
    if (std::strstr(fault, "aclnnMul")) CHECK(failed);
    static_cast<void>(s.synchronize(1000));
  }
}

TEST_CASE("Ascend objects: a workspace that grows keeps the memory that queued ops use") {
  fake f{{{"TASK_US", "3000"}}};
  opened o{f};
  workspace space{o.dev};
  void *first = nullptr, *second = nullptr, *none = nullptr;
  CHECK(!space.reserve(0, none));
  CHECK(none == nullptr);
  REQUIRE(!space.reserve(1000, first));
  REQUIRE(!space.reserve(500, second));
  CHECK(first == second);
  REQUIRE(!space.reserve(5000, second));
  CHECK(first != second);
  CHECK(f.calls("aclrtFree") == 0);
  space.synchronized();
  CHECK(f.calls("aclrtFree") == 1);
}

TEST_CASE("Ascend objects: events order streams, and time what lies between them") {
  fake f{{{"TASK_US", "5000"}}};
  opened o{f};
  stream a, b;
  REQUIRE(!a.open(o.dev));
  REQUIRE(!b.open(o.dev));
  event begin, end;
  REQUIRE(!begin.open(o.dev));
  REQUIRE(!end.open(o.dev));
  buffer pinned, memory;
  REQUIRE(!pinned.allocate(o.dev, memory_place::pinned, 128));
  REQUIRE(!memory.allocate(o.dev, memory_place::device, 128));
  std::memset(pinned.data(), 7, 64);
  CHECK(!begin.record(a));
  CHECK(!a.upload(memory.data(), pinned.data(), 64));
  CHECK(!end.record(a));
  CHECK(!end.make_wait(b));
  CHECK(!b.download(pinned.data() + 64, memory.data(), 64));
  CHECK(!b.synchronize(10'000));
  CHECK(std::memcmp(pinned.data(), pinned.data() + 64, 64) == 0);
  CHECK(!end.synchronize());
  float milliseconds = 0;
  CHECK(!begin.milliseconds_until(end, milliseconds));
  CHECK(milliseconds >= 4.0f);
  CHECK(!a.synchronize(10'000));
}

TEST_CASE("Ascend objects: any thread may use and free what another opened, one after the other") {
  fake f{{{"DEVICES", "2"}}};
  opened o{f, 1};
  auto memory = std::make_unique<buffer>();
  REQUIRE(!memory->allocate(o.dev, memory_place::device, 100));
  bool good = false;
  std::thread{[&] {
    const device_scope scope{o.dev};
    stream s;
    good = !scope.error() && !s.open(o.dev) && !s.synchronize(1000);
    s.close();
    memory.reset();
  }}.join();
  CHECK(good);
}

namespace {

/// Another library of the process, with a context of its own that is selected on this thread.
struct other_library {
  const functions& api;
  void* context = nullptr;

  explicit other_library(const library& lib) : api{lib.api()} { REQUIRE(api.aclrtCreateContext(&context, 0) == 0); }
  ~other_library() { CHECK(api.aclrtDestroyContext(context) == 0); }

  bool is_selected() const {
    void* now = nullptr;
    return api.aclrtGetCurrentContext(&now) == 0 && now == context;
  }
  bool works() const {
    void* memory = nullptr;
    return api.aclrtMalloc(&memory, 64, malloc_huge_first) == 0 && api.aclrtFree(memory) == 0;
  }
};

}  // namespace

TEST_CASE("Ascend objects: a thread that had another library's device selected keeps it, from the first lane that opens to the last that goes") {
  fake f{{{"DEVICES", "2"}}};
  const auto lib = f.load();
  {
    const other_library theirs{*lib};
    {
      const auto lanes = open_lanes(lib, {1}, 2);
      REQUIRE(lanes);
      CHECK(theirs.is_selected());
      std::vector<float> x(64, 1.0f);
      for (const ascend_backend& lane : *lanes) {
        std::vector<float> top(8);
        lane.column_absmax(matrix_view<const float>{x.data(), 8, 8}, std::span{top});
        CHECK(top.front() == 1.0f);
        CHECK(theirs.is_selected());
      }
    }
    CHECK(theirs.is_selected());
    CHECK(theirs.works());
  }
  CHECK(lib->shutdown());
}

TEST_CASE("Ascend objects: whatever fails while lanes open, another library keeps its device") {
  for (const char* fault : {"aclrtCreateContext:2:507033", "aclrtCreateContext:2:107002", "aclrtSetCurrentContext:1:107017",
                            "aclrtCreateStream:1:207008", "aclrtSetStreamFailureMode:1:107003"}) {
    CAPTURE(std::string{fault});
    fake f{{{"FAIL", fault}}};
    const auto lib = f.load();
    {
      const other_library theirs{*lib};
      { const auto lanes = open_lanes(lib, {0}, 2); }
      CHECK(theirs.is_selected());
      CHECK(theirs.works());
    }
    CHECK(lib->shutdown());
  }
}

TEST_CASE("Ascend objects: a context is a device's own as long as that is open, and no longer") {
  fake f;
  opened o{f};
  void *ours = nullptr, *theirs = nullptr;
  REQUIRE(o.lib->api().aclrtGetCurrentContext(&ours) == 0);  // selected where nobody else's was
  CHECK(device::owns(ours));
  CHECK(!device::owns(&ours));
  {
    device second;
    REQUIRE(!second.open(*o.lib, 0));
    REQUIRE(o.lib->api().aclrtGetCurrentContext(&theirs) == 0);
    CHECK(device::owns(theirs));
  }
  CHECK(!device::owns(theirs));  // its address may be another library's next
  CHECK(device::owns(ours));
  o.dev.close();
  CHECK(!device::owns(ours));
}
