// Tensors, executors, and the fault loop over a whole round trip.
#include "bindings.hpp"

using namespace fake_acl_test;

namespace {

const call<int(P)> make_repeatable{"aclSetAclOpExecutorRepeatable"};
const call<int(P)> destroy_executor{"aclDestroyAclOpExecutor"};

P tensor_at(P memory, i64 floats) {
  const i64 dims[] = {floats};
  return create_tensor(dims, 1, F32, nullptr, 0, 2, dims, 1, memory);
}

bool reports(const char* part) { return std::string(fake_report()).find(part) != std::string::npos; }

}  // namespace

TEST_CASE("creating a tensor validates nothing but null dimensions") {
  session s;
  const i64 dims[] = {2};
  CHECK(create_tensor(nullptr, 1, F32, nullptr, 0, 2, dims, 1, nullptr) == nullptr);
  P odd = create_tensor(dims, 1, 99, nullptr, 0, 2, dims, 1, nullptr);
  CHECK(odd != nullptr);
  array x(std::vector<float>(8, 1), F32, {2});
  CHECK(abs_.run(s.stream, odd, x.tensor) == 161002);
  CHECK(destroy_tensor(odd) == 0);
  CHECK(destroy_tensor(nullptr) == 0);
}

TEST_CASE("a list owns its tensors") {
  session s;
  array x(std::vector<float>(8, 1), F32, {8});
  P tensors[] = {tensor_at(x.memory, 2), tensor_at(x.memory, 4)};
  P list = call<P(P const*, u64)>{"aclCreateTensorList"}(tensors, 2);
  const u64 before = fake_leaks();
  CHECK(call<int(const void*)>{"aclDestroyTensorList"}(list) == 0);
  CHECK(fake_leaks() == before - 3);
  CHECK(destroy_tensor(tensors[0]) == 507899);
  CHECK(reports("destroyed twice"));
}

TEST_CASE("phase 2 consumes an executor; a second use, another op and a dead tensor are violations") {
  session s;
  array x(std::vector<float>(8, -1), F32, {8});
  u64 workspace = 0;
  P executor = nullptr;
  CHECK(abs_.plan(workspace, executor, x.tensor, x.tensor) == 0);
  CHECK(abs_.launch(nullptr, 0, executor, s.stream) == 0);
  CHECK(abs_.launch(nullptr, 0, executor, s.stream) == 507899);
  CHECK(destroy_executor(executor) == 507899);
  CHECK(abs_.plan(workspace, executor, x.tensor, x.tensor) == 0);
  CHECK(round_.launch(nullptr, 0, executor, s.stream) == 507899);
  CHECK(reports("aclnnRound runs an executor of aclnnAbs"));
  P tensor = tensor_at(x.memory, 8);
  CHECK(abs_.plan(workspace, executor, tensor, x.tensor) == 0);
  CHECK(destroy_tensor(tensor) == 0);
  CHECK(abs_.launch(nullptr, 0, executor, s.stream) == 507899);
  CHECK(reports("destroyed between the phases"));
  CHECK(abs_.plan(workspace, executor, tensor, x.tensor) == 507899);
  CHECK(abs_.plan(workspace, executor, x.tensor, x.tensor) == 0);
  CHECK(destroy_executor(executor) == 0);
  CHECK(sync_within(s.stream, 5000) == 0);
  CHECK(!reports("leak: executor"));
}

TEST_CASE("tensors may go before the stream is done, memory may not") {
  session s;
  array x(std::vector<float>(8, -1), F32, {8});
  CHECK(fake_configure("TASK_US", "20000") == 0);
  P tensor = tensor_at(x.memory, 8);
  u64 workspace = 0;
  P executor = nullptr;
  CHECK(abs_.plan(workspace, executor, tensor, tensor) == 0);
  CHECK(abs_.launch(nullptr, 0, executor, s.stream) == 0);
  CHECK(destroy_tensor(tensor) == 0);
  CHECK(sync_within(s.stream, 5000) == 0);
  CHECK(x.read<float>()[7] == 1);
  CHECK(fake_violations() == 0);
}

TEST_CASE("a tensor's memory is checked when the op is launched") {
  session s;
  array x(std::vector<float>(16, 1), F32, {16});
  float local[16];
  const auto code = [&](P tensor) {
    const int c = abs_.run(s.stream, tensor, tensor);
    CHECK(destroy_tensor(tensor) == 0);
    return c;
  };
  CHECK(code(tensor_at(static_cast<char*>(x.memory) + 32, 8)) == 0);
  CHECK(code(tensor_at(static_cast<char*>(x.memory) + 16, 8)) == 507899);
  CHECK(reports("not aligned to 32 bytes"));
  CHECK(code(tensor_at(static_cast<char*>(x.memory) + 32, 9)) == 507899);
  CHECK(reports("overruns its memory"));
  CHECK(code(tensor_at(local, 8)) == 507899);
  CHECK(reports("does not lie in device memory"));
  CHECK(code(tensor_at(nullptr, 8)) == 507899);
  P pinned = nullptr, freed = nullptr;
  CHECK(host_malloc(&pinned, 64) == 0);
  CHECK(code(tensor_at(pinned, 8)) == 507899);
  CHECK(device_malloc(&freed, 64, 0) == 0);
  CHECK(device_free(freed) == 0);
  CHECK(code(tensor_at(freed, 8)) == 507899);
  CHECK(reports("was freed"));
  const i64 dims[] = {8}, strides[] = {2}, storage[] = {14};
  CHECK(code(create_tensor(dims, 1, F32, strides, 0, 2, storage, 1, x.memory)) == 507899);
  CHECK(reports("reaches outside its storage"));
  CHECK(fake_violations() == 7);
}

