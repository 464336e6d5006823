// Loading, aclInit to aclFinalize, devices, messages, injected failures and the report. A program of its own (CMakeLists.txt); the guard
// keeps the file empty in a program that collects every *_test.cpp.
#if defined(QLIB_FAKE_ACL_SELF_TEST)
#include <sys/wait.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <thread>

#include "bindings.hpp"

using namespace fake_acl_test;

namespace {

struct export_line {
  std::string role, age, name;
};

std::vector<export_line> listed_exports() {
  std::vector<export_line> out;
  std::ifstream file(std::string(QLIB_FAKE_ACL_SOURCE_DIR) + "/exports.txt");
  for (std::string text; std::getline(file, text);) {
    std::istringstream line(text);
    export_line e;
    if (text.empty() || text[0] == '#') continue;
    line >> e.role >> e.age >> e.name;
    out.push_back(e);
  }
  return out;
}

void* open(const std::string& file) { return ::dlopen((std::string(QLIB_FAKE_ACL_DIR) + "/" + file).c_str(), RTLD_LAZY | RTLD_LOCAL); }

/// Runs in a child process that ends as programs do; the child's wait status.
template <class F>
int in_child(F run) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGABRT, SIG_DFL);  // not doctest's
    ::close(2);
    run();
    std::exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace

TEST_CASE("every function of the tables is exported by the library of its role") {
  const auto exports = listed_exports();
  CHECK(exports.size() > 100);
  void* const runtime = open("new/libacl_rt.so");
  void* const base = open("new/libnnopbase.so");
  void* const nn = open("new/libopapi_nn.so");
  void* const math = open("new/libopapi_math.so");
  void* const old_runtime = open("old/libascendcl.so");
  void* const old_base = open("old/libnnopbase.so");
  void* const old_ops = open("old/libopapi.so");
  for (const auto& e : exports) {
    INFO(e.name);
    void* const mine = e.role == "runtime" ? runtime : e.role == "tensor" ? base : e.role == "nn" ? nn : math;
    void* const old = e.role == "runtime" ? old_runtime : e.role == "tensor" ? old_base : old_ops;
    for (void* library : {runtime, base, nn, math}) CHECK((::dlsym(library, e.name.c_str()) != nullptr) == (library == mine));
    CHECK((::dlsym(old, e.name.c_str()) != nullptr) == (e.age == "any"));
  }
}

TEST_CASE("a stub library answers 100039 and null") {
  const variant stub{"stub"};
  CHECK(function<int(const char*)>("aclInit", stub)(nullptr) == 100039);
  CHECK(function<int(i32)>("aclrtSetDevice", stub)(0) == 100039);
  CHECK(function<const char*()>("aclrtGetSocName", stub)() == nullptr);
  CHECK(function<int(P, u64, P, P)>("aclnnMul", stub)(nullptr, 0, nullptr, nullptr) == 100039);
}

TEST_CASE("without a driver aclInit fails and says why") {
  const variant none{"no_driver"};
  CHECK(function<int(const char*)>("aclInit", none)(nullptr) == 500000);
  const auto text = function<const char*()>("aclGetRecentErrMsg", none);
  CHECK(std::string(text()).find("driver") != std::string::npos);
  CHECK(text() == nullptr);
}

TEST_CASE("a variant lacks the runtime, another one function") {
  CHECK(open("no_runtime/libnnopbase.so") != nullptr);
  CHECK(open("no_runtime/libacl_rt.so") == nullptr);
  const variant hole{"missing_symbol"};
  CHECK(hole.find("aclrtMemcpyAsync") == nullptr);
  CHECK(hole.find("aclrtMemcpy") != nullptr);
  CHECK(hole.find("aclnnMulGetWorkspaceSize") != nullptr);
}

