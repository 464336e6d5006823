#include "process_memory.hpp"
#include "progress_lines.hpp"
#include "quant_options.hpp"

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <qlib/core/stopwatch.hpp>
#include <qlib/pipeline/work_folder.hpp>
#include <qlib/report/describe.hpp>
#include <qlib/report/report_folder.hpp>
#include <qlib/report/report_json.hpp>

#include <cctype>
#include <csignal>
#include <memory>
#include <string>
#include <utility>

#include <unistd.h>

namespace qlib::program {

namespace {

/// Of a machine that failed when the work folder was there: the run can be continued.
error resumable(error e) {
  if (e.kind == error_kind::run_failed && e.remedy.find("--resume") == std::string::npos)
    e.remedy += std::string{e.remedy.empty() ? "" : " and "} + "rerun with --resume";
  return e;
}

/// Ctrl-C, or SIGTERM, ends the run as always, but says how to go on.
void say_how_to_resume(int signal) {
  constexpr char text[] = "\nqlib: interrupted: run the same command with --resume to continue\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, sizeof text - 1);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void catch_signals() {
  for (const int signal : {SIGINT, SIGTERM})  // a job in the background, which ignores SIGINT, goes on doing so
    if (std::signal(signal, say_how_to_resume) == SIG_IGN) std::signal(signal, SIG_IGN);
}

/// --report FILE.json: no folder and no page.
bool json_alone(const std::string& report) { return report.ends_with(".json"); }

int run(const quant_options& o) {
  const stopwatch start;
  prepared p;
  errors found = prepare(o, p);
  run_options options;
  options.save_path = o.save_path;
  options.model_path = o.model_path;
  options.copied_files = p.copied_files;
  options.device = o.device;
  options.threads = thread_count(o);
  options.resume = o.resume;
  options.overwrite = o.overwrite;
  options.open_plan = disabled_layers(o.disable_level).value_or(0) > 0;
  options.measure_error = o.common.json || !o.report.empty();
  if (found.empty()) options.settings = settings_of(o, p);
  if (found.empty()) found = check_target(p.plan, options);
  if (!o.report.empty())
    if (const status s = json_alone(o.report) ? check_report_file(o.report) : check_report_folder(o.report); !s) found.push_back(s.error());
  if (!found.empty()) return report_errors(o.common, found);
  for (const std::string& w : p.plan.warnings) log_warning(o.common, w);
  const auto letters = [](const std::string& name) {  // "Qwen3", "DeepSeek-V3": users write the name of the release
    std::string out;
    for (const char c : name)
      if (std::isalnum(static_cast<unsigned char>(c))) out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return out;
  };
  if (letters(o.model_type) != letters(p.plan.model_type) && !o.model_type.empty())
    log_warning(o.common, fmt::format("--model_type {} is not config.json's model_type {}", o.model_type, p.plan.model_type));
  if (o.dry_run) {
    if (o.common.json)
      fmt::print("{}\n", nlohmann::ordered_json{{"model_type", p.plan.model_type},
                                                {"format", p.plan.format},
                                                {"input_bytes", p.plan.input_bytes},
                                                {"output_bytes", p.plan.output_bytes},
                                                {"peak_memory_bytes", forecast_memory(o, p)},
                                                {"tensors", {{"quantized", p.plan.quantized}, {"float", p.plan.floats}}},
                                                {"dry_run", true}}
                             .dump(1));
    log_info(o.common,
             fmt::format("dry run: {} layers would be quantized, {} written", p.plan.quantized, size_text(static_cast<double>(p.plan.output_bytes))));
    return exit_done;
  }
  log_debug(o.common, fmt::format("{} threads, device {}; {} tensors from {}, {} inputs and caches to calibrate, {} sub-graphs to rescale",
                                  thread_count(o), o.device, p.plan.items.size(), size_text(static_cast<double>(p.plan.input_bytes)),
                                  p.plan.operands.size(), p.plan.suppressions.size()));
  catch_signals();
  std::optional<calibration> found_ranges;
  double calibration_seconds = 0;
  const bool complete = nothing_left(p.plan, options);
  if (complete)
    log_info(o.common, fmt::format("{} is complete: nothing is done{}", o.save_path,
                                   load_settings(o.save_path) ? "" : "; other options that its documents do not show need --overwrite"));
  if (p.forward && !complete) {
    const auto held = begin_run(options);  // given back before run_plan takes it
    if (!held) return report_errors(o.common, {resumable(held.error())});
    for (const std::string& w : p.forward->data.report.warnings) log_warning(o.common, w);
    if (const calibration_report& anti = p.forward->suppression.report; !anti.file.empty()) {
      log_info(o.common, "suppressing outliers: " + anti.text());
      for (const std::string& w : anti.warnings) log_warning(o.common, w);
    }
    calibration_line line{o.common};
    auto ranges = run_calibration(o, p, [&](const calibration_progress& state) { line(state); });
    if (!ranges) {
      if (ranges.error().kind == error_kind::invalid_input) forget_pass(o.save_path);  // it would fail again
      return report_errors(o.common, {resumable(ranges.error())});
    }
    if (!ranges->resumed) options.keep_found = ranges->key;
    found_ranges = std::move(ranges->found);
    calibration_seconds = start.seconds();
    for (const std::string& w : found_ranges->warnings) log_warning(o.common, w);
    options.found = &*found_ranges;
  }
  if (p.plan.rotation && !options.found && !complete) {
    auto folds = rotate_only(p.plan, checkpoint_parameters{p.source, p.layout});
    if (!folds) return report_errors(o.common, {resumable(folds.error())});
    found_ranges = *std::move(folds);
    options.found = &*found_ranges;
  }
  progress_line line{p.plan, o.common};
  options.on_progress = [&](const progress& state) { line(state); };
  if (p.npu) options.workers = p.npu->workers();
  auto done = run_plan(p.source, p.plan, options);
  if (p.npu)
    if (status s = p.npu->shutdown(); !s) log_warning(o.common, s.error().text());
  if (done)
    for (const std::string& w : done->warnings) log_warning(o.common, w);
  if (!done) return report_errors(o.common, {resumable(done.error())});
  const double seconds = start.seconds();

  if (o.common.json || !o.report.empty()) {
    accuracy_report report = describe_run(p.source, p.plan, *done, options.found, p.forward ? &p.forward->data.report : nullptr);
    if (!o.flags.quant_type.empty()) report.quant_type = o.flags.quant_type;
    report.seconds = seconds;
    report.peak_rss_bytes = memory_of_process().peak;
    if (report.calibration) report.calibration->seconds = calibration_seconds;
    if (o.common.json) fmt::print("{}\n", json_of(report));
    if (!o.report.empty()) {
      const status written = json_alone(o.report) ? write_report_file(o.report, json_of(report) + "\n") : write_report(o.report, report);
      if (!written) return report_error(written.error());
      if (!o.common.json && !o.common.quiet && !json_alone(o.report)) fmt::print("{}/report.html: the report\n", o.report);
    }
  }
  if (!o.common.json && !o.common.quiet)
    fmt::print("{}: {} layers quantized, {} -> {} ({:.2f}x), {:.2f} s, peak memory {}\n", o.save_path, p.plan.quantized,
               size_text(static_cast<double>(p.plan.input_bytes)), size_text(static_cast<double>(p.plan.output_bytes)),
               static_cast<double>(p.plan.input_bytes) / static_cast<double>(std::max<std::uint64_t>(1, p.plan.output_bytes)), seconds,
               size_text(static_cast<double>(memory_of_process().peak)));
  return exit_done;
}

}  // namespace

void declare_quant(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("quant", "quantize a checkpoint");
  auto options = std::make_shared<quant_options>();
  add_quant_options(*c, *options, true);
  c->footer(
      "Examples:\n"
      "  qlib quant --model_path Qwen3-8B --save_path out --quant_type w8a8_dynamic\n"
      "  qlib quant --model_path Qwen3-8B --save_path out --quant_type w4a16 --group_size 128 --format compressed_tensors\n"
      "  qlib quant --model_path Qwen3-8B --save_path out --quant_type w8a8 --calib_file data.jsonl\n"
      "  qlib quant --model_path Qwen3-8B --save_path out --config_path recipe.yaml");
  c->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace qlib::program
