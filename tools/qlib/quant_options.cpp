#include "quant_options.hpp"
#include "number_flags.hpp"

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <qlib/backend/ascend/device_list.hpp>
#include <qlib/backend/device.hpp>
#include <qlib/io/file.hpp>
#include <qlib/model/module_name.hpp>
#include <qlib/pipeline/stored_calibration.hpp>
#include <qlib/recipe/ascii_case.hpp>
#include <qlib/recipe/yaml.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <thread>
#include <type_traits>
#include <utility>

namespace qlib::program {

static bool truth(std::string text, bool& out) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char ch) { return static_cast<char>(std::tolower(ch)); });
  out = text == "true" || text == "1" || text.empty();
  return out || text == "false" || text == "0";
}

std::size_t thread_count(const quant_options& options) {
  return options.threads ? options.threads : std::max(1u, std::thread::hardware_concurrency());
}

/// A boolean as msModelSlim's users write it: alone, or with True, False, true, false, 1 or 0 behind it. An optional one is for the type to decide.
template <class T>
static void add_boolean(CLI::App& c, const std::string& name, T& value, const std::string& help) {
  c.add_option_function<std::string>(
       name,
       [&value, name](const std::string& text) {
         bool given = false;
         if (!truth(text, given)) throw CLI::ValidationError(name, text + " is neither True nor False");
         value = given;
       },
       help)
      ->expected(0, 1)
      ->default_str("True")  // of the flag alone
      ->option_text(std::is_same_v<T, bool> ? "[True|False] (default False)" : "[True|False] (default: as the type says)")
      ->type_name("")
      ->trigger_on_parse();
}

std::vector<std::string> split_patterns(const std::vector<std::string>& texts) {
  std::vector<std::string> all;
  for (const std::string& text : texts) {
    std::string open;  // what is open, innermost last
    std::size_t from = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const char ch = text[i];
      if (ch == '\\') ++i;
      else if (open.ends_with('[')) open.erase(open.size() - (ch == ']' ? 1 : 0));
      else if (ch == '{' || ch == '[' || ch == '(') open += ch;
      else if ((ch == '}' && open.ends_with('{')) || (ch == ')' && open.ends_with('('))) open.pop_back();
      else if (ch == ',' && open.empty()) all.push_back(text.substr(from, i - from)), from = i + 1;
    }
    all.push_back(text.substr(from));
  }
  return all;
}