TEST_CASE("the old umbrella works through its few functions") {
  fake_reset();
  const variant old{"old"};
  P stream = nullptr, memory = nullptr, executor = nullptr;
  u64 workspace = 0;
  float x[8] = {-1, 2, -3, 4, -5, 6, -7, 8};
  const i64 dims[] = {8};
  CHECK(function<int(const char*)>("aclInit", old)(nullptr) == 0);
  CHECK(function<int(i32)>("aclrtSetDevice", old)(0) == 0);
  CHECK(function<int(P*)>("aclrtCreateStream", old)(&stream) == 0);
  CHECK(function<int(P*, size_t, int)>("aclrtMalloc", old)(&memory, 32, 0) == 0);
  CHECK(function<int(P, size_t, const void*, size_t, int)>("aclrtMemcpy", old)(memory, 32, x, 32, host_to_device) == 0);
  P tensor = function<P(const i64*, u64, int, const i64*, i64, int, const i64*, u64, P)>("aclCreateTensor", old)(dims, 1, F32, nullptr, 0, 2, dims, 1,
                                                                                                                 memory);
  CHECK(function<int(P, P, u64*, P*)>("aclnnAbsGetWorkspaceSize", old)(tensor, tensor, &workspace, &executor) == 0);
  CHECK(function<int(P, u64, P, P)>("aclnnAbs", old)(nullptr, 0, executor, stream) == 0);
  CHECK(function<int(P)>("aclrtSynchronizeStream", old)(stream) == 0);
  CHECK(function<int(P, size_t, const void*, size_t, int)>("aclrtMemcpy", old)(x, 32, memory, 32, device_to_host) == 0);
  CHECK(x[6] == 7);
  CHECK(function<u64()>("qlib_fake_acl_violations", old)() == 0);
  fake_reset();
}

TEST_CASE("aclInit counts: 100002 and one more the second time") {
  fake_reset();
  CHECK(init(nullptr) == 0);
  CHECK(init(nullptr) == 100002);
  u64 left = 9;
  CHECK(finalize_reference(&left) == 0);
  CHECK(left == 1);
  CHECK(finalize_reference(&left) == 0);
  CHECK(left == 0);
  CHECK(finalize_reference(&left) == 100037);
  CHECK(set_device(0) == 100001);
  fake_reset();
}

TEST_CASE("aclFinalize takes every reference at once") {
  fake_reset();
  CHECK(init(nullptr) == 0);
  CHECK(init(nullptr) == 100002);
  CHECK(finalize() == 0);
  CHECK(finalize() == 100037);
  u32 count = 0;
  CHECK(device_count(&count) == 100001);
  CHECK(fake_violations() == 1);
  fake_reset();
}

TEST_CASE("ASCEND_RT_VISIBLE_DEVICES restricts the devices, up to the first that does not exist") {
  fake_reset();
  CHECK(fake_configure("DEVICES", "4") == 0);
  ::setenv("ASCEND_RT_VISIBLE_DEVICES", "3,1,7,0", 1);
  u32 count = 0;
  CHECK(init(nullptr) == 0);
  CHECK(device_count(&count) == 0);
  CHECK(count == 2);
  CHECK(set_device(2) == 107001);
  ::unsetenv("ASCEND_RT_VISIBLE_DEVICES");
  fake_reset();
}

TEST_CASE("the environment is read at aclInit") {
  fake_reset();
  ::setenv("QLIB_FAKE_ACL_SOC", "Ascend310P1", 1);
  ::setenv("QLIB_FAKE_ACL_FAIL", "aclInit:1:500000", 1);
  CHECK(init(nullptr) == 500000);
  CHECK(std::string(message()) == "E500000: aclInit: injected failure");
  CHECK(init(nullptr) == 0);
  CHECK(std::string(call<const char*()>{"aclrtGetSocName"}()) == "Ascend310P1");
  ::unsetenv("QLIB_FAKE_ACL_SOC");
  ::unsetenv("QLIB_FAKE_ACL_FAIL");
  ::setenv("QLIB_FAKE_ACL_MEMORY", "12 GB", 1);
  fake_reset();
  CHECK(init(nullptr) == 500000);
  ::unsetenv("QLIB_FAKE_ACL_MEMORY");
  fake_reset();
  CHECK(fake_configure("MEMMORY", "1") == 107000);
  CHECK(fake_configure("FAIL", "aclrtMalloc:0:1") == 107000);
}

