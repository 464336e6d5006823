#include "command.hpp"
#include "number_flags.hpp"

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <qlib/io/file.hpp>
#include <qlib/model/calibration_data.hpp>
#include <qlib/pipeline/evaluate.hpp>
#include <qlib/tokenizer/tokenizer.hpp>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <thread>

namespace qlib::program {

namespace {

struct eval_options {
  common_options common;
  std::string model_path, reference, text, ids, logits, phase = "decode";
  std::size_t samples = 0, length = 0, threads = 0;
  bool reproducible = false, bf16 = false;
};

errors load_samples(const eval_options& o, calibration_data& out) {
  sequence_limits limits;
  model_description description;
  const std::string config = o.model_path + "/config.json";
  const auto text = read_text_file(config);
  if (!text) return {text.error()};
  if (errors found = read_model_description(*text, config, description); !found.empty()) return found;
  limits.vocab_size = description.vocabulary;
  limits.max_length = description.max_tokens();
  const calibration_options how{.samples = o.samples, .length = o.length, .length_flag = "--length"};
  if (!o.ids.empty()) return load_calibration_ids(o.ids, how, limits, out);
  const auto words = tokenizer::load(o.model_path);
  if (!words) return {words.error()};
  return load_calibration_texts(o.text, *words, how, limits, out);
}

/// What is wrong with the place of the logits; empty: nothing.
std::string wrong_place(const eval_options& o) {
  namespace fs = std::filesystem;
  std::error_code ec;
  const bool existing = fs::exists(o.logits, ec);
  for (const std::string& file : {o.text, o.ids})
    if (!file.empty() && fs::equivalent(file, o.logits, ec)) return "--logits would replace what is read";
  const fs::path folder = fs::absolute(o.logits, ec).parent_path();
  for (const std::string& model : {o.model_path, o.reference})
    if (!model.empty() && fs::equivalent(model, folder, ec))
      return existing ? "--logits would replace a file of the checkpoint"
                      : "--logits lie in the folder of a checkpoint, whose loaders would read them as weights";
  return {};
}

int run(const eval_options& o) {
  errors found;
  if (o.text.empty() == o.ids.empty())
    found.push_back(
        {.where = "qlib eval", .subject = "--text, --ids", .problem = "exactly one of them is needed", .remedy = "give text or token ids"});
  if (o.phase != "decode" && o.phase != "prefill")
    found.push_back({.where = "--phase", .subject = o.phase, .problem = "is not known", .remedy = "use decode or prefill"});
  if (o.reproducible && o.bf16) found.push_back({.where = "--bf16", .problem = "is not reproducible", .remedy = "leave out --reproducible"});
  if (!o.logits.empty())
    if (std::string wrong = wrong_place(o); !wrong.empty())
      found.push_back({.where = o.logits, .problem = std::move(wrong), .remedy = "write them somewhere else"});
  if (!found.empty()) return report_errors(o.common, found);

  calibration_data data;
  if (errors bad = load_samples(o, data); !bad.empty()) return report_errors(o.common, bad);
  for (const std::string& w : data.report.warnings) log_warning(o.common, w);
  if (!data.report.file.empty()) log_info(o.common, data.report.text());

  evaluation_options how;
  how.threads = o.threads ? o.threads : std::max(1u, std::thread::hardware_concurrency());
  how.gemm.kind = o.reproducible ? gemm_kind::reproducible : gemm_kind::fastest;
  how.gemm.bf16_inputs = o.bf16;
  how.phase = o.phase == "prefill" ? inference_phase::prefill : inference_phase::decode;
  how.logits_path = o.logits;
  how.progress = [&o](std::size_t done, std::size_t all) { log_info(o.common, fmt::format("layer {}/{}", done, all)); };
  evaluation r;
  if (errors bad = evaluate(o.model_path, o.reference, data.samples, how, r); !bad.empty()) return report_errors(o.common, bad);

  if (o.common.json) {
    const auto number = [](const std::optional<double>& v) { return v ? nlohmann::ordered_json(*v) : nlohmann::ordered_json(nullptr); };
    const nlohmann::ordered_json j{{"tokens", r.tokens}, {"ppl", number(r.ppl)},   {"ppl_reference", number(r.ppl_reference)},
                                   {"kl", number(r.kl)}, {"top1", number(r.top1)}, {"max_abs_logit_diff", number(r.max_abs_logit_diff)}};
    fmt::print("{}\n", j.dump(1));
    return exit_done;
  }
  fmt::print("tokens              {}\n", r.tokens);
  if (r.ppl) fmt::print("perplexity          {:.4f}\n", *r.ppl);
  if (r.ppl_reference) fmt::print("of the reference    {:.4f}\n", *r.ppl_reference);
  if (r.kl) fmt::print("KL(reference‖model) {:.6g}\ntop-1 agreement     {:.4f}\nmax |logit diff.|   {:.4g}\n", *r.kl, *r.top1, *r.max_abs_logit_diff);
  return exit_done;
}

}  // namespace

void declare_eval(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("eval", "perplexity of a checkpoint, and its distance from a reference; quantized ones as their engine computes");
  auto options = std::make_shared<eval_options>();
  add_common_options(*c, options->common);
  c->add_option("--model_path", options->model_path, "the checkpoint: float, AscendV1 or compressed-tensors")->required();
  c->add_option("--reference", options->reference, "usually the float checkpoint: KL(reference‖model), top-1 agreement, largest logit difference");
  c->add_option("--text", options->text, "plain text, .jsonl or .json, for the tokenizer of --model_path");
  c->add_option("--ids", options->ids, "safetensors with I32 or I64 `ids` [n, length], or ids.0, ids.1, ...");
  c->add_option("--logits", options->logits, "write the logits here: safetensors, F32 [tokens, vocabulary]");
  at_least_one(c->add_option("--samples", options->samples, "use the first N samples"), "leave it out for all samples");
  at_least_one(c->add_option("--length", options->length, "tokens a sample at most"), "leave it out for whole texts");
  c->add_option("--phase", options->phase, "which half of W8A8_MIX computes: decode (static) or prefill (dynamic)");
  c->add_option("--threads", options->threads, "0: all cores")->check(CLI::Range(0, 1024));
  c->add_flag("--reproducible", options->reproducible, "the same bytes on every machine");
  c->add_flag("--bf16", options->bf16, "round inputs of products to bf16: faster, and a difference of its own");
  c->footer("Example:\n  qlib eval --model_path Qwen3-8B-W8A8 --reference Qwen3-8B --text held_out.txt --samples 64 --json");
  c->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace qlib::program
