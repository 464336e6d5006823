/// What `qlib quant` says while it works: one line that is redrawn on a terminal, or a plain line a layer elsewhere.
#pragma once
#include <qlib/core/stopwatch.hpp>
#include <qlib/pipeline/calibrate.hpp>
#include <qlib/pipeline/run.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace qlib::program {

/// How long the rest takes, from what the same kinds of work took so far: copying is faster than quantizing.
class time_left {
 public:
  explicit time_left(const quantization_plan& plan);

  /// Seconds.
  double after(const progress& p);

 private:
  struct work {
    double bytes = 0, done = 0, resumed = 0, seconds = 0;
  };
  std::array<work, 2> kinds_;  ///< made, copied
  double last_ = 0;
  stopwatch watch_;
};

class progress_line {
 public:
  progress_line(const quantization_plan& plan, bool quiet);
  void operator()(const progress& p);

 private:
  bool quiet_, terminal_;
  stopwatch watch_;
  double drawn_ = -1;
  time_left left_;
  std::map<std::string, std::size_t> left_in_layer_;
  std::size_t layers_ = 0, layers_done_ = 0;
};

/// The same for the calibration pass.
class calibration_line {
 public:
  explicit calibration_line(bool quiet);
  void operator()(const calibration_progress& p);

 private:
  bool quiet_, terminal_, told_ = false;
  std::size_t last_ = 0;  ///< layers
  double began_ = 0, now_ = 0;
  stopwatch watch_;
};

}  // namespace qlib::program
