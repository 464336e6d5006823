/// What `qlib quant` says while it works: one line that is redrawn on a terminal, or a plain line a layer elsewhere.
#pragma once
#include "command.hpp"

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

  /// As text, behind the last `after`.
  std::string text(double seconds) const;

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
  /// Both must outlive it.
  progress_line(const quantization_plan& plan, const common_options& options);
  void operator()(const progress& p);

 private:
  const common_options& options_;
  terminal_line terminal_;
  stopwatch watch_;
  double drawn_ = -1;
  time_left time_;
  std::map<std::string, std::size_t, std::less<>> left_;  ///< tensors by layer; what is in no layer by its name
  std::size_t layers_ = 0, layers_done_ = 0;              ///< of decoders and towers
};

/// The same for the calibration pass.
class calibration_line {
 public:
  /// The options must outlive it.
  explicit calibration_line(const common_options& options) : options_{options} {}
  void operator()(const calibration_progress& p);

 private:
  const common_options& options_;
  terminal_line terminal_;
  bool told_ = false;
  std::size_t last_ = 0;  ///< layers
  double began_ = 0, now_ = 0;
  stopwatch watch_;
};

}  // namespace qlib::program
