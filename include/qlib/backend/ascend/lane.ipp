#pragma once
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/element_type.hpp>
#include <qlib/backend/ascend/lane.hpp>

#include <algorithm>
#include <memory>

namespace qlib::inline v0::ascend {

QLIB_INLINE lane::lane(std::shared_ptr<library> lib, std::shared_ptr<capability> known, const lane_options& options)
    : library_{std::move(lib)},
      known_{std::move(known)},
      options_{options},
      chunk_bytes_{std::max(options.chunk_bytes, options.smallest_chunk_bytes)} {}

QLIB_INLINE failure lane::open(int id) {
  if (failure f = device_.open(*library_, id)) return f;
  const device_scope scope{device_};
  if (failure f = stream_.open(device_)) return f;
  // Refused by runtimes that do not know the option, which then compute in their own order; results stay within the same bounds.
  if (options_.deterministic && api().aclrtCtxSetSysParamOpt) static_cast<void>(api().aclrtCtxSetSysParamOpt(option_deterministic, 1));
  return {};
}

QLIB_INLINE lane::~lane() {
  if (!device_.is_open()) return;
  {
    const device_scope scope{device_};
    // The runtime frees without waiting. A stream that does not end may still write to its buffers: all of it is left to the device then.
    const bool waited_before = first_.code == error_wait_timeout;
    const bool runs =
        lost_ && stream_.handle() && stream_.synchronize(waited_before ? 1000 : options_.timeout_milliseconds).code == error_wait_timeout;
    if (!runs) {
      release();
      stream_.close();
      return;
    }
  }
  abandon();
}

QLIB_INLINE void lane::release() noexcept {
  drop();
  workspace_.release();
  for (buffer* b : {&pinned_in_, &pinned_out_, &device_in_, &device_out_, &scratch_, &held_memory_}) b->release();
}

QLIB_INLINE void lane::abandon() noexcept {
  workspace_.abandon();
  for (buffer* b : {&pinned_in_, &pinned_out_, &device_in_, &device_out_, &scratch_, &held_memory_}) b->abandon();
  stream_.abandon();
  device_.abandon();
}

QLIB_INLINE void lane::lose(const failure& f) {
  if (lost_) return;
  lost_ = true;
  first_ = f;
  log(name() + ": " + f.line() + ": this lane does nothing more");
}

QLIB_INLINE failure lane::reserve(std::size_t in, std::size_t out, std::size_t scratch) {
  const auto grow = [&](buffer& b, memory_place place, std::size_t bytes) -> failure {
    if (b.size() >= bytes) return {};
    return b.allocate(device_, place, (bytes + 0xffff) / 0x10000 * 0x10000);
  };
  if (failure f = grow(pinned_in_, memory_place::pinned, in)) return f;
  if (failure f = grow(pinned_out_, memory_place::pinned, out)) return f;
  if (failure f = grow(device_in_, memory_place::device, in)) return f;
  if (failure f = grow(device_out_, memory_place::device, out)) return f;
  return grow(scratch_, memory_place::device, scratch);
}

QLIB_INLINE failure lane::download(const std::byte* from, std::size_t bytes) {
  if (failure f = stream_.download(pinned_out(), from, bytes)) return f;
  return wait();
}

QLIB_INLINE failure lane::wait() {
  if (failure f = stream_.synchronize(options_.timeout_milliseconds)) return f;
  workspace_.synchronized();
  return {};
}

QLIB_INLINE void lane::drain() {
  if (lost_) return;
  if (failure f = wait()) lose(f);
}

QLIB_INLINE failure lane::reserve_held(std::size_t bytes) {
  if (held_memory_.size() >= bytes) return {};
  drop();
  return held_memory_.allocate(device_, memory_place::device, (bytes + 0xffff) / 0x10000 * 0x10000);
}

QLIB_INLINE void lane::stop_holding() {
  drop();
  held_memory_.release();
  may_hold_ = false;
}

QLIB_INLINE std::byte* lane::held(const host_matrix& x) const {
  if (!holds() || x.type != held_.type || x.cols != held_.cols || x.stride != held_.stride) return nullptr;
  // By number: the pointers may be into different matrices. What lies before is far beyond the end.
  const auto from = reinterpret_cast<std::uintptr_t>(x.data) - reinterpret_cast<std::uintptr_t>(held_.data), row = x.stride * x.element_bytes();
  if (from % row != 0 || from / row + x.rows > held_.rows) return nullptr;
  const std::size_t at = from / row * x.cols * 4;
  return at % 32 == 0 ? held_memory_.data() + at : nullptr;
}

QLIB_INLINE tensor lane::make_tensor(void* data, dtype type, std::initializer_list<std::int64_t> dims) const {
  return {device_, data, type_of(type), dims};
}

QLIB_INLINE tensor lane::make_transposed(void* data, dtype type, std::size_t rows, std::size_t cols) const {
  return tensor::transposed(device_, data, type_of(type), static_cast<std::int64_t>(rows), static_cast<std::int64_t>(cols));
}

QLIB_INLINE bool lane::shrink() {
  const bool had_held = held_memory_.size() > 0;
  release();
  if (had_held) {
    may_hold_ = false;
    return true;
  }
  if (chunk_bytes_ / 2 < options_.smallest_chunk_bytes) return false;
  chunk_bytes_ /= 2;
  return true;
}

}  // namespace qlib::inline v0::ascend
