// The C functions of nnopbase, and phase 2.
#include "tensor.hpp"

#include <cstring>

#include "api.hpp"
#include "half.hpp"
#include "ledger.hpp"

namespace fake_acl {
namespace {

template <class T>
int destroy(const void* handle) {
  if (handle == nullptr) return 0;
  world& w = the_world();
  const lock_t lock{w.mutex};
  const auto found = w.find<T>(handle);
  if (found == nullptr) return violate(std::string("destroyed twice, or not a live ") + T{}.kind());
  w.remove(*found);
  return 0;
}

double number_at(const void* place, int type) {
  const auto as = [place](auto zero) {
    std::memcpy(&zero, place, sizeof zero);
    return zero;
  };
  switch (type) {
    case dtype::f32:
      return static_cast<double>(as(float{}));
    case dtype::f64:
      return as(double{});
    case dtype::f16:
      return static_cast<double>(from_f16(as(uint16_t{})));
    case dtype::bf16:
      return static_cast<double>(from_bf16(as(uint16_t{})));
    case dtype::i8:
      return as(int8_t{});
    case dtype::u8:
    case dtype::boolean:
      return as(uint8_t{});
    case dtype::i16:
      return as(int16_t{});
    case dtype::u16:
      return as(uint16_t{});
    case dtype::i32:
      return as(int32_t{});
    case dtype::u32:
      return as(uint32_t{});
    case dtype::i64:
      return static_cast<double>(as(int64_t{}));
    case dtype::u64:
      return static_cast<double>(as(uint64_t{}));
    default:
      return 0;
  }
}

/// side: 0 any operand, 1 inputs, 2 outputs.
int rebind(void* handle, size_t index, void* tensor_handle, void* data, int side) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  const auto e = w.find<executor>(handle);
  if (e == nullptr) return violate("not a live executor");
  if (!e->repeats) return violate(code::invalid_argument, "addresses of an executor that is not repeatable are set");
  size_t seen = 0;
  for (const operand& o : e->operands) {
    if (side != 0 && o.writes != (side == 2)) continue;
    if (seen++ != index) continue;
    if (o.what->handle != reinterpret_cast<uintptr_t>(tensor_handle)) {
      return violate(code::invalid_argument, "operand " + std::to_string(index) + " of " + e->op + " is another tensor");
    }
    o.what->data = data;
    return 0;
  }
  return violate(code::invalid_argument, e->op + " has no operand " + std::to_string(index));
}

int prepare(const world& w, const executor& e, void* workspace, uint64_t bytes, const context& c, task& t, std::vector<view>& views) {
  for (const operand& o : e.operands) {
    view v;
    if (o.what != nullptr) {
      if (w.find<tensor>(as_pointer(o.what->handle)) == nullptr) return violate(o.what->describe() + " was destroyed between the phases of " + e.op);
      const size_t before = t.uses.size();
      if (const int failed = resolve(w, *o.what, c.device, o.writes, v, t.uses)) return failed;
      if (t.uses.size() > before) t.bytes += t.uses.back().end - t.uses.back().begin;
    }
    views.push_back(v);
  }
  if (e.workspace == 0) return 0;
  if (bytes < e.workspace || workspace == nullptr) {
    return violate(e.op + " needs a workspace of " + std::to_string(e.workspace) + " bytes and got " +
                   std::to_string(workspace == nullptr ? 0 : bytes));
  }
  tensor scratch;
  scratch.type = dtype::i8;
  scratch.format = format::nd;
  scratch.dims = scratch.storage = {static_cast<int64_t>(e.workspace)};
  scratch.strides = {1};
  scratch.data = workspace;
  view v;
  if (const int failed = resolve(w, scratch, c.device, true, v, t.uses)) return failed;
  views.push_back(v);
  return 0;
}

}  // namespace

