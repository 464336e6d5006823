/// Carries out a plan: one streaming pass over the source, chunk by chunk, in bounded memory.
#pragma once
#include <qlib/pipeline/calibration.hpp>
#include <qlib/pipeline/chunk_worker.hpp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/run_settings.hpp>
#include <qlib/pipeline/weight_error.hpp>
#include <qlib/pipeline/work_folder.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// How far a run is; given to `run_options::on_progress` after every chunk, from whichever thread finished it, one at a time.
struct progress {
  std::size_t items_done = 0, items = 0;
  std::uint64_t input_bytes_done = 0, input_bytes = 0;
  std::uint64_t input_bytes_resumed = 0;  ///< of those done: by the run that was interrupted
  std::string_view item;  ///< name of the item that the chunk belongs to
  bool item_finished = false;
  std::uint64_t chunk_bytes = 0;  ///< of the source
  bool copied = false;            ///< the chunk is bytes of the source, unchanged
  bool resumed = false;           ///< the interrupted run made it
};

struct layer_report {
  std::string name, quant_type;
  weight_error error;
  std::string path = {};  ///< what ran where, of devices: "quantize: AscendQuantV3; ranges: Aminmax"
};

struct run_report {
  std::vector<layer_report> layers;  ///< in model order; errors only if they were asked for
  std::vector<std::string> files;
  std::size_t chunks = 0, resumed_chunks = 0;
  std::vector<std::string> warnings;  ///< devices that were lost
};

struct run_options {
  std::string save_path;
  std::string model_path = {};                 ///< the source directory: never replaced, and its copied_files need room
  std::vector<std::string> copied_files = {};  ///< names in the source directory, copied beside the weights
  std::string device = "cpu";                  ///< "cpu" or "cpu:<isa>": which kernels
  std::size_t threads = 1;
  worker_factory workers = {};  ///< instead of `threads` on `device`
  bool resume = false, overwrite = false;
  /// Kept in the work folder and beside the result; a `resume` with others is refused. None: nobody knows what changed.
  std::optional<run_settings> settings = {};
  const calibration* found = nullptr;  ///< for plans with operands
  /// Keep `found` in the work folder under this key (calibration_key) until the commit.
  std::optional<std::uint64_t> keep_found = {};
  /// Calibration decides which layers stay float (--disable_level): the plan's files and documents are not yet those of the result.
  bool open_plan = false;
  bool sync = true;             ///< return when the result is on the disk; false: when the operating system has it
  bool measure_error = false;   ///< dequantize what was written and compare: a second pass over the cached chunk
  bool discard_output = false;  ///< make all bytes and write none: how fast the machine quantizes
  std::function<void(const progress&)> on_progress = {};
};

/// The folder beside `save_path` that a run works in, and that a killed run leaves.
std::string work_folder_of(const std::string& save_path);

/// Where a killed run leaves what calibration found.
std::string stored_calibration_of(const std::string& save_path);

/// Where keep_pass belongs: run_plan removes it when calibration is stored. `second`: of a pass that follows the first one's ranking.
std::string kept_pass_of(const std::string& save_path, bool second = false);

/// Takes the work folder before anything is put into it: what an earlier run left is removed, or with `resume` kept, if its settings are these.
result<held_folder> begin_run(const run_options& options);

/// Removes kept passes, and the work folder if nothing but settings is left in it.
void forget_pass(const std::string& save_path);

/// Whether `resume` finds all of this plan's output at save_path, made with these settings: run_plan then reports so and does nothing, with or
/// without `found`.
bool nothing_left(const quantization_plan& plan, const run_options& options);

/// What is wrong with the target before anything is written: not empty, not writable, too little space, an interrupted or complete run with other
/// settings. A `resume` with nothing to resume just starts.
errors check_target(const quantization_plan& plan, const run_options& options);

/// Quantizes. Nothing appears at save_path until everything is written; then all of it, by one rename.
///
/// Any number of threads gives the same bytes. Source pages are given back as they are used, so that resident memory does not grow
/// with the model. Errors: a NaN or infinity (input error; the work folder is removed), or a failing machine (run_failed; the work
/// folder stays and `resume` continues to the same bytes).
///
/// With `sync`, files and folders are on the disk before the rename, and the rename before the return: a power failure cannot take a result back. One
/// in the middle may take chunks that the journal calls finished, so that a `resume` on another boot of the machine makes all chunks again.
result<run_report> run_plan(const checkpoint& source, const quantization_plan& plan, const run_options& options);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/run.ipp>
#endif
