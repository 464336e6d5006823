#include "command.hpp"

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <qlib/model/calibration_data.hpp>
#include <qlib/tokenizer/tokenizer.hpp>

#include <memory>

namespace qlib::program {

namespace {

struct tokenize_options {
  common_options common;
  std::string model_path, file;
  bool no_special = false;
};

/// All lines or none: what is wrong with one is known before the first is printed.
int run(const tokenize_options& o) {
  const auto words = tokenizer::load(o.model_path);
  if (!words) return report_errors(o.common, {words.error()});
  text_records read;
  if (errors found = read_text_records(o.file, words->has_chat_template(), read); !found.empty()) return report_errors(o.common, found);
  for (const std::string& warning : read.warnings) log_warning(o.common, warning);
  std::string out = o.common.json ? "[" : "";
  for (text_record& record : read.records) {
    std::vector<std::int32_t> ids = std::move(record.ids);
    if (!record.has_ids) {
      auto encoded = words->encode(record.text, !o.no_special);
      if (!encoded)
        return report_errors(o.common, {{encoded.error().kind, o.file, read.unit + " " + std::to_string(record.number), encoded.error().problem,
                                         encoded.error().remedy}});
      ids = *std::move(encoded);
    }
    if (o.common.json && out.size() > 1) out += ",\n";
    out += '[';
    for (std::size_t i = 0; i < ids.size(); ++i) out += (i == 0 ? "" : ",") + std::to_string(ids[i]);
    out += o.common.json ? "]" : "]\n";
  }
  if (o.common.json) out += "]\n";
  fmt::print("{}", out);
  return exit_done;
}

}  // namespace

void declare_tokenize(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("tokenize", "turn texts into token ids with a checkpoint's tokenizer");
  auto options = std::make_shared<tokenize_options>();
  add_common_options(*c, options->common);
  c->add_option("--model_path", options->model_path, "checkpoint with a tokenizer.json, or such a file")->required();
  c->add_option("--file", options->file, "texts: .jsonl with `text` or `messages` a line, a JSON list, or plain text, which is one text")->required();
  c->add_flag("--no_special", options->no_special, "without the tokens that the post-processor adds");
  c->footer("Prints one JSON array of ids a line.\nExample:\n  qlib tokenize --model_path Qwen3-8B --file calib.jsonl");
  c->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace qlib::program