void add_quant_options(CLI::App& c, quant_options& o, bool needs_save_path) {
  add_common_options(c, o.common);
  c.add_option("--model_path", o.model_path, "Hugging Face checkpoint: config.json, safetensors, tokenizer")->required();
  auto* save = c.add_option("--save_path,--save_directory", o.save_path, "where the result goes; must not exist or be empty");
  if (needs_save_path) save->required();
  c.add_option("--model_type", o.model_type, "checked against config.json");
  auto* type = c.add_option("--quant_type", o.flags.quant_type, "w8a8, w8a8_dynamic, w8a8_mix, w8a8c8, w8a16, w4a16, fp8, fp8_dynamic");
  c.add_option("--config_path", o.config_path, "recipe: msModelSlim modelslim_v1 or LLM-Compressor YAML, unchanged")->excludes(type);
  c.add_option("--format", o.format, "ascend_v1 (default) or compressed_tensors");
  c.add_option("--compat", o.compat, "none, llmcompressor or msmodelslim: that tool's arithmetic, bit for bit")->capture_default_str();
  c.add_option("--device,--device_type", o.device, "cpu, cpu:<isa>, npu, or npu:0,1,2,3")->capture_default_str();
  whole_number(c.add_option("--w_bit", o.flags.w_bit, "bits of a weight: 4 or 8"), 1, 16, "use 4 or 8");
  whole_number(c.add_option("--a_bit", o.flags.a_bit, "bits of an activation: 8, or 16 for float"), 1, 16, "use 8, or 16 for float");
  c.add_option("--w_sym", o.w_sym, "symmetric weights")->expected(0, 1)->default_str("True")->option_text("[True|False] (default True)");
  at_least_one(c.add_option("--group_size", o.flags.group_size, "input features that share a scale"),
               "leave it out for what the type has, or give a size");
  add_boolean(c, "--is_dynamic", o.flags.is_dynamic, "activations are quantized at run time, per token");
  c.add_option("--anti_method", o.flags.anti_method,
               "outlier suppression before quantization: m1 to m6, or smooth_quant, awq, iter_smooth, flex_smooth_quant, ...");
  add_boolean(c, "--is_lowbit", o.is_lowbit, "msModelSlim's: 4-bit weights are always grouped here, so nothing changes");
  add_boolean(c, "--open_outlier", o.open_outlier, "msModelSlim's: True is not built; False changes nothing");
  add_boolean(c, "--do_smooth", o.do_smooth, "msModelSlim's: True is not built, use --anti_method; False changes nothing");
  real_number(c.add_option("--fraction", o.fraction, "msModelSlim's, of --open_outlier: without it nothing changes"), 0, 1, "leave it out");
  c.add_option("--w_method", o.w_method, "msModelSlim's weight method: MinMax");
  whole_number(
      c.add_option("--act_method", o.flags.act_method, "ranges of static activations: 1 min-max, 2 histogram, 3 either by range score (default)"), 1,
      3, "leave it out for 3");
  add_boolean(c, "--pdmix", o.flags.pdmix, "W8A8: static activations for decoding, dynamic ones for prefilling");
  add_boolean(c, "--use_kvcache_quant", o.flags.use_kvcache_quant, "quantize the KV cache too: int8, a scale a channel");
  c.add_option("--calib_file", o.calib_file,
               "texts to calibrate with: .jsonl (inputs_pretokenized, text, prompt, messages), .json or plain text (default, also of --calib_ids: "
               "calib.jsonl or calib_ids.safetensors in the model's folder)");
  c.add_option("--calib_ids", o.calib_ids, "ready token ids: safetensors, I32 `ids` [samples, length]")->excludes("--calib_file");
  c.add_option("--anti_file", o.anti_file, "texts or ids that outlier suppression is solved with, instead of the calibration data");
  at_least_one(c.add_option("--calib_samples", o.calib.samples, "at most so many samples (default: all)"), "leave it out for all samples");
  at_least_one(c.add_option("--calib_length", o.calib.length, "tokens a sample at most (default: texts whole)"), "leave it out for whole texts");
  c.add_option("--seed", o.calib.seed, "shuffle the samples before the first are taken (default: file order)");
  add_boolean(c, "--reproducible", o.reproducible, "matrix products in f32 in one order of sums: the same bytes on any machine");
  c.add_option("--disable_level", o.disable_level,
               "L0 to L5, or L<n>: keep float the n layers with the highest range score; layers that read the same input, and all experts of a "
               "layer, go together "
               "and count once");
  byte_number(
      c.add_option("--max_memory", o.max_memory, "most memory to take, such as 8GiB or 19.5MB (k, M, G: powers of 1000; Ki, Mi, Gi: of 1024)"),
      "leave it out for no limit");
  c.add_option("--disable_names", o.flags.disable_names, "layers to keep float: names or globs, separated by commas");
  c.add_option("--targets", o.flags.targets, "layers to quantize: Linear, names or re:<regex>");
  c.add_option("--ignore", o.flags.ignore, "layers to keep float: names or re:<regex>");
  c.add_option("--observer", o.flags.observer, "how ranges of weights are found: minmax (default), percentile, mse");
  c.add_option("--percentile", o.flags.percentile,
               "of --observer percentile: upper end of a range, above 50 to 100; the lower is 100 minus it (default: 99.9)");
  c.add_option("--rounder", o.flags.rounder, "how codes are chosen: rtn");
  byte_or_gib_number(c.add_option("--part_file_size", o.part_file_size, "largest weight file, in GiB or with a unit such as 500MB; 0: one file"));
  c.add_option("--threads", o.threads, "worker threads; the result does not depend on it (default: all cores)")->check(CLI::Range(0, 1024));
  add_boolean(c, "--trust_remote_code", o.trust_remote_code, "copy *.py files of the checkpoint; nothing of it is ever run");
  add_boolean(c, "--resume", o.resume, "continue a run that was interrupted");
  add_boolean(c, "--overwrite", o.overwrite, "replace what is at save_path");
  c.get_option("--overwrite")->excludes("--resume");
  add_boolean(c, "--dry_run", o.dry_run, "check everything, write nothing");
  c.add_option("--report", o.report, "write the report here: report.html and report.json; a path that ends in .json: that document alone");
}

