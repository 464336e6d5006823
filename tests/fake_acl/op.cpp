#include "op.hpp"

#include <utility>

#include "half.hpp"
#include "ledger.hpp"

namespace fake_acl {

planning::planning(const char* op) : world_(the_world()), lock_(world_.mutex), op_(op) { code_ = current_context(world_, context_, false); }

void planning::fail(int code, const std::string& sentence) {
  if (code_ == 0) code_ = refuse(code, sentence);
}

void planning::require(bool holds, const std::string& sentence) {
  if (!holds) fail(code::invalid_argument, sentence);
}

void planning::products(unsigned families) {
  if ((world_.soc.family & families) != 0) return;
  fail(world_.soc.family == family::b310 ? code::no_kernel : code::product_unsupported, "not on " + world_.soc.name);
}

const tensor* planning::add(const void* handle, const char* name, bool writes, bool needed) {
  operands_.push_back({nullptr, writes});
  if (code_ != 0) return nullptr;
  if (handle == nullptr) {
    if (needed) fail(code::null_pointer, std::string(name) + " is null");
    return nullptr;
  }
  auto t = world_.find<tensor>(handle);
  if (t == nullptr) {
    code_ = violate(std::string(name) + " of " + op_ + " is not a live tensor");
    return nullptr;
  }
  require(bits_of(t->type) != 0, std::string(name) + " has an unknown dtype");
  require(t->type != dtype::bf16 || world_.soc.bf16, std::string(name) + " is bf16, which " + world_.soc.name + " has not");
  operands_.back().what = t;
  return t.get();
}

const scalar* planning::number(const void* handle, const char* name) {
  if (code_ != 0) return nullptr;
  if (handle == nullptr) {
    fail(code::null_pointer, std::string(name) + " is null");
    return nullptr;
  }
  auto s = world_.find<scalar>(handle);
  if (s == nullptr) code_ = violate(std::string(name) + " of " + op_ + " is not a live scalar");
  others_.push_back(s);
  return s.get();
}

const int_array* planning::array(const void* handle, const char* name) {
  if (code_ != 0) return nullptr;
  if (handle == nullptr) {
    fail(code::null_pointer, std::string(name) + " is null");
    return nullptr;
  }
  auto a = world_.find<int_array>(handle);
  if (a == nullptr) code_ = violate(std::string(name) + " of " + op_ + " is not a live int array");
  others_.push_back(a);
  return a.get();
}

int planning::finish(uint64_t workspace, uint64_t* workspace_out, void** executor_out, kernel compute, bool may_repeat) {
  if (code_ == 0 && (workspace_out == nullptr || executor_out == nullptr)) fail(code::null_pointer, "the workspace size or the executor is null");
  if (code_ != 0) return code_;
  auto e = std::make_shared<executor>();
  e->op = op_;
  e->operands = std::move(operands_);
  e->workspace = workspace;
  e->may_repeat = may_repeat;
  e->compute = std::move(compute);
  *workspace_out = workspace;
  *executor_out = as_pointer(world_.add(e));
  return 0;
}

bool is_contiguous(const tensor& t) {
  int64_t step = 1;
  for (size_t d = t.rank(); d-- > 0;) {
    if (t.dims[d] != 1 && t.strides[d] != step) return false;
    step *= t.dims[d];
  }
  return true;
}

bool is_matrix_layout(const tensor& t) {
  if (is_contiguous(t)) return true;
  if (t.rank() < 2) return false;
  tensor swapped;
  swapped.dims = t.dims;
  swapped.strides = t.strides;
  std::swap(swapped.dims[t.rank() - 1], swapped.dims[t.rank() - 2]);
  std::swap(swapped.strides[t.rank() - 1], swapped.strides[t.rank() - 2]);
  return is_contiguous(swapped);
}

uint64_t copy_workspace(std::initializer_list<const tensor*> operands) {
  uint64_t bytes = 0;
  for (const tensor* t : operands) {
    if (t != nullptr && !is_contiguous(*t)) bytes += (static_cast<uint64_t>(t->count()) * 8 + 511) / 512 * 512;
  }
  return bytes;
}

float round_to(int type, float x) {
  switch (type) {
    case dtype::f16:
      return round_f16(x);
    case dtype::bf16:
      return round_bf16(x);
    default:
      return x;
  }
}

}  // namespace fake_acl
