#pragma once
// The test's own view of the C ABI, written from its description and not from functions.hpp, and small owners for tests.
#include <dlfcn.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

namespace fake_acl_test {

/// Libraries of one variant; a missing one is null.
struct variant {
  void* libraries[6] = {};
  explicit variant(const std::string& name) {
    const char* const files[] = {"acl_rt", "ascendcl", "nnopbase", "opapi_nn", "opapi_math", "opapi"};
    for (int i = 0; i < 6; ++i) {
      libraries[i] = ::dlopen((std::string(QLIB_FAKE_ACL_DIR) + "/" + name + "/lib" + files[i] + ".so").c_str(), RTLD_LAZY | RTLD_LOCAL);
    }
  }
  void* find(const std::string& symbol) const {
    for (void* library : libraries) {
      if (void* const found = library == nullptr ? nullptr : ::dlsym(library, symbol.c_str())) return found;
    }
    return nullptr;
  }
};

inline const variant& modern() {
  static const variant v{"new"};
  return v;
}

template <class F>
F* function(const char* name, const variant& v = modern()) {
  void* const found = v.find(name);
  if (found == nullptr) {
    MESSAGE("no function ", name);
    std::abort();
  }
  return reinterpret_cast<F*>(found);
}

using P = void*;
using i32 = int32_t;
using i64 = int64_t;
using u32 = uint32_t;
using u64 = uint64_t;

/// A function of the runtime or of nnopbase: `call<int(P*, size_t, int)> malloc_{"aclrtMalloc"}`.
template <class F>
struct call;
template <class R, class... A>
struct call<R(A...)> {
  const char* name;
  R operator()(A... a) const { return function<R(A...)>(name)(a...); }
};

inline const call<int(const char*)> init{"aclInit"};
inline const call<int()> finalize{"aclFinalize"};
inline const call<int(u64*)> finalize_reference{"aclFinalizeReference"};
inline const call<const char*()> message{"aclGetRecentErrMsg"};
inline const call<int(u32*)> device_count{"aclrtGetDeviceCount"};
inline const call<int(i32)> set_device{"aclrtSetDevice"};
inline const call<int(i32)> reset_device{"aclrtResetDevice"};
inline const call<int(P*)> create_stream{"aclrtCreateStream"};
inline const call<int(P)> destroy_stream{"aclrtDestroyStream"};
inline const call<int(P)> sync_stream{"aclrtSynchronizeStream"};
inline const call<int(P, i32)> sync_within{"aclrtSynchronizeStreamWithTimeout"};
inline const call<int(P, u64)> set_failure_mode{"aclrtSetStreamFailureMode"};
inline const call<int(P*, size_t, int)> device_malloc{"aclrtMalloc"};
inline const call<int(P)> device_free{"aclrtFree"};
inline const call<int(P*, size_t)> host_malloc{"aclrtMallocHost"};
inline const call<int(P)> host_free{"aclrtFreeHost"};
inline const call<int(P, size_t, const void*, size_t, int)> copy{"aclrtMemcpy"};
inline const call<int(P, size_t, const void*, size_t, int, P)> copy_async{"aclrtMemcpyAsync"};
inline const call<int(P*, u32)> create_event{"aclrtCreateEventExWithFlag"};
inline const call<int(P)> destroy_event{"aclrtDestroyEvent"};
inline const call<int(P, P)> record{"aclrtRecordEvent"};
inline const call<int(P, P)> stream_wait{"aclrtStreamWaitEvent"};
inline const call<int(P)> sync_event{"aclrtSynchronizeEvent"};
inline const call<P(const i64*, u64, int, const i64*, i64, int, const i64*, u64, P)> create_tensor{"aclCreateTensor"};
inline const call<int(const void*)> destroy_tensor{"aclDestroyTensor"};
inline const call<P(P, int)> create_scalar{"aclCreateScalar"};
inline const call<int(const void*)> destroy_scalar{"aclDestroyScalar"};
inline const call<P(const i64*, u64)> create_array{"aclCreateIntArray"};
inline const call<int(const void*)> destroy_array{"aclDestroyIntArray"};
inline const call<void()> fake_reset{"qlib_fake_acl_reset"};
inline const call<int(const char*, const char*)> fake_configure{"qlib_fake_acl_configure"};
inline const call<const char*()> fake_report{"qlib_fake_acl_report"};
inline const call<u64()> fake_violations{"qlib_fake_acl_violations"};
inline const call<u64()> fake_leaks{"qlib_fake_acl_leaks"};
inline const call<u64()> fake_fired{"qlib_fake_acl_fired"};
inline const call<u64(const char*)> fake_calls{"qlib_fake_acl_calls"};

constexpr int host_to_device = 1, device_to_host = 2, device_to_device = 3;
constexpr int F32 = 0, F16 = 1, I8 = 2, I32 = 3, I64 = 9, U64 = 10, BF16 = 27, I4 = 29;

/// fp16 bits of a number, half to even, by the definition.
inline uint16_t half(double x) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double a = std::abs(x);
  if (std::isnan(x)) return 0x7E00;
  if (a == 0) return sign;
  int e = 0;
  std::frexp(a, &e);
  const int exponent = std::max(e - 1, -14);
  const double steps = std::nearbyint(std::ldexp(a, 10 - exponent));  // of 2^(exponent - 10)
  if (std::ldexp(steps, exponent - 10) >= 65536) return static_cast<uint16_t>(sign | 0x7C00);
  return static_cast<uint16_t>(sign | (static_cast<int>(steps) + ((exponent + 14) << 10)));
}

