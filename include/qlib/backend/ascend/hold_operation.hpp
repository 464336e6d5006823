#pragma once
#include <qlib/backend/ascend/chain.hpp>
#include <qlib/backend/ascend/staging.hpp>

#include <utility>

namespace qlib::inline v0::ascend {

/// Copies x to the lane's device, as f32 rows without gaps, where ranges, column_absmax, histogram and quantize find it: 16-bit values are widened
/// there (Cast), or by the host. False, and nothing is held: x has a NaN or an infinity, is larger than lane_options::largest_held_bytes, the device
/// has no room, or another matrix is held.
bool hold(lane& l, const host_matrix& x);

/// Holds x as long as it lives.
class hold_scope {
 public:
  /// Nothing without a lane.
  hold_scope(lane* l, const host_matrix& x) : lane_{l && hold(*l, x) ? l : nullptr} {}
  hold_scope(hold_scope&& other) noexcept : lane_{std::exchange(other.lane_, nullptr)} {}
  hold_scope& operator=(hold_scope&&) = delete;
  ~hold_scope() {
    if (lane_) lane_->drop();
  }
  explicit operator bool() const { return lane_ != nullptr; }

 private:
  lane* lane_;
};

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/hold_operation.ipp>
#endif
