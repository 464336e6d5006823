#include "command.hpp"

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <qlib/io/checkpoint.hpp>

#include <map>
#include <memory>

namespace qlib::program {

namespace {

struct inspect_options {
  common_options common;
  std::string directory;
};

int run(const inspect_options& o) {
  checkpoint source;
  if (errors found = checkpoint::open(o.directory, source); !found.empty()) return report_errors(found);
  std::map<std::string_view, std::pair<std::size_t, std::uint64_t>> by_type;
  for (const stored_tensor& t : source.tensors()) {
    auto& [count, bytes] = by_type[name_of(t.info.dtype)];
    ++count;
    bytes += t.info.bytes();
  }
  const auto config = nlohmann::json::parse(source.config_text(), nullptr, false);
  const std::string model_type = config.value("model_type", std::string{"unknown"});
  if (o.common.json) {
    nlohmann::ordered_json j;
    j["model_type"] = model_type;
    j["bytes"] = source.total_bytes();
    for (const auto& [type, row] : by_type) j["dtypes"][std::string{type}] = {{"tensors", row.first}, {"bytes", row.second}};
    fmt::print("{}\n", j.dump(1));
  } else {
    fmt::print("{}: {}, {} tensors, {}\n", o.directory, model_type, source.tensors().size(), size_text(static_cast<double>(source.total_bytes())));
    for (const auto& [type, row] : by_type) fmt::print("  {:<8} {:>6} tensors {:>12}\n", type, row.first, size_text(static_cast<double>(row.second)));
  }
  return exit_done;
}

}  // namespace

void declare_inspect(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("inspect", "say what a checkpoint is");
  auto options = std::make_shared<inspect_options>();
  add_common_options(*c, options->common);
  c->add_option("directory", options->directory, "the checkpoint")->required();
  c->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace qlib::program
