#include "quant_options.hpp"

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <qlib/backend/ascend/device_list.hpp>
#include <qlib/core/stopwatch.hpp>

#include <memory>
#include <string>
#include <vector>

namespace qlib::program {

namespace {

/// What a forecast of time takes for granted, a sentence each.
std::vector<std::string> assumptions_of(const quant_options& o, const time_forecast& t, std::uint64_t input_bytes) {
  std::vector<std::string> out;
  out.push_back(fmt::format("{} thread{}, on this machine and as busy as it is now", thread_count(o), thread_count(o) == 1 ? "" : "s"));
  const double uncached = static_cast<double>(input_bytes) * (1 - t.cached_share);
  if (t.read_bytes_a_second > 0)
    out.push_back(
        fmt::format("{} of the source is read from its disk at {}/s, the rest is in memory", size_text(uncached), size_text(t.read_bytes_a_second)));
  else out.push_back("all of the source is in the page cache");
  out.push_back(t.probed_output ? "the output is written as fast as a probe beside it"
                                : "without --save_path the output's disk is not known: it is written as to memory");
  if (ascend::names_npus(o.device)) out.push_back("quantizing takes as long as on the CPU");
  return out;
}

int run(const quant_options& o) {
  const stopwatch start;
  prepared p;
  errors found = prepare(o, p);
  if (found.empty() && !o.save_path.empty()) {
    run_options target;
    target.save_path = o.save_path;
    target.model_path = o.model_path;
    target.copied_files = p.copied_files;
    target.resume = o.resume;
    target.overwrite = o.overwrite;
    target.open_plan = disabled_layers(o.disable_level).value_or(0) > 0;
    if (o.resume) target.settings = settings_of(o, p);
    found = check_target(p.plan, target);
  }
  const double prepared_seconds = start.seconds();
  const std::uint64_t memory = forecast_memory(o, p);
  const time_forecast time = found.empty() ? forecast_time(o, p) : time_forecast{};
  const double seconds = prepared_seconds + time.seconds();
  if (o.common.json) {
    nlohmann::ordered_json j;
    j["tensors"] = nlohmann::ordered_json::array();
    for (const output_slot& s : p.plan.slots)
      j["tensors"].push_back({{"name", s.tensor.name},
                              {"dtype", name_of(s.tensor.type)},
                              {"shape", s.tensor.shape},
                              {"bytes", s.bytes},
                              {"source", s.source},
                              {"quant_type", s.quant_type}});
    j["model_type"] = p.plan.model_type;
    j["format"] = p.plan.format;
    j["quantized_layers"] = p.plan.quantized;
    j["float_layers"] = p.plan.floats;
    j["files"] = nlohmann::ordered_json::array();
    for (const planned_file& f : p.plan.files) j["files"].push_back({{"name", f.name}, {"bytes", f.bytes}});
    j["input_bytes"] = p.plan.input_bytes;
    j["output_bytes"] = p.plan.output_bytes;
    j["peak_memory_bytes"] = memory;
    if (found.empty()) {
      j["seconds"] = seconds;
      j["seconds_of"] = {{"preparing", prepared_seconds}, {"calibrating", time.calibration}, {"suppressing_outliers", time.search},
                         {"quantizing", time.weights},    {"writing", time.writing},         {"reading_from_disk", time.reading}};
      j["source_cached_share"] = time.cached_share;
      j["assumptions"] = assumptions_of(o, time, p.plan.input_bytes);
    }
    j["errors"] = nlohmann::ordered_json::array();
    for (const error& e : found) j["errors"].push_back(e.text());
    j["warnings"] = p.plan.warnings;
    fmt::print("{}\n", j.dump(1));
  }
  if (!found.empty()) return report_errors(found);
  for (const std::string& w : p.plan.warnings) log_warning(o.common, w);
  if (!o.common.json) {
    for (const output_slot& s : p.plan.slots) {
      std::string shape;
      for (std::uint64_t d : s.tensor.shape) shape += (shape.empty() ? "" : ", ") + std::to_string(d);
      fmt::print("{:<72} {:>8} {:<20} {}\n", one_line(s.tensor.name), name_of(s.tensor.type), "[" + shape + "]", s.quant_type);
    }
    fmt::print("{} layers quantized, {} float; {} -> {} in {} file{}; at most {} of memory; time {}\n", p.plan.quantized, p.plan.floats,
               size_text(static_cast<double>(p.plan.input_bytes)), size_text(static_cast<double>(p.plan.output_bytes)), p.plan.files.size(),
               p.plan.files.size() == 1 ? "" : "s", size_text(static_cast<double>(memory)), duration_text(seconds));
    for (const std::string& a : assumptions_of(o, time, p.plan.input_bytes)) fmt::print("  {}\n", a);
  }
  return exit_done;
}

}  // namespace

void declare_plan(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("plan", "check everything, list what `quant` would write, and forecast its time and memory");
  auto options = std::make_shared<quant_options>();
  add_quant_options(*c, *options, false);
  c->footer(
      "Reads headers, and of weights what its probes of time touch; writes nothing.\n"
      "Examples:\n"
      "  qlib plan --model_path Qwen3-8B --quant_type w8a8_dynamic\n"
      "  qlib plan --model_path Qwen3-8B --save_path out --config_path recipe.yaml --json");
  c->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace qlib::program
