/// What the sub-commands share: how they are declared, and how they end.
#pragma once
#include "messages.hpp"

#include <qlib/core/status.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace qlib::program {

inline constexpr int exit_done = 0, exit_failed = 1, exit_invalid = 2;

/// Flags that every command has.
struct common_options {
  bool json = false, quiet = false;
  std::string log_level{};           ///< as given
  verbosity says = verbosity::info;  ///< of both

  bool says_info() const { return says >= verbosity::info; }
};

void add_common_options(CLI::App& command, common_options& options);

/// `qlib: error: <text>`, one line an error, to stderr. Returns the exit code that the errors stand for.
int report_errors(const errors& found);
int report_error(const error& e);

/// The same; with --json a document {"errors": [...]} on stdout too.
int report_errors(const common_options& options, const errors& found);

/// Lines on stderr, as far as --log_level lets them through: "qlib: warning: <text>", "qlib: <text>", "qlib: debug: <text>".
void log_warning(const common_options& options, std::string_view text);
void log_info(const common_options& options, std::string_view text);
void log_debug(const common_options& options, std::string_view text);

/// "3.20 GB": powers of ten, as disks and file managers count.
std::string size_text(double bytes);

/// The same, rounded up, with room for what differs from run to run: a size to give.
std::string enough_text(double bytes);

/// "40 s", "12 min", "3.5 h".
std::string duration_text(double seconds);

/// Declare a sub-command. Its action stores the exit code.
void declare_quant(CLI::App& app, int& exit_code);
void declare_plan(CLI::App& app, int& exit_code);
void declare_inspect(CLI::App& app, int& exit_code);
void declare_verify(CLI::App& app, int& exit_code);
void declare_devices(CLI::App& app, int& exit_code);
void declare_tokenize(CLI::App& app, int& exit_code);
void declare_eval(CLI::App& app, int& exit_code);
void declare_report(CLI::App& app, int& exit_code);
void declare_analyze(CLI::App& app, int& exit_code);
void declare_completion(CLI::App& app, int& exit_code);

}  // namespace qlib::program
