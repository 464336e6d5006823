/// Who makes chunks: a thread with its kernels. The scheduler of `run_plan` knows nothing else of a backend.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/pipeline/calibration.hpp>
#include <qlib/pipeline/chunk.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace qlib::inline v0 {

namespace detail {
struct error_sums;
}

class chunk_worker {
 public:
  using emit_function = std::function<status(std::size_t slot, std::uint64_t offset, std::span<const std::byte>)>;

  virtual ~chunk_worker() = default;

  /// Calls emit(slot, offset within the slot, bytes) for everything the chunk produces. `sums` receives its errors, unless null.
  virtual status make(const chunk& c, const emit_function& emit, detail::error_sums* sums) = 0;
  /// Gives back the source pages of a finished chunk.
  virtual void release(const chunk& c) = 0;
  /// Copies bytes to memory, as a write would read them.
  virtual status keep(std::span<const std::byte> bytes) = 0;
  /// Its device is gone: what `make` failed of, another worker can do.
  virtual bool lost() const { return false; }
  /// What ran where since it was last asked, a line an operation ("quantize: AscendQuantV3"); nothing from CPUs.
  virtual std::vector<std::string> take_paths() { return {}; }
};

/// Makes the workers of a run; each is used by one thread at a time.
using worker_factory = std::function<result<std::vector<std::unique_ptr<chunk_worker>>>(const checkpoint& source, const quantization_plan& plan,
                                                                                        const calibration* found)>;

}  // namespace qlib::inline v0
