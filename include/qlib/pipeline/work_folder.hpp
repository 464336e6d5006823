/// The folder that a run works in, held against other runs.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/io/file.hpp>

#include <string>

namespace qlib::inline v0 {

/// As long as it lives, no other run takes the same folder; the hold ends with the process, however it dies. File systems without locks are used
/// without one.
class held_folder {
 public:
  /// Makes the folder if it is not there. Errors: another run holds it; it cannot be made.
  static result<held_folder> take(const std::string& path);

  /// Whether a run holds it now.
  static bool is_taken(const std::string& path);

 private:
  file_descriptor folder_;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/work_folder.ipp>
#endif
