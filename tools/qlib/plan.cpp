#include "quant_options.hpp"

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <qlib/pipeline/chunk.hpp>

#include <memory>

namespace qlib::program {

namespace {

int run(const quant_options& o) {
  prepared p;
  errors found = prepare(o, p);
  if (found.empty() && !o.save_path.empty()) {
    run_options target;
    target.save_path = o.save_path;
    target.model_path = o.model_path;
    target.copied_files = p.copied_files;
    target.resume = o.resume;
    target.overwrite = o.overwrite;
    if (o.resume) target.settings = settings_of(o, p);
    found = check_target(p.plan, target);
  }
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
    j["output_bytes"] = p.plan.output_bytes;
    j["peak_memory_bytes"] = forecast_memory(o, p);
    if (found.empty()) j["seconds"] = forecast_time(o, p);
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
      fmt::print("{:<72} {:>8} {:<20} {}\n", s.tensor.name, name_of(s.tensor.type), "[" + shape + "]", s.quant_type);
    }
    fmt::print("{} layers quantized, {} float; {} -> {} in {} file{}; at most {} of memory; time {} (without disks)\n", p.plan.quantized,
               p.plan.floats, size_text(static_cast<double>(p.plan.input_bytes)), size_text(static_cast<double>(p.plan.output_bytes)),
               p.plan.files.size(), p.plan.files.size() == 1 ? "" : "s", size_text(static_cast<double>(forecast_memory(o, p))),
               duration_text(forecast_time(o, p)));
  }
  return exit_done;
}

}  // namespace

void declare_plan(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("plan", "check everything and list what `quant` would write, reading only headers");
  auto options = std::make_shared<quant_options>();
  add_quant_options(*c, *options, false);
  c->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace qlib::program
