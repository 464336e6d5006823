#pragma once
// What nnopbase hands out: tensors, scalars, arrays, lists, executors. And tensors as a running op sees them.
#include <functional>
#include <span>

#include "stream.hpp"

namespace fake_acl {

struct tensor : object {
  const char* kind() const override { return "tensor"; }
  std::string describe() const override;
  std::vector<int64_t> dims, strides;  ///< elements
  int64_t offset = 0;                  ///< elements
  int type = -1;
  int format = 0;
  std::vector<int64_t> storage;
  void* data = nullptr;

  int64_t count() const;
  size_t rank() const { return dims.size(); }
  int64_t last() const { return dims.empty() ? 1 : dims.back(); }
};

struct scalar : object {
  const char* kind() const override { return "scalar"; }
  double value = 0;
  int type = -1;
};

struct int_array : object {
  const char* kind() const override { return "int array"; }
  std::vector<int64_t> values;
};

struct tensor_list : object {
  const char* kind() const override { return "tensor list"; }
  std::vector<uint64_t> tensors;
};

/// A tensor whose memory is found: what a kernel reads and writes.
struct view {
  std::vector<int64_t> dims, strides;
  int64_t offset = 0;
  int type = -1;
  int format = 0;
  std::vector<int64_t> storage;
  std::byte* base = nullptr;

  int64_t count() const;
};

struct operand {
  std::shared_ptr<tensor> what;
  bool writes = false;
};

using kernel = std::function<int(std::span<const view>)>;

struct executor : object {
  const char* kind() const override { return "executor"; }
  std::string describe() const override { return "executor of " + op; }
  std::string op;
  std::vector<operand> operands;  ///< inputs, then outputs, as the op names them
  uint64_t workspace = 0;
  bool may_repeat = true;
  bool repeats = false;
  kernel compute;
};

/// Checks the memory behind a tensor and finds it: alive, on this device, aligned to 32 bytes, large enough.
int resolve(const world& w, const tensor& t, int device, bool writes, view& out, std::vector<use>& uses);

/// Logical elements in row-major order as numbers; nibbles of int4 are sign-extended.
std::vector<float> load_floats(const view& v);
std::vector<double> load_numbers(const view& v);
std::vector<uint64_t> load_bits64(const view& v);

/// Rounds to the view's dtype: half to even for fp, saturating (NaN: 0) for integers, which must be whole.
void store_floats(const view& v, std::span<const float> values);
void store_numbers(const view& v, std::span<const double> values);
void store_bits64(const view& v, std::span<const uint64_t> values);

}  // namespace fake_acl
