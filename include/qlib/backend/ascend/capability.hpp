#pragma once
#include <qlib/backend/ascend/library.hpp>
#include <qlib/backend/ascend/paths.hpp>
#include <qlib/backend/ascend/soc.hpp>
#include <qlib/core/dtype.hpp>

#include <array>
#include <mutex>
#include <optional>

namespace qlib::inline v0::ascend {

/// All functions of a path are in the loaded libraries.
bool has_functions(path p, const functions& api);

/// The vendor's tables say that the chip has the path's ops, with operands of this type.
bool is_allowed(path p, soc_family family, dtype type);

/// What is known of one device's paths. Shared by its lanes.
///
/// A path is used where its functions are present, the rules allow it, and a small first use gave the scalar backend's result.
class capability {
 public:
  explicit capability(soc_family family) : family_{family} {}

  soc_family family() const { return family_; }

  /// Nothing as long as the path is not tested.
  std::optional<bool> verdict(path p, dtype type) const;
  void set_verdict(path p, dtype type, bool works);

  /// Held while a path is tested, so that one lane does it and the others wait for the verdict.
  std::mutex& testing() { return testing_; }

 private:
  static std::size_t place(dtype type) { return type == dtype::f32 ? 0 : type == dtype::f16 ? 1 : type == dtype::bf16 ? 2 : 3; }

  soc_family family_;
  mutable std::mutex reading_;
  std::mutex testing_;
  std::array<std::array<std::optional<bool>, 4>, path_count> verdicts_{};
};

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/capability.ipp>
#endif
