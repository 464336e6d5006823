#include "process_memory.hpp"
#include "quant_options.hpp"

#include <qlib/pipeline/forecast_memory.hpp>
#include <qlib/pipeline/forecast_time.hpp>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <memory>
#include <numeric>

namespace qlib::program {

namespace {

/// Shortest chunk of tokens that matrix products still run well with, and the usual one.
constexpr std::size_t fewest_tokens = 256, usual_tokens = 2048;

/// Texts, or ids if it is a safetensors file.
errors load_file(const std::string& file, const quant_options& o, const prepared& p, calibration_data& out) {
  calibration_options options = o.calib;
  options.cut_slightly_longer = true;
  const sequence_limits limits{p.description->vocabulary, p.description->max_tokens()};
  if (file == o.calib_ids || file.ends_with(".safetensors")) return load_calibration_ids(file, options, limits, out);
  const auto words = tokenizer::load(p.source.directory());
  if (!words) return {words.error()};
  return load_calibration_texts(file, *words, options, limits, out);
}

/// Whether nothing but outlier suppression asks for samples, and has its own.
bool only_suppresses(const quant_options& o, const prepared& p) { return !o.anti_file.empty() && p.plan.operands.empty() && !o.runs_model; }

errors load_samples(const quant_options& o, const prepared& p, calibration_data& out) {
  std::string file = o.calib_ids.empty() ? o.calib_file : o.calib_ids;
  if (only_suppresses(o, p)) file = o.anti_file;
  if (file.empty()) {
    for (const char* name : {"/calib.jsonl", "/calib_ids.safetensors"})
      if (std::filesystem::exists(p.source.directory() + name)) {
        file = p.source.directory() + name;
        break;
      }
  }
  if (file.empty() && o.runs_model)
    return {error{.where = o.model_path,
                  .problem = "needs samples to run the model with",
                  .remedy = "give --calib_file FILE.jsonl or --calib_ids FILE.safetensors"}};
  if (file.empty())
    return {error{.where = !o.config_path.empty()    ? o.config_path
                           : p.plan.operands.empty() ? "--anti_method " + o.flags.anti_method
                                                     : "--quant_type " + o.flags.quant_type,
                  .problem = "needs calibration data",
                  .remedy = "give --calib_file FILE.jsonl or --calib_ids FILE.safetensors" +
                            std::string{p.plan.operands.empty() ? "" : ", or choose a dynamic type such as w8a8_dynamic"}}};
  return load_file(file, o, p, out);
}

}  // namespace

errors prepare_forward(const quant_options& o, prepared& p) {
  const auto level = disabled_layers(o.disable_level);
  if (!level)
    return {{.where = "--disable_level", .subject = o.disable_level, .problem = "is no level", .remedy = "use L0, L1, ... L5, or L and a number"}};
  errors found;
  if (!o.anti_file.empty() && p.plan.suppressions.empty())
    found.push_back({.where = "--anti_file " + o.anti_file,
                     .problem = "is for outlier suppression, and this recipe has none that asks for samples",
                     .remedy = "give --anti_method m1 ... m6, or leave it out"});
  if (p.plan.operands.empty() && p.plan.suppressions.empty() && !o.runs_model) {
    if (!o.calib_file.empty() || !o.calib_ids.empty()) p.plan.warnings.emplace_back("this recipe needs no calibration data: they are not read");
    if (*level > 0)
      found.push_back({.where = "--disable_level " + o.disable_level,
                       .problem = "ranks layers by the range of their inputs, and this recipe observes none",
                       .remedy = "name layers with --disable_names, or choose a static type"});
    return found;
  }
  // Nothing would be left to quantize.
  const auto layers = [&](const work_item& i) { return i.encoding && i.operand; };
  const auto ranked = static_cast<std::size_t>(std::count_if(p.plan.items.begin(), p.plan.items.end(), layers));
  if (const std::size_t groups = most_range_groups(p.plan); *level > 0 && *level >= groups && ranked == p.plan.quantized)
    found.push_back({.where = "--disable_level " + o.disable_level,
                     .problem = "would keep all " + std::to_string(ranked) + " layers float: they are at most " + std::to_string(groups) +
                                " groups that read the same input",
                     .remedy = "give a smaller level"});
  if (!found.empty()) return found;
  if (!p.description) return p.description_errors;
  auto pass = std::unique_ptr<forward_pass>(new forward_pass{checkpoint_parameters{p.source, p.layout}, {}, {}, {}});
  found = load_samples(o, p, pass->data);
  if (!o.anti_file.empty() && o.anti_file != o.calib_file && !only_suppresses(o, p)) {
    errors more = load_file(o.anti_file, o, p, pass->suppression);
    found.insert(found.end(), more.begin(), more.end());
  }
  if (!found.empty()) return found;
  p.forward = std::move(pass);

  decoder_options options;
  options.threads = thread_count(o);
  options.gemm.kind = o.reproducible ? gemm_kind::reproducible : gemm_kind::fastest;
  options.gemm.bf16_inputs = !o.reproducible && p.layout.run_dtype == dtype::bf16;
  for (options.chunk_tokens = usual_tokens;; options.chunk_tokens /= 2) {
    if (errors bad = decoder::create(*p.description, p.forward->parameters, options, p.forward->model); !bad.empty()) return bad;
    if (o.max_memory == 0 || forecast_memory(o, p) <= o.max_memory) return {};
    if (options.chunk_tokens <= fewest_tokens) break;
  }
  return {{.where = "--max_memory " + size_text(static_cast<double>(o.max_memory)),
           .problem = "is too little for this model and these samples",
           .remedy = "give at least " + enough_text(static_cast<double>(forecast_memory(o, p))) + ", or fewer or shorter samples"}};
}

std::uint64_t forecast_memory(const quant_options& o, const prepared& p) {
  // Beyond what is there now: code and tables of the kernels alone, or with oneDNN's and what it generates, and its memory a thread.
  constexpr std::uint64_t kernels = std::uint64_t{9} << 20, products = std::uint64_t{32} << 20, product_rooms = std::uint64_t{4} << 20;
  const process_memory memory = memory_of_process();
  const std::uint64_t run = forecast_run_memory(p.plan, thread_count(o), !o.report.empty());
  std::uint64_t most = kernels + run;
  if (p.forward) {
    const calibrate_options how = calibration_of(o, p);
    const std::uint64_t calibration =
        forecast_calibration_memory(p.forward->model, p.plan, p.forward->data.samples, how.suppress, how.suppress_samples);
    most = products + std::max(run, product_rooms * thread_count(o) + calibration);
  }
  return std::max(memory.peak, memory.now + most);
}

calibrate_options calibration_of(const quant_options& o, const prepared& p) {
  calibrate_options how;
  how.histograms = !o.report.empty();
  how.range_scores = p.plan.suppressions.empty() || *disabled_layers(o.disable_level) > 0 || how.histograms;
  if (p.forward) how.suppress_samples = p.forward->suppression.samples;
  how.suppress.as_peers = p.options.follow != compat::none;
  return how;
}

time_forecast forecast_time(const quant_options& o, const prepared& p) {
  const checkpoint_parameters parameters{p.source, p.layout};
  forecast_request request{.source = p.source, .parameters = parameters, .plan = p.plan, .threads = thread_count(o)};
  std::error_code ec;
  if (!o.save_path.empty())
    for (std::filesystem::path f = std::filesystem::absolute(o.save_path, ec); request.folder.empty(); f = f.parent_path())
      if (std::filesystem::is_directory(f, ec) || f == f.parent_path()) request.folder = f.string();
  request.measure_error = !o.report.empty();
  if (p.forward) {
    request.model = &p.forward->model;
    request.samples = p.forward->data.samples;
    request.calibrate = calibration_of(o, p);
    if (*disabled_layers(o.disable_level) > 0 && !p.plan.suppressions.empty()) request.passes = 2;
  }
  return qlib::forecast_time(request);
}

std::optional<std::size_t> disabled_layers(const std::string& level) {
  if (level.empty()) return 0;
  std::size_t n = 0;
  if (level.front() != 'L' && level.front() != 'l') return std::nullopt;
  const auto [end, failure] = std::from_chars(level.data() + 1, level.data() + level.size(), n);
  if (failure != std::errc{} || end != level.data() + level.size()) return std::nullopt;
  return n;
}

}  // namespace qlib::program
