#include "command.hpp"

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <qlib/backend/native.hpp>

namespace qlib::program {

void declare_devices(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("devices", "list the backends");
  c->callback([&exit_code] {
    fmt::print("cpu  {}\n", native_backend::name);
    exit_code = exit_done;
  });
}

}  // namespace qlib::program