TEST_CASE("each thread sets its device, and has its own message, given once") {
  session s;
  P memory = nullptr;
  int without = 0, with = 0;
  std::string text;
  std::thread([&] {
    without = device_malloc(&memory, 64, 0);
    if (const char* m = message()) text = m;
    set_device(0);
    with = device_malloc(&memory, 64, 0);
  }).join();
  CHECK(without == 107002);
  CHECK(text.find("aclrtSetDevice") != std::string::npos);
  CHECK(with == 0);
  CHECK(message() == nullptr);
  CHECK(device_malloc(&memory, 0, 0) == 107000);
  CHECK(message() != nullptr);
  CHECK(message() == nullptr);
  CHECK(call<int(int)>{"aclrtPeekAtLastError"}(0) == 107000);
  CHECK(call<int(int)>{"aclrtGetLastError"}(0) == 107000);
  CHECK(call<int(int)>{"aclrtGetLastError"}(0) == 0);
}

TEST_CASE("a device is reset with its last thread; what is left is a violation") {
  session s;
  CHECK(set_device(0) == 0);  // again: still one reference of this thread
  int other = -1;
  std::thread([&] {
    set_device(0);
    other = reset_device(0);
  }).join();
  CHECK(other == 0);
  CHECK(sync_stream(s.stream) == 0);
  CHECK(fake_violations() == 0);
  CHECK(reset_device(0) == 507899);
  CHECK(std::string(fake_report()).find("stream is alive") != std::string::npos);
  CHECK(sync_stream(s.stream) == 107002);
  CHECK(reset_device(0) == 107001);
}

TEST_CASE("a thread that sets its device again after a reset holds it again") {
  fake_reset();
  CHECK(init(nullptr) == 0);
  std::thread([] { set_device(0); }).join();  // holds it for good
  for (int i = 0; i < 2; ++i) {
    CHECK(set_device(0) == 0);
    CHECK(reset_device(0) == 0);
  }
  CHECK(reset_device(0) == 0);  // the other thread's
  CHECK(reset_device(0) == 107001);
  fake_reset();
}

TEST_CASE("the SoC's properties come from its name") {
  const auto value_on = [](const char* soc, int attribute) {
    session s(soc);
    i64 value = -1;
    const int code = call<int(u32, int, i64*)>{"aclrtGetDeviceInfo"}(0, attribute, &value);
    return code == 0 ? value : -code;
  };
  CHECK(value_on("Ascend910B3", 601) == 2201);
  CHECK(value_on("Ascend310P3", 601) == 2002);
  CHECK(value_on("Ascend910B", 601) == 1001);
  CHECK(value_on("Ascend910_9391", 201) == 48);
  CHECK(value_on("Ascend910B4", 204) == 196608);
  CHECK(value_on("Ascend910B0", 601) == -207000);
  CHECK(value_on("AscendSomethingNew", 601) == -207000);
  session s("Ascend310P3");
  int32_t has = -1;
  CHECK(call<int(int, int32_t*)>{"aclGetCannAttribute"}(1, &has) == 0);
  CHECK(has == 0);
}

TEST_CASE("memory is HBM on A2 and DDR on 310P") {
  const auto total_on = [](const char* soc, int attribute) {
    session s(soc);
    REQUIRE(fake_configure("MEMORY", "1000000") == 0);
    size_t available = 1, total = 1;
    REQUIRE(call<int(int, size_t*, size_t*)>{"aclrtGetMemInfo"}(attribute, &available, &total) == 0);
    REQUIRE(available == total);
    return total;
  };
  CHECK(total_on("Ascend910B3", 1) == 1000000);
  CHECK(total_on("Ascend910B3", 0) == 0);
  CHECK(total_on("Ascend310P3", 0) == 1000000);
  CHECK(total_on("Ascend310P3", 1) == 1000000);
}

TEST_CASE("a chosen call fails with a chosen code, by name or by its place among all") {
  session s;
  P memory = nullptr;
  CHECK(fake_configure("FAIL", "aclrtMalloc:2:207001;aclCreateTensor:1:1") == 0);
  CHECK(device_malloc(&memory, 64, 0) == 0);
  P second = memory;
  CHECK(device_malloc(&memory, 64, 0) == 207001);
  CHECK(memory == second);
  const i64 dims[] = {1};
  CHECK(create_tensor(dims, 1, F32, nullptr, 0, 2, dims, 1, memory) == nullptr);
  CHECK(fake_fired() == 2);
  CHECK(fake_configure("FAIL", "*:2:507899") == 0);
  CHECK(device_malloc(&memory, 64, 0) == 0);
  CHECK(device_malloc(&memory, 64, 0) == 507899);
  CHECK(fake_fired() == 1);
  CHECK(fake_violations() == 0);
}

