#pragma once
#include <qlib/backend/ascend/op_call.hpp>

namespace qlib::inline v0::ascend {

QLIB_INLINE op_call::~op_call() {
  const functions& api = space_.owner().api();
  if (executor_ && api.aclDestroyAclOpExecutor) api.aclDestroyAclOpExecutor(executor_);
}

QLIB_INLINE failure op_call::plan(std::int32_t code) {
  failure f = space_.owner().check(code, name_);
  using enum failure_class;
  f.refused = f.kind == unsupported || f.kind == programming || f.kind == internal;
  return f;
}

QLIB_INLINE failure op_call::launch(launch_function second_phase, const stream& s) {
  void* memory = nullptr;
  if (failure f = space_.reserve(bytes_, memory)) return f;
  failure f = space_.owner().check(second_phase(memory, bytes_, std::exchange(executor_, nullptr), s.handle()), name_);
  f.refused = f.kind == failure_class::unsupported;
  return f;
}

}  // namespace qlib::inline v0::ascend
