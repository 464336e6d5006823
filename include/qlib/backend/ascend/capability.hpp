#pragma once
#include <qlib/backend/ascend/library.hpp>
#include <qlib/backend/ascend/paths.hpp>
#include <qlib/backend/ascend/soc.hpp>
#include <qlib/core/dtype.hpp>

#include <array>
#include <mutex>
#include <optional>
#include <vector>

namespace qlib::inline v0::ascend {

/// All functions of a path are in the loaded libraries.
bool has_functions(path p, const functions& api);

/// The vendor's tables say that the chip has the path's ops, with operands of this type.
bool is_allowed(path p, soc_family family, dtype type);

/// What is known of one device's paths. Shared by its lanes.
///
/// A path is used where its functions are present, the rules allow it, and a small first use gave the scalar backend's result. What is refused
/// later, of a path that works, is refused for that shape: rows of one width are left out, and after most_widths of them the path.
class capability {
 public:
  explicit capability(soc_family family) : family_{family} {}

  soc_family family() const { return family_; }

  /// Nothing as long as the path is not tested.
  std::optional<bool> verdict(path p, dtype type) const;
  void set_verdict(path p, dtype type, bool works);

  static constexpr std::size_t most_widths = 8;
  bool refuses(path p, dtype type, std::size_t width) const;
  /// False: that was one width too many, and the path is not used any more.
  bool add_refused(path p, dtype type, std::size_t width);

  /// Held while a path is tested, so that one lane does it and the others wait for the verdict.
  std::mutex& testing() { return testing_; }

 private:
  static std::size_t place(dtype type) { return type == dtype::f32 ? 0 : type == dtype::f16 ? 1 : type == dtype::bf16 ? 2 : 3; }

  struct refused_width {
    path p;
    dtype type;
    std::size_t width;
  };

  soc_family family_;
  mutable std::mutex reading_;
  std::mutex testing_;
  std::array<std::array<std::optional<bool>, 4>, path_count> verdicts_{};
  std::vector<refused_width> refused_;
};

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/capability.ipp>
#endif
