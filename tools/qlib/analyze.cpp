#include "number_flags.hpp"
#include "quant_options.hpp"

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <qlib/core/stopwatch.hpp>
#include <qlib/io/output_file.hpp>
#include <qlib/pipeline/analyze.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include <unistd.h>

namespace qlib::program {

namespace {

struct analyze_flags {
  quant_options quant;
  std::string metric = "auto", out;
  std::size_t tokens = 2048, keep = 0;
  std::uint64_t budget = 0;
  bool bf16 = false;
};

std::string duration_text(double seconds) {
  if (seconds < 90) return fmt::format("{:.0f} s", seconds);
  if (seconds < 5400) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

/// A file that cannot be written is found before hours of work.
status check_out(const std::string& path) {
  if (path.empty()) return {};
  std::error_code ec;
  std::filesystem::path folder = std::filesystem::path{path}.parent_path();
  if (folder.empty()) folder = ".";
  const bool existing = std::filesystem::exists(path, ec);
  if (!std::filesystem::is_directory(path, ec) && ::access(existing ? path.c_str() : folder.c_str(), W_OK) == 0) return {};
  return error{.where = "--out " + path, .problem = "cannot be written", .remedy = "name a file in a folder that exists and is writable"};
}

/// One line that is redrawn on a terminal; elsewhere a plain line for each group.
class analysis_line {
 public:
  /// The options must outlive it.
  explicit analysis_line(const common_options& options) : options_{options} {}

  void operator()(const analysis_progress& p) {
    if (!options_.says_info()) return;
    const double seconds = start_.seconds();
    const std::string eta = time_left_text(p.work_done > 0 ? seconds / p.work_done * (1 - p.work_done) : 0, seconds, p.work_done);
    if (p.work_done >= 1) terminal_.clear();
    else terminal_.draw(fmt::format("analyzing {}/{}  ETA {}", p.groups_done, p.groups, eta));
    if (!terminal_.shown() && p.groups_done > printed_) log_info(options_, fmt::format("analyzed {}/{} eta {}", p.groups_done, p.groups, eta));
    printed_ = std::max(printed_, p.groups_done);
  }

 private:
  const common_options& options_;
  terminal_line terminal_;
  std::size_t printed_ = 0;
  stopwatch start_;
};

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& n : names) text += (text.empty() ? "" : ",") + n;
  return text;
}

status write_line(const std::string& path, const std::string& line) {
  auto file = output_file::create(path, line.size());
  if (!file) return file.error();
  if (status s = file->write_at(0, std::as_bytes(std::span{line})); !s) return s;
  return file->close();
}

nlohmann::ordered_json json_of(const analysis& a, const std::vector<std::string>& names, double seconds) {
  using json = nlohmann::ordered_json;
  const auto number = [](const std::optional<double>& v) { return v ? json(*v) : json(nullptr); };
  json j{{"metric", name_of(a.cost.metric)},
         {"samples", a.samples},
         {"tokens", a.tokens},
         {"forwards", a.cost.forwards},
         {"seconds", seconds},
         {"products", a.products},
         {"kl_all", number(a.kl_all)},
         {"kl_kept", number(a.kl_kept)},
         {"added_bytes", a.added_bytes},
         {"disable_names", names}};
  j["layers"] = json::array();
  for (std::size_t i = 0; i < a.layers.size(); ++i) {
    const layer_sensitivity& l = a.layers[i];
    j["layers"].push_back({{"name", l.layers.name},
                           {"modules", l.layers.patterns},
                           {"quant_type", l.layers.quant_type},
                           {"range_score", number(std::isfinite(l.range_score) ? std::optional{l.range_score} : std::nullopt)},
                           {"mse", number(l.mse)},
                           {"kl", number(l.kl)},
                           {"float_bytes", l.layers.float_bytes},
                           {"quantized_bytes", l.layers.quantized_bytes},
                           {"kept", std::binary_search(a.kept.begin(), a.kept.end(), i)}});
  }
  j["warnings"] = a.warnings;
  return j;
}

void print_table(const analysis& a) {
  std::size_t width = 6;
  for (const layer_sensitivity& l : a.layers) width = std::max(width, l.layers.name.size());
  fmt::print("{:>4}  {:<{}}  {:<14} {:>10} {:>10} {:>10} {:>10}\n", "", "layers", width, "type", "KL", "mse", "range", "float adds");
  const auto number = [](const std::optional<double>& v) { return v ? fmt::format("{:.3g}", *v) : std::string{"-"}; };
  for (std::size_t i = 0; i < a.layers.size(); ++i) {
    const layer_sensitivity& l = a.layers[i];
    const bool kept = std::binary_search(a.kept.begin(), a.kept.end(), i);
    fmt::print("{:>4}{} {:<{}}  {:<14} {:>10} {:>10} {:>10.2f} {:>10}\n", i + 1, kept ? '*' : ' ', l.layers.name, width, l.layers.quant_type,
               number(l.kl), number(l.mse), l.range_score, size_text(static_cast<double>(l.layers.added_bytes())));
  }
}

int run(const analyze_flags& f) {
  const stopwatch start;
  const quant_options& o = f.quant;
  analyze_options how;
  errors found;
  if (f.metric == "range") how.metric = sensitivity_metric::range;
  else if (f.metric == "mse") how.metric = sensitivity_metric::mse;
  else if (f.metric == "kl") how.metric = sensitivity_metric::kl;
  else if (f.metric != "auto")
    found.push_back({.where = "--metric", .subject = f.metric, .problem = "is not known", .remedy = "use kl, mse, range or auto"});
  if (!o.disable_level.empty())
    found.push_back({.where = "--disable_level", .problem = "is a choice that this command is to find", .remedy = "use --keep or --budget"});
  if (f.bf16 && o.reproducible) found.push_back({.where = "--bf16", .problem = "is not reproducible", .remedy = "leave out --reproducible"});
  if (f.tokens == 0) found.push_back({.where = "--analyze_tokens", .problem = "is 0", .remedy = "give at least 1"});
  if (!f.out.empty() && f.keep == 0 && f.budget == 0)
    found.push_back({.where = "--out", .problem = "needs to know how many layers stay float", .remedy = "give --keep or --budget"});

  if (const status s = check_out(f.out); !s) found.push_back(s.error());

  prepared p;
  errors bad = prepare(o, p);
  found.insert(found.end(), bad.begin(), bad.end());
  if (!found.empty()) return report_errors(o.common, found);
  for (const std::string& w : p.plan.warnings) log_warning(o.common, w);
  for (const std::string& w : p.forward->data.report.warnings) log_warning(o.common, w);

  std::optional<calibration> ranges;
  if (!p.plan.operands.empty() || !p.plan.suppressions.empty() || p.plan.rotation) {
    log_info(o.common, "calibrating: " + p.forward->data.report.text());
    auto calibrated = calibrate(p.forward->model, p.plan, p.forward->data.samples, {.suppress_samples = p.forward->suppression.samples});
    if (!calibrated) return report_errors(o.common, {calibrated.error()});
    ranges = *std::move(calibrated);
    for (const std::string& w : ranges->warnings) log_warning(o.common, w);
  }

  how.tokens = f.tokens;
  how.keep = f.keep;
  if (f.budget > 0) how.budget = f.budget;
  how.max_memory = o.max_memory;
  how.forward.threads = thread_count(o);
  how.forward.gemm.kind = o.reproducible ? gemm_kind::reproducible : gemm_kind::fastest;
  how.forward.gemm.bf16_inputs = f.bf16;
  analysis_line line{o.common};
  how.on_progress = [&](const analysis_progress& state) { line(state); };
  how.on_start = [&](const analysis_cost& c) {
    log_info(o.common, fmt::format("metric {}{}: {:.1f} forward passes, about {} more", name_of(c.metric),
                                   f.metric == "auto" ? " (chosen by cost)" : "", c.forwards, duration_text(c.seconds)));
  };
  const model_folds none;
  const folded_parameters floats{p.forward->parameters, ranges ? ranges->folds : none};  // what is quantized is behind the folds
  const auto done = analyze(*p.description, floats, p.plan, ranges ? &*ranges : nullptr, p.forward->data.samples, how);
  if (!done) return report_errors(o.common, {done.error()});
  for (const std::string& w : done->warnings) log_warning(o.common, w);
  const double seconds = start.seconds();

  std::vector<std::string> names = split_patterns(o.flags.disable_names);
  for (std::string& n : done->disable_names()) names.push_back(std::move(n));
  if (!f.out.empty())
    if (const status s = write_line(f.out, joined(names) + "\n"); !s) return report_error(s.error());
  if (o.common.json) {
    fmt::print("{}\n", json_of(*done, names, seconds).dump(1));
    return exit_done;
  }
  print_table(*done);
  if (done->kl_all) fmt::print("all of them quantized: KL {:.4g} over {} tokens\n", *done->kl_all, done->tokens);
  if (f.keep == 0 && f.budget == 0) return exit_done;
  fmt::print("{} kept float (*): {} more{}\n", done->kept.size(), size_text(static_cast<double>(done->added_bytes)),
             done->kl_kept ? fmt::format(", KL {:.4g}", *done->kl_kept) : "");
  if (!names.empty()) fmt::print("--disable_names '{}'\n", joined(names));
  if (!o.config_path.empty()) log_info(o.common, "a recipe takes these names in its ignore (LLM-Compressor) or exclude (msModelSlim) list");
  return exit_done;
}

}  // namespace

