/// The flags of `qlib quant`, which `qlib plan` takes too, and what they amount to.
#pragma once
#include "command.hpp"

#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/run.hpp>
#include <qlib/recipe/flags.hpp>

namespace qlib::program {

struct quant_options {
  common_options common;
  std::string model_path, save_path, model_type, config_path, format = "", compat = "none", device = "cpu", report;
  std::string w_sym;
  quant_flags flags;
  double part_file_size = -1;
  std::size_t threads = 0;
  bool trust_remote_code = false, resume = false, overwrite = false, dry_run = false;
};

/// A model, the recipe for it, and the plan that they make.
struct prepared {
  checkpoint source;
  model_layout layout;
  qlib::recipe recipe;
  quantization_plan plan;
  std::vector<std::string> copied_files;
};

void add_quant_options(CLI::App& command, quant_options& options, bool needs_save_path);

/// --threads, or all cores.
std::size_t thread_count(const quant_options& options);

/// Reads and checks everything but weights. All errors at once.
errors prepare(const quant_options& options, prepared& out);

}  // namespace qlib::program
