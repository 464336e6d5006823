#include "command.hpp"

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <qlib/format/verify.hpp>

#include <memory>

namespace qlib::program {

namespace {

struct verify_options {
  common_options common;
  std::string directory, engine;
};

std::string line_of(const violation& v) {
  return v.tensor.empty() ? fmt::format("{}: {}: {}", v.file, v.rule, v.message) : fmt::format("{}: {}: {}: {}", v.file, v.tensor, v.rule, v.message);
}

nlohmann::ordered_json json_of(const std::vector<violation>& list) {
  auto out = nlohmann::ordered_json::array();
  for (const violation& v : list) out.push_back({{"file", v.file}, {"tensor", v.tensor}, {"rule", v.rule}, {"message", v.message}});
  return out;
}

int run(const verify_options& o) {
  std::optional<engine> target;
  if (!o.engine.empty() && !(target = engine_from_name(o.engine)))
    return report_errors(
        o.common, {{.where = "--engine", .problem = "\"" + o.engine + "\" is unknown", .remedy = "use vllm-ascend, mindie, vllm or vllm-gcu"}});
  verification found;
  if (errors e = verify_checkpoint(o.directory, target, found); !e.empty()) return report_errors(o.common, e);
  if (o.common.json) {
    nlohmann::ordered_json j;
    j["format"] = found.format;
    j["violations"] = json_of(found.violations);
    j["warnings"] = json_of(found.warnings);
    // A tensor's name is whatever bytes the file holds.
    fmt::print("{}\n", j.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  } else {
    for (const violation& v : found.violations) fmt::print("{}\n", one_line(line_of(v)));
    for (const violation& v : found.warnings) log_warning(o.common, line_of(v));
  }
  if (o.common.says_info())
    print_stderr(one_line(fmt::format("{}: {}{}, {} violation{}, {} warning{}", o.directory, found.format,
                                      target ? fmt::format(" for {}", name_of(*target)) : "", found.violations.size(),
                                      found.violations.size() == 1 ? "" : "s", found.warnings.size(), found.warnings.size() == 1 ? "" : "s")) +
                 "\n");
  return found.violations.empty() ? exit_done : exit_invalid;
}

}  // namespace

void declare_verify(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("verify", "check a quantized checkpoint against the rules of its format and of an engine");
  auto options = std::make_shared<verify_options>();
  add_common_options(*c, options->common);
  c->add_option("directory", options->directory, "the checkpoint, ours or another tool's")->required();
  c->add_option("--engine", options->engine, "vllm-ascend, mindie, vllm or vllm-gcu: also what this engine refuses or misreads");
  c->footer(
      "One line a violation, `file: tensor: rule: message`, on stdout; exit code 2 when there is any.\n"
      "Example:\n  qlib verify Qwen3-8B-W8A8 --engine vllm-ascend");
  c->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace qlib::program