/// The given flags that describe a recipe: "--w_bit, --ignore".
static std::string recipe_flags(const quant_options& o) {
  const quant_flags& f = o.flags;
  std::string given;
  for (const auto& [name, is_given] : std::initializer_list<std::pair<const char*, bool>>{{"--w_bit", f.w_bit != 0},
                                                                                          {"--a_bit", f.a_bit != 0},
                                                                                          {"--w_sym", !o.w_sym.empty()},
                                                                                          {"--group_size", f.group_size != 0},
                                                                                          {"--is_dynamic", f.is_dynamic.has_value()},
                                                                                          {"--pdmix", f.pdmix.has_value()},
                                                                                          {"--use_kvcache_quant", f.use_kvcache_quant.has_value()},
                                                                                          {"--act_method", f.act_method != 0},
                                                                                          {"--anti_method", !f.anti_method.empty()},
                                                                                          {"--observer", !f.observer.empty()},
                                                                                          {"--percentile", static_cast<bool>(f.percentile)},
                                                                                          {"--rounder", !f.rounder.empty()},
                                                                                          {"--targets", !f.targets.empty()},
                                                                                          {"--ignore", !f.ignore.empty()},
                                                                                          {"--disable_names", !f.disable_names.empty()}})
    if (is_given) given += (given.empty() ? "" : ", ") + std::string{name};
  return given;
}

