/// Ascend devices as workers of a run: `--device npu:0,1`.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/pipeline/chunk_worker.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// Devices of this host that chunks are made on. Copies share them.
class npu_devices {
 public:
  /// Of "npu" or "npu:0,1,3": loads Ascend's libraries, and checks that the devices are there. One line says what is missing where they are not
  /// (invalid_input). `log` receives a line for each path that is given up and each device that is lost, from any thread.
  static result<npu_devices> open(std::string_view devices, std::function<void(std::string_view)> log = {});

  /// Three workers a device: while one waits for copies, another computes. Results do not depend on the number of devices.
  worker_factory workers() const;

  /// "Ascend910B3"
  std::string soc() const;
  std::size_t size() const;

  /// Ends the initialization; all workers must be gone.
  status shutdown();

 private:
  struct state;
  std::shared_ptr<state> state_;
};

/// `qlib devices --selftest`: what a user with hardware sends us, of each device.
struct npu_self_test {
  std::string text, json;
  bool passed = false;
};
result<npu_self_test> test_npu_devices(std::string_view devices);

/// One line: which chip and how many, or why there is none.
struct npu_presence {
  bool available = false;
  std::string text;
};
npu_presence find_npu();

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/ascend/npu_workers.ipp>
#endif
