// Device memory, pinned memory, copies.
#include <sys/wait.h>

#include <csignal>

#include "bindings.hpp"

using namespace fake_acl_test;

TEST_CASE("the host dies when it touches device memory") {
  session s;
  P memory = nullptr;
  CHECK(device_malloc(&memory, 64, 0) == 0);
  const auto signal_of = [&](bool write) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::signal(SIGSEGV, SIG_DFL);
      auto* const byte = static_cast<volatile char*>(memory);
      if (write) {
        *byte = 1;
      } else {
        (void)*byte;
      }
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  };
  CHECK(signal_of(false) == SIGSEGV);
  CHECK(signal_of(true) == SIGSEGV);
  CHECK(device_free(memory) == 0);
}

TEST_CASE("fresh memory is 0xCD, aligned to 64 bytes and no more") {
  session s;
  P memory = nullptr, pinned = nullptr;
  CHECK(device_malloc(&memory, 5000, 0) == 0);
  CHECK(host_malloc(&pinned, 100) == 0);
  CHECK(reinterpret_cast<uintptr_t>(memory) % 128 == 64);
  CHECK(reinterpret_cast<uintptr_t>(pinned) % 64 == 0);
  std::vector<uint8_t> bytes(5000, 0);
  CHECK(copy(bytes.data(), 5000, memory, 5000, device_to_host) == 0);
  CHECK(bytes == std::vector<uint8_t>(5000, 0xCD));
  CHECK(static_cast<uint8_t*>(pinned)[99] == 0xCD);
}

TEST_CASE("no bytes, null and foreign pointers are refused") {
  session s;
  P memory = nullptr, pinned = nullptr;
  int local = 0;
  CHECK(device_malloc(&memory, 0, 0) == 107000);
  CHECK(device_malloc(&memory, 64, 9) == 107000);
  CHECK(device_free(nullptr) == 107000);
  CHECK(device_free(&local) == 107000);
  CHECK(host_free(nullptr) == 107000);
  CHECK(device_malloc(&memory, 64, 0) == 0);
  CHECK(host_malloc(&pinned, 64) == 0);
  CHECK(device_free(static_cast<char*>(memory) + 1) == 107000);
  CHECK(device_free(pinned) == 107000);
  CHECK(host_free(memory) == 107000);
  CHECK(device_free(memory) == 0);
  CHECK(device_free(memory) == 107000);
  CHECK(fake_violations() == 9);
}

TEST_CASE("a device holds what MEMORY says, 32 bytes more an allocation counted") {
  session s;
  CHECK(fake_configure("MEMORY", "1024") == 0);
  P a = nullptr, b = nullptr;
  CHECK(device_malloc(&a, 1024, 0) == 207001);
  CHECK(device_malloc(&a, 992, 0) == 0);
  CHECK(device_malloc(&b, 1, 0) == 207001);
  CHECK(std::string(message()).find("0 left") != std::string::npos);
  CHECK(device_free(a) == 0);
  CHECK(call<int(P*, size_t, int)>{"aclrtMallocAlign32"}(&a, 1024, 0) == 0);
  CHECK(device_free(a) == 0);
  CHECK(fake_violations() == 0);
}

TEST_CASE("copies check their kind, their room and their ends") {
  session s;
  P memory = nullptr, other = nullptr, pinned = nullptr;
  std::vector<char> bytes(128, 'x');
  CHECK(device_malloc(&memory, 64, 0) == 0);
  CHECK(device_malloc(&other, 64, 0) == 0);
  CHECK(host_malloc(&pinned, 64) == 0);
  CHECK(copy(memory, 64, bytes.data(), 64, host_to_device) == 0);
  CHECK(copy(other, 64, memory, 64, device_to_device) == 0);
  CHECK(copy(other, 64, memory, 64, 4) == 0);  // by the pointers
  CHECK(copy_async(pinned, 64, other, 64, device_to_host, s.stream) == 0);
  CHECK(sync_stream(s.stream) == 0);
  CHECK(std::string(static_cast<char*>(pinned), 64) == std::string(64, 'x'));
  CHECK(fake_violations() == 0);
  CHECK(copy(memory, 64, bytes.data(), 64, device_to_host) == 107000);
  CHECK(copy(memory, 32, bytes.data(), 64, host_to_device) == 107000);
  CHECK(copy(memory, 128, bytes.data(), 128, host_to_device) == 107000);
  CHECK(copy(static_cast<char*>(memory) + 60, 8, bytes.data(), 8, host_to_device) == 107000);
  CHECK(copy(nullptr, 8, bytes.data(), 8, host_to_device) == 107000);
  CHECK(copy_async(memory, 64, bytes.data(), 64, device_to_device, s.stream) == 107000);
  CHECK(fake_violations() == 6);
  CHECK(copy_async(pinned, 64, bytes.data(), 64, 0, s.stream) == 207000);  // host to host
  CHECK(device_free(other) == 0);
  CHECK(copy(other, 64, bytes.data(), 64, host_to_device) == 107000);
  CHECK(std::string(fake_report()).find("was freed") != std::string::npos);
}