void declare_analyze(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("analyze", "rank layers by what quantizing them costs, and list those to keep float");
  auto flags = std::make_shared<analyze_flags>();
  flags->quant.runs_model = true;
  add_quant_options(*c, flags->quant, false);
  c->add_option("--metric", flags->metric,
                "kl of the next token, mse of the layer's output, range of its input; auto: kl up to 10^15 operations, else mse")
      ->capture_default_str();
  c->add_option("--analyze_tokens", flags->tokens, "tokens of the samples that are used")->capture_default_str();
  at_least_one(c->add_option("--keep", flags->keep, "keep so many of the most sensitive groups float"), "leave it out for the ranking alone");
  byte_number(c->add_option("--budget", flags->budget, "keep float what gains most for its bytes, adding at most so many, such as 500MB or 0.5GiB"),
              "leave it out for the ranking alone");
  c->add_option("--out", flags->out, "write the list for --disable_names here, one line");
  c->add_flag("--bf16", flags->bf16, "products in bf16: faster, and a noise that hides small differences");
  c->footer(
      "Examples:\n"
      "  qlib analyze --model_path Qwen3-8B --quant_type w8a8 --calib_file data.jsonl --keep 4 --out names.txt\n"
      "  qlib quant --model_path Qwen3-8B --save_path out --quant_type w8a8 --calib_file data.jsonl --disable_names \"$(cat names.txt)\"");
  c->callback([flags, &exit_code] { exit_code = run(*flags); });
}

}  // namespace qlib::program