errors prepare(const quant_options& o, prepared& out) {
  errors found;
  const auto append = [&](errors more) { found.insert(found.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end())); };

  quant_flags flags = o.flags;
  for (std::vector<std::string>* patterns : {&flags.disable_names, &flags.targets, &flags.ignore}) *patterns = split_patterns(*patterns);
  if (!o.w_sym.empty()) {
    bool value = true;
    if (truth(o.w_sym, value)) flags.w_sym = value;
    else found.push_back({.where = "--w_sym", .subject = o.w_sym, .problem = "is neither True nor False", .remedy = "use one of them"});
  }
  if (o.open_outlier)
    found.push_back({.where = "--open_outlier True", .problem = "is not built: outliers are not kept float", .remedy = "use --open_outlier False"});
  if (o.do_smooth) found.push_back({.where = "--do_smooth True", .problem = "is not built", .remedy = "use --anti_method m1 to m6"});
  if (!o.w_method.empty() && detail::lower_case(o.w_method) != "minmax")
    found.push_back({.where = "--w_method", .subject = o.w_method, .problem = "is not built", .remedy = "use MinMax"});
  if (o.config_path.empty()) {
    append(recipe_from_flags(flags, out.recipe));
  } else {
    const auto text = read_text_file(o.config_path);
    if (!text) found.push_back(text.error());
    else append(parse_recipe(*text, o.config_path, out.recipe));
    const std::string beside = recipe_flags(o);
    if (!beside.empty())
      found.push_back(
          {.where = "--config_path", .problem = "contradicts " + beside + ": a recipe says all of it", .remedy = "write it into the recipe"});
  }

  plan_options& options = out.options;
  std::string format = o.format;
  if (format.empty())
    format = !out.recipe.save.format.empty() ? out.recipe.save.format : out.recipe.source == "llmcompressor" ? "compressed_tensors" : "ascend_v1";
  if (auto f = registry::formats::find(format)) {
    options.format = *f;
  } else {
    std::string known;
    for (std::string_view name : registry::formats::names()) known += (known.empty() ? "" : ", ") + std::string{name};
    found.push_back({.where = "--format", .subject = format, .problem = "is not built", .remedy = "use one of " + known});
  }
  if (format == "compressed_tensors" && o.config_path.empty())  // its caches have one scale a tensor
    for (attention_stage& s : out.recipe.attention) s.args.strategy = strategy::tensor;
  if (o.compat == "llmcompressor") options.follow = compat::llmcompressor;
  else if (o.compat == "msmodelslim") options.follow = compat::msmodelslim;
  else if (o.compat != "none")
    found.push_back({.where = "--compat", .subject = o.compat, .problem = "is not known", .remedy = "use none, llmcompressor or msmodelslim"});
  if (o.part_file_size > 0)
    options.part_bytes = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::llround(o.part_file_size * 1073741824.0)));
  else if (o.part_file_size == 0 || out.recipe.save.single_file) options.part_bytes = 0;
  else if (out.recipe.save.part_bytes) options.part_bytes = out.recipe.save.part_bytes;
  if (ascend::names_npus(o.device)) {
    auto npu = npu_devices::open(o.device, [common = o.common](std::string_view line) { log_info(common, line); });
    if (npu) out.npu = *std::move(npu);
    else found.push_back(std::move(npu).error());
  } else if (auto backend = backend_for_device(o.device); !backend) {
    found.push_back(std::move(backend).error());
  }

  errors model = checkpoint::open(o.model_path, out.source);
  const bool readable = model.empty();
  append(std::move(model));
  if (readable) {
    errors layout = read_model_layout(out.source, out.layout);
    const bool understood = layout.empty();
    append(std::move(layout));
    if (understood) {  // data-free types work without; others say what is missing
      model_description described;
      out.description_errors = read_model_description(out.source.config_text(), out.source.directory() + "/config.json", described);
      if (out.description_errors.empty()) out.description = std::move(described);
      options.model = out.description ? &*out.description : nullptr;
    }
    const auto& matrices = out.layout.matrices;
    const bool experts = understood && format == "ascend_v1" && flags.targets.empty() &&
                         std::any_of(matrices.begin(), matrices.end(), [](const matrix_module& m) { return is_expert(m.name); }) &&
                         make_experts_dynamic(out.recipe);
    if (understood && found.empty()) append(make_plan(out.source, out.layout, out.recipe, options, out.plan));
    if (experts)
      out.plan.warnings.emplace_back(
          "routed experts become W8A8_DYNAMIC, the int8 type that vLLM-Ascend loads for them; --targets Linear makes them static too");
    if (understood && found.empty()) append(prepare_forward(o, out));
    if (understood && found.empty() && !out.forward && o.max_memory != 0 && forecast_memory(o, out) > o.max_memory)
      found.push_back({.where = "--max_memory " + size_text(static_cast<double>(o.max_memory)),
                       .problem = "is too little for this model",
                       .remedy = "give at least " + enough_text(static_cast<double>(forecast_memory(o, out))) + ", or fewer --threads"});
    for (const std::string& name : out.source.other_files())
      if (!name.ends_with(".py") || o.trust_remote_code) out.copied_files.push_back(name);
  }
  return found;
}

run_settings settings_of(const quant_options& o, const prepared& p) {
  run_inputs inputs{.copied_files = p.copied_files, .reproducible = o.reproducible, .float_layers = disabled_layers(o.disable_level).value_or(0)};
  if (p.forward) {
    inputs.samples = p.forward->data.samples;
    inputs.suppress_samples = p.forward->suppression.samples;
  }
  return qlib::settings_of(p.source, p.recipe, p.plan, inputs);
}

/// The plan with these layers left out as well.
static status keep_float(const std::vector<std::string>& names, const prepared& p, quantization_plan& out) {
  recipe fewer = p.recipe;
  for (stage& s : fewer.stages) s.ignore.insert(s.ignore.end(), names.begin(), names.end());
  if (errors bad = make_plan(p.source, p.layout, fewer, p.options, out); !bad.empty()) return std::move(bad.front());
  return {};
}