TEST_CASE("a workspace that is needed must be there, large enough, and unused until the stream is done") {
  session s;
  array x(std::vector<float>(16, 1), F32, {16});
  array low = empty<float>(F32, {}, 8), high = empty<float>(F32, {}, 8);
  u64 bytes = 0;
  P executor = nullptr, workspace = nullptr;
  CHECK(aminmax_all.plan(bytes, executor, x.tensor, low.tensor, high.tensor) == 0);
  CHECK(bytes > 0);
  CHECK(device_malloc(&workspace, bytes, 0) == 0);
  CHECK(aminmax_all.launch(nullptr, bytes, executor, s.stream) == 507899);
  CHECK(aminmax_all.plan(bytes, executor, x.tensor, low.tensor, high.tensor) == 0);
  CHECK(aminmax_all.launch(workspace, bytes - 1, executor, s.stream) == 507899);
  CHECK(reports("needs a workspace"));
  CHECK(aminmax_all.plan(bytes, executor, x.tensor, low.tensor, high.tensor) == 0);
  CHECK(aminmax_all.launch(workspace, bytes, executor, s.stream) == 0);
  CHECK(device_free(workspace) == 507899);
  CHECK(reports("aclnnAminmaxAll may still use it"));
  CHECK(sync_within(s.stream, 5000) == 0);
}

TEST_CASE("a repeatable executor runs again on other memory, until it is destroyed") {
  session s;
  array x(std::vector<float>(8, -1), F32, {8});
  array y(std::vector<float>(8, -5), F32, {8});
  array out = empty<float>(F32, {8}, 8);
  u64 workspace = 0;
  P executor = nullptr;
  CHECK(abs_.plan(workspace, executor, x.tensor, out.tensor) == 0);
  const call<int(P, size_t, P, P)> set_input{"aclSetInputTensorAddr"}, set_output{"aclSetOutputTensorAddr"}, set_any{"aclSetTensorAddr"};
  CHECK(set_input(executor, 0, x.tensor, y.memory) == 161002);  // not repeatable yet
  CHECK(make_repeatable(executor) == 0);
  CHECK(abs_.launch(nullptr, 0, executor, s.stream) == 0);
  CHECK(sync_within(s.stream, 5000) == 0);
  CHECK(out.read<float>()[0] == 1);
  CHECK(set_input(executor, 0, x.tensor, y.memory) == 0);
  CHECK(set_input(executor, 0, out.tensor, y.memory) == 161002);
  CHECK(set_input(executor, 1, out.tensor, y.memory) == 161002);
  CHECK(abs_.launch(nullptr, 0, executor, s.stream) == 0);
  CHECK(sync_within(s.stream, 5000) == 0);
  CHECK(out.read<float>()[0] == 5);
  CHECK(set_output(executor, 0, out.tensor, y.memory) == 0);
  CHECK(set_any(executor, 1, out.tensor, out.memory) == 0);
  CHECK(call<int(P, P)>{"aclSetRawTensorAddr"}(x.tensor, x.memory) == 0);
  CHECK(destroy_executor(executor) == 0);
  CHECK(inplace_copy.plan(workspace, executor, out.tensor, x.tensor) == 0);
  CHECK(make_repeatable(executor) == 507899);
  CHECK(destroy_executor(executor) == 0);
}

TEST_CASE("a careful caller leaves nothing behind, whichever call fails") {
  // The calls of section 1.4, each result looked at, everything given back in reverse order.
  const auto round_trip = [] {
    P stream = nullptr, memory = nullptr, pinned = nullptr, tensor = nullptr, executor = nullptr;
    u64 workspace = 0;
    bool queued = false;
    int code = init(nullptr);
    if (code != 0) return code;
    code = set_device(0);
    const bool has_device = code == 0;
    if (code == 0) code = create_stream(&stream);
    if (code == 0) code = set_failure_mode(stream, 1);
    if (code == 0) code = device_malloc(&memory, 64, 0);
    if (code == 0) code = host_malloc(&pinned, 64);
    if (code == 0) queued = true, code = copy_async(memory, 64, pinned, 64, host_to_device, stream);
    if (code == 0) tensor = tensor_at(memory, 16), code = tensor == nullptr ? 1 : 0;
    if (code == 0) code = abs_.plan(workspace, executor, tensor, tensor);
    if (code == 0) code = abs_.launch(nullptr, 0, executor, stream);
    if (code == 0) code = copy_async(pinned, 64, memory, 64, device_to_host, stream);
    if (queued) {
      int done = sync_within(stream, 5000);
      if (done == 507046) done = sync_within(stream, 5000);
      if (code == 0) code = done;
    }
    const auto after = [&code](int result) { code = code == 0 ? result : code; };
    if (tensor != nullptr) after(destroy_tensor(tensor));
    if (pinned != nullptr) after(host_free(pinned));
    if (memory != nullptr) after(device_free(memory));
    if (stream != nullptr) after(destroy_stream(stream));
    if (has_device) after(reset_device(0));
    after(finalize_reference(nullptr));
    return code;
  };
  for (const char* code : {"507899", "207001", "507046"}) {
    int n = 1;
    for (; n < 100; ++n) {
      INFO("call ", n, " fails with ", code);
      fake_reset();
      CHECK(fake_configure("FAIL", ("*:" + std::to_string(n) + ":" + code).c_str()) == 0);
      const int result = round_trip();
      CHECK(std::string(fake_report()) == "");
      if (fake_fired() == 0) {
        CHECK(result == 0);
        break;
      }
    }
    CHECK(n == 19);  // so many calls, and one more without a failure
  }
  fake_reset();
}