inline double half_value(uint16_t h) {
  const int exponent = h >> 10 & 31;
  const int fraction = h & 1023;
  const double a = exponent == 0    ? std::ldexp(fraction, -24)
                   : exponent == 31 ? (fraction == 0 ? HUGE_VAL : NAN)
                                    : std::ldexp(fraction + 1024, exponent - 25);
  return (h & 0x8000) != 0 ? -a : a;
}

inline std::vector<uint16_t> halves(const std::vector<double>& x) {
  std::vector<uint16_t> out;
  for (const double v : x) out.push_back(half(v));
  return out;
}

inline std::vector<double> half_values(const std::vector<uint16_t>& x) {
  std::vector<double> out;
  for (const uint16_t v : x) out.push_back(half_value(v));
  return out;
}

/// bf16 bits of a number that bf16 can hold.
inline uint16_t bfloat(float x) {
  uint32_t u = 0;
  std::memcpy(&u, &x, 4);
  return static_cast<uint16_t>(u >> 16);
}

/// A fresh fake with a device and a stream; everything is given back in the end.
struct session {
  P stream = nullptr;
  explicit session(const char* soc = "Ascend910B3", int devices = 1) {
    fake_reset();
    REQUIRE(fake_configure("SOC", soc) == 0);
    REQUIRE(fake_configure("DEVICES", std::to_string(devices).c_str()) == 0);
    REQUIRE(init(nullptr) == 0);
    REQUIRE(set_device(0) == 0);
    REQUIRE(create_stream(&stream) == 0);
  }
  session(const session&) = delete;
  ~session() { fake_reset(); }
};

/// Device memory of a vector's bytes, and a tensor over it.
struct array {
  P memory = nullptr;
  P tensor = nullptr;
  size_t bytes = 0;

  template <class T>
  array(const std::vector<T>& values, int dtype, std::vector<i64> dims) : bytes(values.size() * sizeof(T)) {
    REQUIRE(device_malloc(&memory, bytes, 0) == 0);
    REQUIRE(copy(memory, bytes, values.data(), bytes, host_to_device) == 0);
    tensor = create_tensor(dims.data(), dims.size(), dtype, nullptr, 0, 2, dims.data(), dims.size(), memory);
  }
  template <class T>
  array(const std::vector<T>& values, int dtype, std::vector<i64> dims, std::vector<i64> strides, i64 offset, std::vector<i64> storage,
        int format = 2)
      : bytes(values.size() * sizeof(T)) {
    REQUIRE(device_malloc(&memory, bytes, 0) == 0);
    REQUIRE(copy(memory, bytes, values.data(), bytes, host_to_device) == 0);
    tensor = create_tensor(dims.data(), dims.size(), dtype, strides.data(), offset, format, storage.data(), storage.size(), memory);
  }
  array(const array&) = delete;
  ~array() {
    destroy_tensor(tensor);
    device_free(memory);
  }

  template <class T>
  std::vector<T> read() const {
    std::vector<T> out(bytes / sizeof(T));
    REQUIRE(copy(out.data(), bytes, memory, bytes, device_to_host) == 0);
    return out;
  }
};

