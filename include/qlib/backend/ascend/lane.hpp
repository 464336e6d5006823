#pragma once
#include <qlib/backend/ascend/capability.hpp>
#include <qlib/backend/ascend/op_call.hpp>
#include <qlib/backend/ascend/staging.hpp>

#include <cstddef>
#include <memory>
#include <string_view>

namespace qlib::inline v0::ascend {

struct lane_options {
  /// Staged bytes that one pass over the device works on; larger matrices take several. Halved when the device's memory runs out.
  std::size_t chunk_bytes = std::size_t{8} << 20;
  /// Below this the CPU takes over.
  std::size_t smallest_chunk_bytes = std::size_t{64} << 10;
  /// Matrices that need more on the device are not held there between operations.
  std::size_t largest_held_bytes = std::size_t{256} << 20;
  int timeout_milliseconds = 120'000;
  /// Ask the device for results that do not depend on the order of its own threads.
  bool deterministic = true;
  /// Receives one line for each path that is given up, and for a lost device. From any lane's thread.
  void (*log)(void* context, std::string_view line) = nullptr;
  void* log_context = nullptr;
};

/// One worker's way to a device: a context, a stream, and one set of staging buffers. Used by one thread at a time; lanes of the same
/// device, each on its own thread, overlap copies and ops.
///
/// After a failure that is not an op's refusal, and not a lack of memory, the lane is lost: it does nothing more.
class lane {
 public:
  lane(std::shared_ptr<library> lib, std::shared_ptr<capability> known, const lane_options& options);
  lane(const lane&) = delete;
  lane& operator=(const lane&) = delete;
  ~lane();

  /// To be called once, before all else.
  failure open(int id);

  const lane_options& options() const { return options_; }
  const functions& api() const { return library_->api(); }
  const std::shared_ptr<library>& lib() const { return library_; }
  const device& dev() const { return device_; }
  capability& known() const { return *known_; }
  path_record& record() { return record_; }
  const failure& first_failure() const { return first_; }
  bool lost() const { return lost_; }
  void lose(const failure& f);

  /// At least these bytes in the buffers below; what they held is gone. Nothing may be queued.
  failure reserve(std::size_t in, std::size_t out, std::size_t scratch = 0);
  std::byte* pinned_in() const { return pinned_in_.data(); }
  std::byte* pinned_out() const { return pinned_out_.data(); }
  std::byte* device_in() const { return device_in_.data(); }
  std::byte* device_out() const { return device_out_.data(); }
  std::byte* scratch() const { return scratch_.data(); }

  /// Queues the first `bytes` of pinned_in to device_in, or elsewhere on the device.
  failure upload(std::size_t bytes) { return upload_to(device_in(), bytes); }
  failure upload_to(std::byte* to, std::size_t bytes) { return stream_.upload(to, pinned_in(), bytes); }
  /// Queues device memory to the start of pinned_out, and waits for everything that is queued.
  failure download(const std::byte* from, std::size_t bytes);
  /// Waits for everything that is queued.
  failure wait();
  /// Waits for what is queued after a failure, so that the buffers may be used again.
  void drain();

  tensor make_tensor(void* data, dtype type, std::initializer_list<std::int64_t> dims) const;
  tensor make_transposed(void* data, dtype type, std::size_t rows, std::size_t cols) const;
  workspace& space() { return workspace_; }
  failure launch(op_call& call, launch_function second_phase) { return call.launch(second_phase, stream_); }

  /// A matrix that stays on the device between operations, as f32 rows without gaps. Its memory is kept when it is dropped.
  failure reserve_held(std::size_t bytes);
  std::byte* held_memory() const { return held_memory_.data(); }
  void keep(const host_matrix& x) { held_ = x; }
  void drop() { held_ = {}; }
  bool holds() const { return held_.rows > 0; }
  /// The device has no room for it: frees it. Nothing may be queued.
  void stop_holding();
  bool may_hold() const { return may_hold_; }
  /// Where x, some rows of the held matrix, lies on the device. Null where it does not, or not at an address that ops can read.
  std::byte* held(const host_matrix& x) const;

  std::size_t chunk_bytes() const { return chunk_bytes_; }
  /// Frees all buffers, the held matrix too, and if none was held halves the chunk. False where that is the smallest already.
  bool shrink();

  void log(std::string_view line) const {
    if (options_.log) options_.log(options_.log_context, line);
  }
  /// "npu:1"
  std::string name() const { return "npu:" + std::to_string(device_.id()); }

 private:
  void release() noexcept;
  void abandon() noexcept;

  std::shared_ptr<library> library_;
  std::shared_ptr<capability> known_;
  lane_options options_;
  device device_;
  stream stream_;
  workspace workspace_{device_};
  buffer pinned_in_, pinned_out_, device_in_, device_out_, scratch_, held_memory_;
  host_matrix held_;
  path_record record_;
  failure first_;
  std::size_t chunk_bytes_;
  bool lost_ = false, may_hold_ = true;
};

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/lane.ipp>
#endif
