#include "command.hpp"

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <qlib/backend/dispatch.hpp>

#include <memory>

namespace qlib::program {

namespace {

int run(const common_options& o) {
  const auto targets = compiled_targets();
  if (o.json) {
    nlohmann::ordered_json j;
    j["cpu"] = {{"isa", chosen_target()}, {"available", targets}};
    j["npu"] = {{"available", false}, {"reason", "this version has no NPU backend"}};
    fmt::print("{}\n", j.dump(1));
    return exit_done;
  }
  fmt::print("cpu   {} (chosen)", chosen_target());
  for (std::string_view t : targets)
    if (t != chosen_target()) fmt::print(", {}", t);
  fmt::print("\nnpu   not available: this version has no NPU backend\n");
  return exit_done;
}

}  // namespace

void declare_devices(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("devices", "list the backends, and the instruction set that would be used");
  auto options = std::make_shared<common_options>();
  add_common_options(*c, *options);
  c->footer("Example:\n  qlib devices --json");
  c->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace qlib::program
