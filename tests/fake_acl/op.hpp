#pragma once
// Phase 1 of an op: checks, then an executor.
#include <initializer_list>

#include "tensor.hpp"

namespace fake_acl {

/// The first failed check decides the code. Operands get the places of their views in the order of in/optional/out.
class planning {
 public:
  explicit planning(const char* op);

  /// 361001 on other products; 561003 on 310B, whose kernels nobody ships.
  void products(unsigned families);
  /// Null: 161001. A dead handle: a violation. bf16 where the SoC has none: 161002.
  const tensor* in(const void* handle, const char* name) { return add(handle, name, false, true); }
  const tensor* optional(const void* handle, const char* name) { return add(handle, name, false, false); }
  const tensor* out(const void* handle, const char* name) { return add(handle, name, true, true); }
  const scalar* number(const void* handle, const char* name);
  const int_array* array(const void* handle, const char* name);

  /// 161002 with a sentence.
  void require(bool holds, const std::string& sentence);
  void fail(int code, const std::string& sentence);

  int failed() const { return code_; }
  const soc_profile& soc() const { return world_.soc; }
  const settings& options() const { return world_.now; }
  bool deterministic() const { return world_.deterministic || context_->deterministic; }
  world& everything() { return world_; }
  int device() const { return context_->device; }

  int finish(uint64_t workspace, uint64_t* workspace_out, void** executor_out, kernel compute, bool may_repeat = true);

 private:
  const tensor* add(const void* handle, const char* name, bool writes, bool needed);

  world& world_;
  lock_t lock_;
  std::string op_;
  int code_ = 0;
  std::shared_ptr<context> context_;
  std::vector<operand> operands_;
  std::vector<std::shared_ptr<object>> others_;
};

inline bool is_one_of(int type, std::initializer_list<int> types) {
  for (const int t : types) {
    if (t == type) return true;
  }
  return false;
}

inline bool is_half(int type) { return type == dtype::f16 || type == dtype::bf16; }
inline bool is_float(int type) { return is_half(type) || type == dtype::f32; }

bool is_contiguous(const tensor& t);
/// Contiguous, or contiguous once the last two axes are swapped: what matmuls accept.
bool is_matrix_layout(const tensor& t);

/// Workspace of a hidden copy for each operand that is not contiguous.
uint64_t copy_workspace(std::initializer_list<const tensor*> operands);

/// x rounded to a dtype of fp: fp32 and wider stay.
float round_to(int type, float x);

}  // namespace fake_acl
