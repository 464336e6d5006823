/// The flags of `qlib quant`, which `qlib plan` takes too, and what they amount to.
#pragma once
#include "command.hpp"

#include <qlib/model/calibration_data.hpp>
#include <qlib/model/decoder.hpp>
#include <qlib/pipeline/ascend/npu_workers.hpp>
#include <qlib/pipeline/calibrate.hpp>
#include <qlib/pipeline/forecast_time.hpp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/run.hpp>
#include <qlib/recipe/flags.hpp>

#include <functional>
#include <memory>
#include <optional>

namespace qlib::program {

struct quant_options {
  common_options common;
  std::string model_path, save_path, model_type, config_path, format = "", compat = "none", device = "cpu", report;
  std::string w_sym, w_method;
  bool is_lowbit = false, open_outlier = false, do_smooth = false;  ///< msModelSlim's
  double fraction = 0;
  quant_flags flags;
  double part_file_size = -1;
  std::string calib_file, calib_ids, anti_file, disable_level;
  calibration_options calib;
  std::uint64_t max_memory = 0;
  std::size_t threads = 0;
  bool runs_model = false;  ///< the command needs samples and the decoder even if the recipe does not
  bool trust_remote_code = false, resume = false, overwrite = false, dry_run = false, reproducible = false;
};

/// The float model and the samples that run through it.
struct forward_pass {
  checkpoint_parameters parameters;
  decoder model;
  calibration_data data;
  calibration_data suppression;  ///< samples of --anti_file; none: those of `data` serve for both
};

/// A model, the recipe for it, and the plan that they make.
struct prepared {
  checkpoint source;
  model_layout layout;
  qlib::recipe recipe;
  plan_options options;
  std::optional<model_description> description;  ///< of families that calibration knows
  errors description_errors;                     ///< why there is none
  quantization_plan plan;
  std::unique_ptr<forward_pass> forward;  ///< of plans with operands, and of commands that run the model
  std::vector<std::string> copied_files;
  std::optional<npu_devices> npu;  ///< of --device npu
};

void add_quant_options(CLI::App& command, quant_options& options, bool needs_save_path);

/// What decides the bytes of the run; of `p` before calibration.
run_settings settings_of(const quant_options& options, const prepared& p);

/// The patterns that commas separate; those within {a,b}, [,] or (a{1,3}) belong to a pattern.
std::vector<std::string> split_patterns(const std::vector<std::string>& texts);

/// --threads, or all cores.
std::size_t thread_count(const quant_options& options);

/// Reads and checks everything but weights. All errors at once.
errors prepare(const quant_options& options, prepared& out);

/// Of plans that need calibration and commands that run the model: samples and the decoder that they will run through. (prepare does it.)
errors prepare_forward(const quant_options& options, prepared& out);

/// Most memory that a run takes, in bytes, with what this process holds already.
std::uint64_t forecast_memory(const quant_options& options, const prepared& p);

/// How long it will take, by short probes of this machine.
time_forecast forecast_time(const quant_options& options, const prepared& p);

/// How calibration runs, without progress and --resume.
calibrate_options calibration_of(const quant_options& options, const prepared& p);

/// --disable_level: how many layers stay float; nothing if it is not a level.
std::optional<std::size_t> disabled_layers(const std::string& level);

/// What the calibration pass found.
struct calibrated {
  calibration found;
  std::uint64_t key = 0;  ///< under which --resume finds it
  bool resumed = false;   ///< an interrupted run had found it
};

/// Runs the calibration pass with the samples of `p`, unless --resume finds what it found before, and keeps layers float as --disable_level says: the
/// plan changes then.
result<calibrated> run_calibration(const quant_options& options, prepared& p, std::function<void(const calibration_progress&)> on_progress);

}  // namespace qlib::program
