/// How long a run will take, from short probes of this machine.
#pragma once
#include <qlib/io/storage_speed.hpp>
#include <qlib/model/decoder.hpp>
#include <qlib/pipeline/calibrate.hpp>
#include <qlib/pipeline/plan.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// A run that is to be forecast. What it refers to must outlive it.
struct forecast_request {
  const checkpoint& source;
  const parameter_source& parameters;  ///< of `source`
  const quantization_plan& plan;
  std::size_t threads = 1;
  std::string folder = {};         ///< one that exists, on the file system of the output; empty: the disk is not known
  bool measure_error = false;      ///< run_options::measure_error
  const decoder* model = nullptr;  ///< of plans that calibrate
  std::span<const std::vector<std::int32_t>> samples = {};
  calibrate_options calibrate = {};
  std::size_t passes = 1;  ///< calibration passes
};

/// Seconds of wall-clock time.
struct time_forecast {
  double calibration = 0;          ///< forward passes, and what observers see of them
  double search = 0;               ///< solving for outlier suppression
  double weights = 0;              ///< folding, quantizing, packing
  double writing = 0;              ///< and syncing, beyond the time that threads quantize meanwhile
  double reading = 0;              ///< from the disk, of what is not in the page cache
  double cached_share = 1;         ///< of the source
  bool probed_output = false;      ///< `writing` is that of forecast_request::folder
  double read_bytes_a_second = 0;  ///< of the source's disk; 0: nothing has to be read from it

  double seconds() const { return calibration + search + weights + writing + reading; }
};

/// Runs miniatures of what the run will do, with its kernels and threads, about a second in all and less for small models: some chunks of
/// each kind are quantized; of each kind of decoder layer one runs, with weights of the right shapes, over as many of the samples' tokens as time
/// allows; one product of each sub-graph's search is computed on some rows. Of weights some megabytes are read; nothing stays behind.
///
/// The forecast is for this machine as busy as it is now.
time_forecast forecast_time(const forecast_request& request);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/forecast_time.ipp>
#endif