TEST_CASE("memset takes device memory and pinned memory, not pageable memory") {
  session s;
  const call<int(P, size_t, i32, size_t)> set{"aclrtMemset"};
  const call<int(P, size_t, i32, size_t, P)> set_async{"aclrtMemsetAsync"};
  array x(std::vector<uint8_t>(64, 1), 4, {64});
  P pinned = nullptr;
  char local[8];
  CHECK(host_malloc(&pinned, 8) == 0);
  CHECK(set(x.memory, 64, 7, 32) == 0);
  CHECK(x.read<uint8_t>()[31] == 7);
  CHECK(x.read<uint8_t>()[32] == 1);
  CHECK(set_async(x.memory, 64, 9, 64, s.stream) == 0);
  CHECK(sync_stream(s.stream) == 0);
  CHECK(x.read<uint8_t>()[63] == 9);
  CHECK(set(pinned, 8, 3, 8) == 0);
  CHECK(static_cast<char*>(pinned)[7] == 3);
  CHECK(set(local, 8, 3, 8) == 107000);
  CHECK(set(pinned, 8, 3, 9) == 107000);
}

TEST_CASE("freeing memory that a queued task uses is a violation until a synchronization proves it done") {
  session s;
  P memory = nullptr, pinned = nullptr, again = nullptr;
  CHECK(device_malloc(&memory, 64, 0) == 0);
  CHECK(host_malloc(&pinned, 64) == 0);
  CHECK(device_malloc(&again, 64, 0) == 0);
  CHECK(copy_async(memory, 64, pinned, 64, host_to_device, s.stream) == 0);
  CHECK(device_free(memory) == 507899);
  CHECK(host_free(pinned) == 507899);
  CHECK(fake_violations() == 2);
  CHECK(std::string(fake_report()).find("aclrtMemcpyAsync may still use it") != std::string::npos);
  CHECK(host_malloc(&pinned, 64) == 0);
  CHECK(copy_async(again, 64, pinned, 64, host_to_device, s.stream) == 0);
  CHECK(sync_within(s.stream, 5000) == 0);
  CHECK(device_free(again) == 0);
  CHECK(host_free(pinned) == 0);
  CHECK(device_malloc(&again, 64, 0) == 0);
  CHECK(call<int(P, size_t, i32, size_t, P)>{"aclrtMemsetAsync"}(again, 64, 1, 64, s.stream) == 0);
  CHECK(call<int(P)>{"aclrtFreeWithDevSync"}(again) == 0);
  CHECK(fake_violations() == 2);
}

TEST_CASE("a copy from pageable memory returns when it is done, from pinned memory before") {
  session s;
  CHECK(fake_configure("COPY_NS_PER_KIB", "100000000") == 0);  // 100 ms a KiB
  P memory = nullptr, pinned = nullptr;
  std::vector<char> pageable(1024, 'p');
  CHECK(device_malloc(&memory, 1024, 0) == 0);
  CHECK(host_malloc(&pinned, 1024) == 0);
  std::memset(pinned, 'a', 1024);
  CHECK(copy_async(memory, 1024, pageable.data(), 1024, host_to_device, s.stream) == 0);
  CHECK(sync_within(s.stream, 0) == 0);  // nothing is left to wait for
  CHECK(copy_async(memory, 1024, pinned, 1024, host_to_device, s.stream) == 0);
  CHECK(sync_within(s.stream, 0) == 507046);
#if !defined(__SANITIZE_THREAD__)
  std::memset(pinned, 'b', 1024);  // staging reused too early: the device gets the new bytes (and ThreadSanitizer sees a race)
  CHECK(sync_within(s.stream, 5000) == 0);
  CHECK(copy(pageable.data(), 1024, memory, 1024, device_to_host) == 0);
  CHECK(pageable[0] == 'b');
#endif
  CHECK(sync_within(s.stream, 5000) == 0);
}

TEST_CASE("aclrtMemcpy does not wait for streams") {
  session s;
  array x(std::vector<float>(8, 1), F32, {8});
  u64 workspace = 0;
  P executor = nullptr;
  float result[8];
  CHECK(abs_.plan(workspace, executor, x.tensor, x.tensor) == 0);
  CHECK(abs_.launch(nullptr, 0, executor, s.stream) == 0);
  CHECK(copy(result, 32, x.memory, 32, device_to_host) == 507899);
  CHECK(std::string(fake_report()).find("does not wait for streams") != std::string::npos);
  CHECK(sync_within(s.stream, 5000) == 0);
  CHECK(copy(result, 32, x.memory, 32, device_to_host) == 0);
  CHECK(fake_violations() == 1);
}

TEST_CASE("peer copies want peer access, one direction at a time") {
  session s("Ascend910B3", 2);
  P here = nullptr, there = nullptr;
  CHECK(device_malloc(&here, 64, 0) == 0);
  CHECK(set_device(1) == 0);
  CHECK(device_malloc(&there, 64, 0) == 0);
  CHECK(set_device(0) == 0);
  i32 can = 0;
  CHECK(call<int(i32*, i32, i32)>{"aclrtDeviceCanAccessPeer"}(&can, 0, 1) == 0);
  CHECK(can == 1);
  CHECK(copy_async(here, 64, there, 64, device_to_device, s.stream) == 507899);
  CHECK(call<int(i32, u32)>{"aclrtDeviceEnablePeerAccess"}(1, 0) == 0);
  CHECK(copy_async(here, 64, there, 64, device_to_device, s.stream) == 0);
  CHECK(sync_within(s.stream, 5000) == 0);
}