template <class T>
array empty(int dtype, std::vector<i64> dims, size_t elements) {
  return array(std::vector<T>(elements, T{}), dtype, std::move(dims));
}

struct scalar {
  P handle;
  explicit scalar(float x) : handle(create_scalar(&x, F32)) {}
  scalar(const scalar&) = delete;
  ~scalar() { destroy_scalar(handle); }
};

struct axes {
  P handle;
  explicit axes(std::vector<i64> x) : handle(create_array(x.data(), x.size())) {}
  axes(const axes&) = delete;
  ~axes() { destroy_array(handle); }
};

/// An op by the types of its arguments.
template <class... A>
struct op {
  std::string name;

  int plan(u64& workspace, P& executor, std::type_identity_t<A>... a) const {
    workspace = 0;
    executor = nullptr;
    return function<int(A..., u64*, P*)>((name + "GetWorkspaceSize").c_str())(a..., &workspace, &executor);
  }
  int launch(P workspace, u64 bytes, P executor, P stream) const {
    return function<int(P, u64, P, P)>(name.c_str())(workspace, bytes, executor, stream);
  }

  /// Phase 1, workspace, phase 2, synchronization: the first code that is not 0.
  int run(P stream, std::type_identity_t<A>... a) const {
    u64 bytes = 0;
    P executor = nullptr;
    P workspace = nullptr;
    if (const int c = plan(bytes, executor, a...)) return c;
    if (bytes > 0) REQUIRE(device_malloc(&workspace, bytes, 0) == 0);
    const int launched = launch(workspace, bytes, executor, stream);
    const int done = sync_within(stream, 10000);
    if (workspace != nullptr) device_free(workspace);
    return launched != 0 ? launched : done;
  }
};

inline const op<P, P, P, bool, const char*, i32, P> ascend_quant{"aclnnAscendQuant"};
inline const op<P, P, P, bool, const char*, i32, i32, P> ascend_quant_v3{"aclnnAscendQuantV3"};
inline const op<P, P, P, i64, bool, P> ascend_anti_quant{"aclnnAscendAntiQuant"};
inline const op<P, P, P, P> dynamic_quant{"aclnnDynamicQuant"};
inline const op<P, P, P, i64, P, P, P> dynamic_quant_v2{"aclnnDynamicQuantV2"};
inline const op<P, P, P, P, P, bool, bool, P> quant_matmul_v3{"aclnnQuantMatmulV3"};
inline const op<P, P, P, P, P, P, bool, bool, P> quant_matmul_v4{"aclnnQuantMatmulV4"};
inline const op<P, P, P, P, P, P, P, P, P, bool, bool, i64, P> quant_matmul_v5{"aclnnQuantMatmulV5"};
inline const op<P, P, P, P, P, P, P, int, P> weight_matmul_v2{"aclnnWeightQuantBatchMatmulV2"};
inline const op<P, P, P, P, P, P, P, int, int, P> weight_matmul_v3{"aclnnWeightQuantBatchMatmulV3"};
inline const op<P, P, P, int8_t> mm{"aclnnMm"};
inline const op<P, P, P> trans_quant_param{"aclnnTransQuantParamV2"};
inline const op<P, P> int4_pack{"aclnnConvertWeightToINT4Pack"};
inline const op<P, P, bool, P, P> aminmax{"aclnnAminmax"};
inline const op<P, P, P> aminmax_all{"aclnnAminmaxAll"};
inline const op<P, P, bool, P> amax{"aclnnAmax"};
inline const op<P, P, bool, P> amin{"aclnnAmin"};
inline const op<P, i64, bool, P, P> max_dim{"aclnnMaxDim"};
inline const op<P, i64, P, P, P> histc{"aclnnHistc"};
inline const op<P, P, P> mul{"aclnnMul"};
inline const op<P, P, P> muls{"aclnnMuls"};
inline const op<P, P> inplace_mul{"aclnnInplaceMul"};
inline const op<P, P, P, P> add{"aclnnAdd"};
inline const op<P, P, P, P> adds{"aclnnAdds"};
inline const op<P, P> abs_{"aclnnAbs"};
inline const op<P, P> round_{"aclnnRound"};
inline const op<P, P, P, P> clamp{"aclnnClamp"};
inline const op<P, int, P> cast{"aclnnCast"};
inline const op<P, P> inplace_copy{"aclnnInplaceCopy"};
inline const op<P, P, P> permute{"aclnnPermute"};

}  // namespace fake_acl_test
