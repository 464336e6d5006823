#include "command.hpp"

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <qlib/backend/ascend/device_list.hpp>
#include <qlib/backend/dispatch.hpp>
#include <qlib/pipeline/ascend/npu_workers.hpp>

#include <memory>
#include <string>

namespace qlib::program {

namespace {

struct devices_flags {
  common_options common;
  std::string selftest;
};

int list(const common_options& o) {
  const auto targets = compiled_targets();
  const npu_presence npu = find_npu();
  if (o.json) {
    nlohmann::ordered_json j;
    j["cpu"] = {{"isa", chosen_target()}, {"available", targets}};
    j["npu"] = {{"available", npu.available}, {npu.available ? "devices" : "reason", npu.text}};
    fmt::print("{}\n", j.dump(1));
    return exit_done;
  }
  fmt::print("cpu   {} (chosen)", chosen_target());
  for (std::string_view t : targets)
    if (t != chosen_target()) fmt::print(", {}", t);
  fmt::print("\nnpu   {}{}\n", npu.available ? "" : "not available: ", npu.text);
  return exit_done;
}

/// Exit code 1: a device computes something else than the CPU.
int test(const devices_flags& f) {
  if (!ascend::names_npus(f.selftest))
    return report_error({.where = "--selftest", .subject = f.selftest, .problem = "cannot be tested", .remedy = "use npu or npu:0,1,..."});
  const auto done = test_npu_devices(f.selftest);
  if (!done) return report_error(done.error());
  fmt::print("{}\n", f.common.json ? done->json : done->text);
  return done->passed ? exit_done : exit_failed;
}

}  // namespace

void declare_devices(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("devices", "list the backends, and the instruction set that would be used");
  auto flags = std::make_shared<devices_flags>();
  add_common_options(*c, flags->common);
  c->add_option("--selftest", flags->selftest, "compare every operation of a device with the CPU: npu or npu:0,1,...");
  c->footer(
      "Examples:\n"
      "  qlib devices --json\n"
      "  qlib devices --selftest npu:0");
  c->callback([flags, &exit_code] { exit_code = flags->selftest.empty() ? list(flags->common) : test(*flags); });
}

}  // namespace qlib::program
