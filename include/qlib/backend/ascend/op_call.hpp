#pragma once
#include <qlib/backend/ascend/tensor.hpp>
#include <qlib/backend/ascend/workspace.hpp>

namespace qlib::inline v0::ascend {

/// One op, in its two phases:
///
///     op_call call{workspace, "aclnnMul"};
///     if (failure f = call.plan(api.aclnnMulGetWorkspaceSize(a.handle(), b.handle(), out.handle(), call.bytes(), call.executor()))) return f;
///     return call.launch(api.aclnnMul, stream);
///
/// Owns the executor between them: a plan that is never launched is destroyed here; a launch consumes it, whatever it returns.
class op_call {
 public:
  op_call(workspace& space, const char* name) : space_{space}, name_{name} {}
  op_call(const op_call&) = delete;
  op_call& operator=(const op_call&) = delete;
  ~op_call();

  std::uint64_t* bytes() { return &bytes_; }
  void** executor() { return &executor_; }
  /// `code`: what the first phase returned. A failure here that is not the device's is marked `refused`.
  failure plan(std::int32_t code);
  /// Queues the op.
  failure launch(launch_function second_phase, const stream& s);

 private:
  workspace& space_;
  const char* name_;
  std::uint64_t bytes_ = 0;  // both as some ops leave them: they do everything in the first phase
  void* executor_ = nullptr;
};

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/op_call.ipp>
#endif