namespace api {

void* aclCreateTensor(const int64_t* dims, uint64_t rank, int type, const int64_t* strides, int64_t offset, int format, const int64_t* storage,
                      uint64_t storage_rank, void* data) {
  if ((dims == nullptr && rank > 0) || (storage == nullptr && storage_rank > 0)) {
    refuse(code::null_pointer, "null dimensions");
    return nullptr;
  }
  auto t = std::make_shared<tensor>();
  t->dims.assign(dims, dims + rank);
  t->storage.assign(storage, storage + storage_rank);
  t->strides.resize(rank);
  int64_t step = 1;
  for (size_t d = rank; d-- > 0; step *= t->dims[d]) t->strides[d] = step;
  if (strides != nullptr) t->strides.assign(strides, strides + rank);
  t->offset = offset;
  t->type = type;
  t->format = format;
  t->data = data;
  world& w = the_world();
  const lock_t lock{w.mutex};
  return as_pointer(w.add(t));
}

void* aclCreateScalar(void* value, int type) {
  if (value == nullptr) return nullptr;
  auto s = std::make_shared<scalar>();
  s->value = number_at(value, type);
  s->type = type;
  world& w = the_world();
  const lock_t lock{w.mutex};
  return as_pointer(w.add(s));
}

void* aclCreateIntArray(const int64_t* values, uint64_t count) {
  if (values == nullptr && count > 0) return nullptr;
  auto a = std::make_shared<int_array>();
  a->values.assign(values, values + count);
  world& w = the_world();
  const lock_t lock{w.mutex};
  return as_pointer(w.add(a));
}

void* aclCreateTensorList(void* const* tensors, uint64_t count) {
  if (tensors == nullptr && count > 0) return nullptr;
  auto l = std::make_shared<tensor_list>();
  for (uint64_t i = 0; i < count; ++i) l->tensors.push_back(reinterpret_cast<uintptr_t>(tensors[i]));
  world& w = the_world();
  const lock_t lock{w.mutex};
  return as_pointer(w.add(l));
}

int aclDestroyTensor(const void* handle) { return destroy<tensor>(handle); }
int aclDestroyScalar(const void* handle) { return destroy<scalar>(handle); }
int aclDestroyIntArray(const void* handle) { return destroy<int_array>(handle); }

int aclDestroyTensorList(const void* handle) {
  if (handle == nullptr) return 0;
  std::vector<uint64_t> owned;
  {
    world& w = the_world();
    const lock_t lock{w.mutex};
    const auto list = w.find<tensor_list>(handle);
    if (list == nullptr) return violate("destroyed twice, or not a live tensor list");
    owned = list->tensors;
    w.remove(*list);
  }
  int result = 0;
  for (const uint64_t t : owned) {
    if (const int c = destroy<tensor>(as_pointer(t))) result = c;
  }
  return result;
}

int aclSetAclOpExecutorRepeatable(void* handle) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  const auto e = w.find<executor>(handle);
  if (e == nullptr) return violate("not a live executor");
  if (!e->may_repeat) return violate(e->op + " copies inside and cannot be repeated");
  e->repeats = true;
  return 0;
}

int aclDestroyAclOpExecutor(void* handle) { return destroy<executor>(handle); }

int aclSetTensorAddr(void* e, size_t index, void* t, void* data) { return rebind(e, index, t, data, 0); }
int aclSetInputTensorAddr(void* e, size_t index, void* t, void* data) { return rebind(e, index, t, data, 1); }
int aclSetOutputTensorAddr(void* e, size_t index, void* t, void* data) { return rebind(e, index, t, data, 2); }

int aclSetRawTensorAddr(void* handle, void* data) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  const auto t = w.find<tensor>(handle);
  if (t == nullptr) return violate("not a live tensor");
  t->data = data;
  return 0;
}

int launch(const char* name, int injected, void* workspace, uint64_t bytes, void* handle, void* stream_handle) {
  world& w = the_world();
  const lock_t lock{w.mutex};
  const auto e = w.find<executor>(handle);
  if (handle == nullptr && std::strcmp(name, "aclnnConvertWeightToINT4Pack") == 0) return injected == 0 ? 0 : refuse(injected, "injected failure");
  if (e == nullptr) return violate("the executor is not alive: used twice, destroyed, or never made");
  if (!e->repeats) w.remove(*e);  // consumed, whatever happens now
  if (injected != 0) return refuse(injected, "injected failure");
  if (e->op != name) return violate(std::string(name) + " runs an executor of " + e->op);
  std::shared_ptr<context> c;
  std::shared_ptr<stream> s;
  if (const int failed = find_stream(w, stream_handle, c, s)) return failed;
  task t;
  std::vector<view> views;
  if (const int failed = prepare(w, *e, workspace, bytes, *c, t, views)) return failed;
  t.function = name;
  t.engine = engine_kind::compute;
  t.work = [compute = e->compute, views = std::move(views), scratch = e->workspace] {
    if (scratch > 0) std::memset(views.back().base, 0xA5, scratch);
    return compute ? compute(views) : 0;
  };
  return enqueue(w, *s, std::move(t));
}

}  // namespace api
}  // namespace fake_acl
