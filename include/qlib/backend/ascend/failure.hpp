#pragma once
#include <qlib/core/status.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace qlib::inline v0::ascend {

/// What a native error code asks of the caller.
enum class failure_class : std::uint8_t {
  none,
  not_available,  ///< no device, no driver, or a stub library
  programming,    ///< an argument that qlib should not have given
  unsupported,    ///< this op, on this device, with these types or shapes: another way may work
  out_of_memory,  ///< or out of streams or events
  timeout,        ///< the device did not finish in time; what it does now is not known
  device_lost,    ///< no later call to this device works
  internal,       ///< anything else
};

/// "unsupported", ...
std::string_view name_of(failure_class kind);

/// The class of a native code: aclError or aclnnStatus; 0 is `none`.
failure_class class_of(std::int32_t code);

/// What went wrong in a native call; false where nothing did.
struct failure {
  failure_class kind = failure_class::none;
  std::int32_t code = 0;  ///< native; 0 where the failure is qlib's own
  std::string text = {};  ///< the function, and the device's own message
  bool refused = false;   ///< an op said no before it ran: the device is as it was

  explicit operator bool() const { return kind != failure_class::none; }

  /// "aclrtMalloc: out of memory (207001): <the device's message>"
  std::string line() const;
  /// run_failed, about `where`.
  error as_error(std::string where, std::string remedy = {}) const;
};

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/failure.ipp>
#endif