TEST_CASE("a failing release releases, a failing phase 2 consumes") {
  session s;
  array x(std::vector<float>(8, 1), F32, {8});
  P memory = nullptr;
  CHECK(device_malloc(&memory, 64, 0) == 0);
  const u64 before = fake_leaks();
  CHECK(fake_configure("FAIL", "aclrtFree:1:507899;aclnnAbs:1:561000") == 0);
  CHECK(device_free(memory) == 507899);
  CHECK(fake_leaks() == before - 1);
  u64 workspace = 0;
  P executor = nullptr;
  CHECK(abs_.plan(workspace, executor, x.tensor, x.tensor) == 0);
  CHECK(fake_leaks() == before);
  CHECK(abs_.launch(nullptr, 0, executor, s.stream) == 561000);
  CHECK(fake_leaks() == before - 1);
  CHECK(fake_violations() == 0);
}

TEST_CASE("the report names violations and everything alive") {
  session s;
  P memory = nullptr, pinned = nullptr, event = nullptr;
  CHECK(std::string(fake_report()) == "leak: stream\n");
  CHECK(device_malloc(&memory, 100, 0) == 0);
  CHECK(host_malloc(&pinned, 200) == 0);
  CHECK(create_event(&event, 1) == 0);
  const i64 dims[] = {2, 3};
  P tensor = create_tensor(dims, 2, F16, nullptr, 0, 2, dims, 2, memory);
  const std::string text = fake_report();
  for (const char* part :
       {"leak: 100 bytes of memory of device 0", "leak: 200 bytes of pinned memory", "leak: event", "leak: tensor [2, 3] of dtype 1"}) {
    INFO(part);
    CHECK(text.find(part) != std::string::npos);
  }
  CHECK(fake_leaks() == 5);
  CHECK(destroy_tensor(tensor) == 0);
  CHECK(destroy_tensor(tensor) == 507899);
  CHECK(std::string(fake_report()).find("violation: destroyed twice") != std::string::npos);
}

TEST_CASE("a violation aborts if it is asked to, and the report goes to a file at the end") {
  session s;
  CHECK(fake_configure("ABORT", "1") == 0);
  const int status = in_child([] { device_free(nullptr); });
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGABRT);
  const std::string file = std::string(QLIB_FAKE_ACL_DIR) + "/report." + std::to_string(::getpid());
  CHECK(fake_configure("ABORT", nullptr) == 0);
  CHECK(fake_configure("REPORT", file.c_str()) == 0);
  CHECK(in_child([] { device_free(nullptr); }) == 0);
  std::ifstream report(file);
  std::stringstream text;
  text << report.rdbuf();
  ::unlink(file.c_str());
  CHECK(text.str().find("violation: free of a null pointer") != std::string::npos);
  CHECK(text.str().find("leak: stream") != std::string::npos);
  fake_configure("REPORT", nullptr);
}

TEST_CASE("a lost device answers 507010 to every call from its n-th task on, and gives everything back") {
  session s("Ascend910B3", 2);
  array x(std::vector<float>(8, 1), F32, {8});
  CHECK(fake_configure("LOST", "0:3") == 0);
  P other = nullptr;
  for (int i = 0; i < 4; ++i) {
    u64 workspace = 0;
    P executor = nullptr;
    CHECK(abs_.plan(workspace, executor, x.tensor, x.tensor) == 0);
    const int code = abs_.launch(nullptr, 0, executor, s.stream);
    CHECK((code == 0 || code == 507010));
  }
  CHECK(sync_within(s.stream, 5000) == 507010);
  CHECK(x.memory != nullptr);
  P memory = nullptr;
  CHECK(device_malloc(&memory, 64, 0) == 507010);
  CHECK(std::string(message()).find("device 0 is lost") != std::string::npos);
  CHECK(destroy_stream(s.stream) == 507010);
  CHECK(set_device(1) == 0);
  CHECK(create_stream(&other) == 0);
  CHECK(device_malloc(&memory, 64, 0) == 0);
  CHECK(device_free(memory) == 0);
  CHECK(destroy_stream(other) == 0);
  CHECK(set_device(0) == 507010);
  CHECK(device_free(x.memory) == 507010);
  CHECK(fake_violations() == 0);
  CHECK(std::string(fake_report()).find("memory") == std::string::npos);
  fake_configure("LOST", nullptr);
}
#endif
