#include "command.hpp"
#include "number_flags.hpp"

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <qlib/version.hpp>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <system_error>
#include <utility>

#if __has_include(<malloc.h>)
#include <malloc.h>
#endif

namespace qlib::program {

void add_common_options(CLI::App& command, common_options& options) {
  command.add_flag("--json", options.json, "print one JSON document on stdout");
  command.add_flag("--quiet", options.quiet, "errors only, and no line about the result");
  command.add_option("--log_level", options.log_level, "what is said on stderr: error, warning, info (default) or debug")
      ->envname("MSMODELSLIM_LOG_LEVEL");
  command.parse_complete_callback([&command, &options] {
    if (options.log_level.empty() && command.count("--log_level") == 0) options.log_level = "info";
    const auto level = verbosity_from_name(options.log_level);
    if (!level) throw CLI::ValidationError("--log_level", "\"" + options.log_level + "\" is none of error, warning, info, debug");
    options.says = options.quiet ? verbosity::error : *level;
  });
}

int report_error(const error& e) {
  print_stderr("qlib: error: " + one_line(e.text()) + "\n");
  return e.kind == error_kind::run_failed ? exit_failed : exit_invalid;
}

int report_errors(const errors& found) {
  constexpr std::size_t most_alike = 100;  // the same of every layer is said so often, then counted
  int code = exit_done;
  std::map<std::string, std::size_t> said;
  for (const error& e : found) {
    if (const std::size_t n = ++said[e.where + e.problem + e.remedy]; n <= most_alike) code = std::max(code, report_error(e));
  }
  for (const error& e : found) {
    std::size_t& n = said[e.where + e.problem + e.remedy];
    if (n <= most_alike) continue;
    report_error({e.kind, e.where, std::to_string(n - most_alike) + " more tensors", e.problem, e.remedy});
    n = 0;
  }
  return code;
}

int report_errors(const common_options& options, const errors& found) {
  if (options.json) {
    nlohmann::ordered_json j{{"errors", nlohmann::ordered_json::array()}};
    for (const error& e : found) j["errors"].push_back(e.text());
    // A name is whatever bytes a file holds.
    fmt::print("{}\n", j.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  }
  return report_errors(found);
}

void log_warning(const common_options& options, std::string_view text) {
  if (options.says >= verbosity::warning) print_stderr("qlib: warning: " + one_line(text) + "\n");
}

void log_info(const common_options& options, std::string_view text) {
  if (options.says >= verbosity::info) print_stderr("qlib: " + one_line(text) + "\n");
}

void log_debug(const common_options& options, std::string_view text) {
  if (options.says >= verbosity::debug) print_stderr("qlib: debug: " + one_line(text) + "\n");
}

static std::pair<double, const char*> in_units(double bytes) {
  const char* unit = "B";
  for (const char* next : {"kB", "MB", "GB", "TB"}) {
    if (bytes < 1000) break;
    bytes /= 1000;
    unit = next;
  }
  return {bytes, unit};
}

std::string size_text(double bytes) {
  const auto [number, unit] = in_units(bytes);
  return *unit == 'B' ? fmt::format("{:.0f} B", number) : fmt::format("{:.2f} {}", number, unit);
}

std::string enough_text(double bytes) {
  const auto [number, unit] = in_units(bytes * 1.02);
  return *unit == 'B' ? fmt::format("{:.0f} B", std::ceil(number)) : fmt::format("{:.1f} {}", std::ceil(number * 10) / 10, unit);
}

std::string duration_text(double seconds) {
  if (seconds < 0.1) return "less than 0.1 s";
  if (seconds < 90) return fmt::format("{:.{}f} s", seconds, seconds < 10 ? 1 : 0);
  return seconds < 5400 ? fmt::format("{:.0f} min", seconds / 60) : fmt::format("{:.1f} h", seconds / 3600);
}

/// What could not be printed. Who reads a pipe and goes away asked for no more: the program ends by the signal that would have told it.
static int stdout_failed(int code) {
  if (code == EPIPE) {
    std::signal(SIGPIPE, SIG_DFL);
    std::raise(SIGPIPE);
  }
  print_stderr(std::string{"qlib: error: standard output: "} + std::strerror(code) + ": the result could not be printed\n");
  return exit_failed;
}

/// What was printed has arrived; an error and its exit code otherwise.
static int check_stdout() { return std::fflush(stdout) == 0 && std::ferror(stdout) == 0 ? exit_done : stdout_failed(errno); }

/// --save-path and --save_path are one flag: dashes inside a flag's name become underscores before anything is parsed.
static std::vector<std::string> normalized(int argc, char** argv) {
  std::vector<std::string> words;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    if (word.starts_with("--")) std::replace(word.begin() + 2, std::find(word.begin(), word.end(), '='), '-', '_');
    words.push_back(std::move(word));
  }
  std::reverse(words.begin(), words.end());  // as CLI11 wants them
  return words;
}

}  // namespace qlib::program

int main(int argc, char** argv) {
  using namespace qlib::program;
  guard_streams();
#if defined(M_MMAP_THRESHOLD)
  // Large blocks go back to the system when they are freed: glibc otherwise keeps more and more of them, and peak memory could not be forecast.
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
  CLI::App app{"Quantizes Hugging Face checkpoints for vLLM-Ascend, MindIE, vLLM and vLLM-GCU.", "qlib"};
  app.set_version_flag("--version", "qlib " QLIB_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Example:\n  qlib quant --model_path Qwen3-8B --save_path Qwen3-8B-W8A8 --quant_type w8a8_dynamic\n"
      "`qlib COMMAND --help` says more.");
  int code = exit_done;
  declare_quant(app, code);
  declare_plan(app, code);
  declare_inspect(app, code);
  declare_verify(app, code);
  declare_devices(app, code);
  declare_tokenize(app, code);
  declare_eval(app, code);
  declare_report(app, code);
  declare_analyze(app, code);
  declare_completion(app, code);
  if (argc > 1 && argv[1][0] != '-') {
    std::string known;
    bool found = false;
    for (const CLI::App* c : app.get_subcommands([](const CLI::App*) { return true; })) {
      known += (known.empty() ? "" : ", ") + c->get_name();
      found = found || c->get_name() == argv[1];
    }
    if (!found) return report_error({.where = argv[1], .problem = "is not a command", .remedy = "use one of " + known});
  }
  for (CLI::App* c : app.get_subcommands([](const CLI::App*) { return true; })) check_numbers(*c);
  try {
    app.parse(normalized(argc, argv));
    code = std::max(code, check_stdout());
  } catch (const CLI::Success& e) {
    return std::max(app.exit(e), check_stdout());
  } catch (const CLI::ParseError& e) {
    print_stderr("qlib: error: " + one_line(e.what()) + ": see `qlib --help`\n");
    return exit_invalid;
  } catch (const std::bad_alloc&) {
    const bool resumes = argc > 1 && std::string_view{argv[1]} == "quant";
    print_stderr(fmt::format("qlib: error: out of memory: rerun with {}fewer --threads\n", resumes ? "--resume and " : ""));
    return exit_failed;
  } catch (const std::system_error& e) {  // of stdout that cannot be written
    return stdout_failed(e.code().value());
  }
  return code;
}
