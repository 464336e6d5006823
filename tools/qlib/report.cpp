#include "command.hpp"

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <qlib/format/weight_folder.hpp>
#include <qlib/io/file.hpp>
#include <qlib/report/describe.hpp>
#include <qlib/report/report_folder.hpp>
#include <qlib/report/report_json.hpp>
#include <qlib/report/report_text.hpp>

#include <filesystem>
#include <memory>

namespace qlib::program {

namespace {

struct report_options {
  common_options common;
  std::string directory, evaluation, save_path;
};

/// report.json of the folder, or what the checkpoint in it tells.
errors read(const std::string& directory, accuracy_report& out) {
  const std::string file = directory + "/report.json";
  if (std::filesystem::exists(file)) {
    const auto text = read_text_file(file);
    if (!text) return {text.error()};
    return parse_report(*text, file, out);
  }
  weight_folder folder;
  if (errors found = weight_folder::open(directory, folder); !found.empty()) return found;
  if (folder.weight_names().empty())
    return {{.where = directory,
             .problem = "holds neither report.json nor safetensors files",
             .remedy = "name a folder of `qlib quant --report`, or a quantized checkpoint"}};
  out = describe_checkpoint(folder);
  return {};
}

int run(const report_options& o) {
  std::string directory = o.directory;
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
  const std::string target = o.save_path.empty() ? directory : o.save_path;
  accuracy_report report;
  errors found = read(directory, report);
  if (!o.evaluation.empty()) {
    reported_evaluation evaluation;
    const auto text = read_text_file(o.evaluation);
    errors bad = text ? parse_evaluation(*text, o.evaluation, evaluation) : errors{text.error()};
    found.insert(found.end(), bad.begin(), bad.end());
    report.evaluation = evaluation;
  }
  const bool floats = o.save_path.empty() && found.empty() && report.format == "float";
  if (floats)
    found.push_back({.where = directory,
                     .problem = "is a float checkpoint, into which the report would be written",
                     .remedy = "name a folder for it with --save_path"});
  if (const status s = check_report_folder(target); !s && !floats) found.push_back(s.error());
  if (!found.empty()) return report_errors(o.common, found);
  if (const status s = write_report(target, report); !s) return report_error(s.error());
  if (o.common.json) fmt::print("{}\n", json_of(report));
  else if (!o.common.quiet) fmt::print("{}{}/report.html: the report\n", text_of(report), target);
  return exit_done;
}

}  // namespace

void declare_report(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("report", "make report.html: sizes, errors, activation ranges, perplexity; one file that needs no network");
  auto options = std::make_shared<report_options>();
  add_common_options(*c, options->common);
  c->add_option("directory", options->directory, "folder of `qlib quant --report`, or a quantized checkpoint")->required();
  c->add_option("--eval", options->evaluation, "output of `qlib eval --json`: perplexity and KL for the report");
  c->add_option("--save_path", options->save_path, "where report.html and report.json go (default: the same folder)");
  c->footer(
      "Examples:\n"
      "  qlib quant --model_path Qwen3-8B --save_path out --quant_type w8a8 --report out-report\n"
      "  qlib eval --model_path out --reference Qwen3-8B --text held_out.txt --json > eval.json\n"
      "  qlib report out-report --eval eval.json");
  c->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace qlib::program
