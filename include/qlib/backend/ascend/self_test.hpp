#pragma once
#include <qlib/backend/ascend/ascend_backend.hpp>

#include <memory>
#include <string>
#include <vector>

namespace qlib::inline v0::ascend {

/// One way to do an operation, tried by itself.
struct path_trial {
  std::string operation, path, type;
  std::string outcome;  ///< "works", "differs", "not in the libraries", "not for this chip", or the device's refusal
};

/// One operation as a backend does it, compared with the scalar backend.
struct operation_trial {
  std::string operation, type;
  std::string path;           ///< that was taken
  std::size_t values = 0;     ///< compared
  std::size_t different = 0;  ///< of them
  double largest_error = 0;   ///< in codes, or relative to what `bound` says
  double bound = 0;           ///< largest error allowed; 0: the same bits
  std::size_t different_bound = 0;
  bool passed = false;
};

/// What is known of one device after all of its paths were tried: what a user with hardware sends.
struct self_test_report {
  int device = -1;
  std::string soc, family;
  std::int64_t architecture = 0;  ///< 0: the runtime does not tell
  std::int64_t cube_cores = 0, vector_cores = 0;
  std::size_t free_memory = 0, total_memory = 0;  ///< bytes
  std::vector<std::string> files;                 ///< that were loaded
  std::vector<std::string> versions;              ///< "runtime 8.5.0"
  std::vector<std::string> missing_ops;
  std::vector<path_trial> paths;
  std::vector<operation_trial> operations;
  std::string failure;  ///< of the device itself; empty where it lasted
  bool passed = false;
};

/// Tries every path of every operation on small matrices, and every operation on larger ones. Seconds on a device. Errors: the device does not
/// exist or does not open; whatever fails later is in the report.
result<self_test_report> self_test(std::shared_ptr<library> library, int device);

/// For a terminal: one line a fact, a path and an operation.
std::string to_text(const self_test_report& report);

/// The same as a JSON object.
std::string to_json(const self_test_report& report);

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/self_test.ipp>
#include <qlib/backend/ascend/self_test_text.ipp>
#endif
