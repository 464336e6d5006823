#pragma once
#include <qlib/backend/ascend/failure.hpp>
#include <qlib/backend/ascend/functions.hpp>
#include <qlib/core/status.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0::ascend {

struct library_options {
  /// The folder of the libraries; nothing else is searched then. Empty: environment QLIB_ACL_LIB_DIR, else the loader's own search.
  std::string directory = {};
};

/// Ascend's runtime and operator libraries, found and initialized when the program runs. Nothing of them is needed to build or to start.
///
/// The libraries stay mapped until the process ends: they cannot be unmapped safely. What is made from a library points into it: it must
/// stay where it is until all of that is gone. Only `shutdown` ends the initialization; the destructor does not, because it may run after
/// main, which the libraries do not survive.
class library {
 public:
  /// Finds the libraries (libacl_rt.so, else libascendcl.so; libnnopbase.so; libopapi_*.so, libopapi.so and older), and calls aclInit.
  /// Errors (invalid_input): no CANN, no driver, a stub library, a required function missing, ASCEND_RT_VISIBLE_DEVICES malformed.
  static result<library> open(const library_options& options = {});

  library(library&& other) noexcept;
  library& operator=(library&& other) = delete;
  ~library() = default;

  const functions& api() const { return api_; }
  /// What a native return code means: no failure for 0. To be called right after `function` returned, on its thread, because the
  /// device's message is read here.
  failure check(std::int32_t code, const char* function) const;

  /// Devices that this process sees, at least 1 once `check_devices` passed.
  int device_count() const { return device_count_; }
  /// "Ascend910B3"; empty where it is not told.
  const std::string& soc() const { return soc_; }
  /// The files that were loaded, as they were asked for.
  const std::vector<std::string>& files() const { return files_; }
  /// Ops that no loaded library has.
  std::vector<std::string_view> missing_ops() const;
  /// The version of a package such as "runtime"; empty where it is not told (CANN before 8.5).
  std::string version(const char* package) const;
  /// Another library of this process had initialized the runtime before.
  bool shared() const { return shared_; }

  /// Fails unless each id is a device that this process sees. invalid_input.
  status check_devices(const std::vector<int>& ids) const;

  /// Takes back this object's initialization, and leaves others' alone. Everything made from the library must be gone.
  status shutdown();

 private:
  library() = default;
  status load_runtime(const std::string& directory);
  status load_ops(const std::string& directory);
  status initialize();
  /// Fills what is null yet in the table.
  void resolve(void* handle);

  functions api_;
  std::vector<std::string> files_;
  std::string soc_;
  int device_count_ = 0;
  bool initialized_ = false, shared_ = false;
};

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/library.ipp>
#endif