/// What an interrupted run found for this plan, if there is one. The plan becomes the one that it belongs to.
static result<std::optional<calibration>> interrupted_calibration(const quant_options& o, prepared& p, std::uint64_t key) {
  auto stored = load_calibration(stored_calibration_of(o.save_path), key);
  if (!stored || !*stored) return stored;
  quantization_plan fewer;
  const bool same_plan = (*stored)->floats.empty();
  if (!same_plan)
    if (status s = keep_float((*stored)->floats, p, fewer); !s) return std::move(s).error();
  const quantization_plan& of = same_plan ? p.plan : fewer;
  if ((*stored)->operands.size() != of.operands.size() || (*stored)->suppressions.size() != of.suppressions.size())
    return std::optional<calibration>{};
  if (!same_plan) p.plan = std::move(fewer);
  return stored;
}

result<calibrated> run_calibration(const quant_options& o, prepared& p, std::function<void(const calibration_progress&)> on_progress) {
  calibrate_options how = calibration_of(o, p);
  const std::size_t level = *disabled_layers(o.disable_level);
  const calibration_data& data = p.forward->data;
  calibrated out;
  out.key = calibration_key(p.plan, data.samples, how, o.reproducible, level);
  if (o.resume) {
    auto stored = interrupted_calibration(o, p, out.key);
    if (!stored) return std::move(stored).error();
    if (*stored) {
      log_info(o.common, "calibration of the interrupted run is used");
      out.found = *std::move(*stored);
      out.resumed = true;
      return out;
    }
  }
  const bool own = o.calib_file.empty() && o.calib_ids.empty() && !data.report.file.empty() && data.report.file != o.anti_file;
  log_info(o.common,
           "calibrating: " + data.report.text() + (own ? " (of the model's folder, as neither --calib_file nor --calib_ids is given)" : ""));
  std::error_code ec;
  const bool left =
      o.resume && (std::filesystem::exists(stored_calibration_of(o.save_path), ec) || std::filesystem::exists(kept_pass_of(o.save_path), ec));
  how.on_progress = [&o, untold = left, shown = std::move(on_progress)](const calibration_progress& state) mutable {
    if (std::exchange(untold, false) && state.work_before == 0)
      log_info(o.common, "what calibration had found is damaged, or of a run with another --report: it starts again");
    if (shown) shown(state);
  };
  how.keep = keep_pass{.path = kept_pass_of(o.save_path), .key = out.key, .resume = o.resume};
  auto found = calibrate(p.forward->model, p.plan, data.samples, how);
  if (!found) return std::move(found).error();
  out.found = *std::move(found);
  if (level == 0) return out;
  const std::vector<std::string> floats = layers_by_range_score(p.plan, out.found, level);
  if (floats.size() == p.plan.quantized)  // groups of equal score were fewer than could be known
    return error{.where = "--disable_level " + o.disable_level,
                 .problem = "keeps all layers float: nothing would be quantized",
                 .remedy = "give a smaller level"};
  quantization_plan fewer;
  if (status s = keep_float(floats, p, fewer); !s) return std::move(s).error();
  if (p.plan.suppressions.empty()) {
    out.found = for_plan(out.found, p.plan, fewer);
  } else {  // which sub-graphs are rescaled depends on what is quantized behind them
    how.keep->path = kept_pass_of(o.save_path, true);
    how.keep->key = calibration_key(fewer, data.samples, how, o.reproducible, level);
    auto again = calibrate(p.forward->model, fewer, data.samples, how);
    if (!again) return std::move(again).error();
    out.found = *std::move(again);
  }
  for (const std::string& name : floats) out.found.warnings.push_back(name + ": stays float (--disable_level " + o.disable_level + ")");
  out.found.floats = floats;
  p.plan = std::move(fewer);
  return out;
}

}  // namespace qlib::program
