#pragma once
#include <qlib/io/checksum.hpp>
#include <qlib/io/file.hpp>
#include <qlib/io/output_file.hpp>
#include <qlib/pipeline/fingerprint.ipp>
#include <qlib/pipeline/run_settings.hpp>
#include <qlib/version.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <map>

namespace qlib::inline v0 {

namespace detail {

inline constexpr const char* source_files_setting = "source files";

inline std::string hex_text(std::uint64_t value) {
  std::string text(16, '0');
  for (std::size_t i = text.size(); i-- != 0; value >>= 4) text[i] = "0123456789abcdef"[value & 15];
  return text;
}

/// Names, sizes, headers, and some pages of every file: another training of the same model differs in nearly all of them.
inline std::string identity_of(const checkpoint& source) {
  constexpr std::uint64_t pages = 16, page = 4096;
  checksum64 sum;
  const auto add = [&](std::string_view text) { sum.update(std::as_bytes(std::span{text})); };
  for (const safetensors_file& file : source.shards()) {
    add(std::filesystem::path{file.path()}.filename().string());
    std::uint64_t end = 0;
    for (const tensor_info& t : file.tensors()) {
      add(t.name), add(name_of(t.dtype));
      sum.update(std::as_bytes(std::span{t.shape}));
      sum.update(std::as_bytes(std::span{&t.begin, 1}));
      end = std::max(end, t.end);
    }
    for (std::uint64_t i = 0; i < pages; ++i) {
      const std::uint64_t at = end / pages * i;
      const auto holder = std::upper_bound(file.tensors().begin(), file.tensors().end(), at,
                                           [](std::uint64_t offset, const tensor_info& t) { return offset < t.end; });
      if (holder == file.tensors().end()) break;
      const std::uint64_t from = at > holder->begin ? at - holder->begin : 0;
      const auto bytes = file.bytes(*holder);
      sum.update(bytes.subspan(from, std::min<std::uint64_t>(page, bytes.size() - from)));
      file.release(*holder, 0, bytes.size());
    }
  }
  const std::size_t files = source.shards().size();
  return std::to_string(files) + (files == 1 ? " file, " : " files, ") + std::to_string(source.total_bytes()) + " bytes, " + hex_text(sum.value());
}

inline std::string stamps_of(const checkpoint& source) {
  checksum64 sum;
  for (const safetensors_file& file : source.shards()) {
    std::error_code ignored;
    const std::string text = file.path() + "\n" + std::to_string(std::filesystem::file_size(file.path(), ignored)) + "\n" +
                             std::to_string(std::filesystem::last_write_time(file.path(), ignored).time_since_epoch().count()) + "\n";
    sum.update(std::as_bytes(std::span{text}));
  }
  return hex_text(sum.value());
}

inline std::string identity_of(std::span<const std::vector<std::int32_t>> samples) {
  checksum64 sum;
  std::size_t tokens = 0;
  for (const auto& sample : samples) {
    const std::uint64_t n = sample.size();
    tokens += sample.size();
    sum.update(std::as_bytes(std::span{&n, 1}));
    sum.update(std::as_bytes(std::span{sample}));
  }
  return std::to_string(samples.size()) + " samples, " + std::to_string(tokens) + " tokens, " + hex_text(sum.value());
}

inline std::string comma_joined(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& one : all) text += (text.empty() ? "" : ",") + one;
  return text;
}

/// Collects settings; what has its neutral value is left out.
class setting_list {
 public:
  void add(std::string name, std::string value) {
    if (!value.empty()) all.push_back({std::move(name), std::move(value)});
  }
  void add_flag(std::string name, bool value) { add(std::move(name), value ? "true" : "false"); }
  void add_size(std::string name, std::uint64_t value) {
    if (value != 0) add(std::move(name), std::to_string(value));
  }
  void add(const std::string& name, const policy_choice& p) {
    add(name, p.name);
    for (const auto& [key, value] : p.options) add(name + "." + key, value);
  }
  void add(const std::string& name, const std::optional<quantization_args>& args) {
    if (!args) return;
    static constexpr std::array<const char*, 5> strategies{"tensor", "channel", "group", "block", "token"};
    add(name + ".type", args->type == number::integer ? "int" : "float");
    add_size(name + ".num_bits", static_cast<std::uint64_t>(args->num_bits));
    add_flag(name + ".symmetric", args->symmetric);
    add(name + ".strategy", strategies[static_cast<std::size_t>(args->strategy)]);
    add_size(name + ".group_size", args->group_size);
    add_size(name + ".block_rows", args->block_rows);
    add_size(name + ".block_cols", args->block_cols);
    add_flag(name + ".dynamic", args->dynamic);
    add(name + ".observer", args->observer);
    for (const auto& [key, value] : args->observer_options) add(name + ".observer." + key, value);
  }
  void add_patterns(const std::string& name, pattern_syntax syntax, const std::vector<std::string>& targets, const std::vector<std::string>& ignore) {
    if (syntax == pattern_syntax::glob) add(name + "patterns", "globs");
    add(name + "targets", comma_joined(targets));
    add(name + "ignore", comma_joined(ignore));
  }

  run_settings all;
};

inline void add_recipe(const recipe& r, setting_list& to) {
  if (r.rotation) {
    to.add_flag("rotation residual", r.rotation->residual);
    to.add_flag("rotation heads", r.rotation->heads);
    to.add_size("rotation block_size", r.rotation->block_size);
    to.add("rotation seed", std::to_string(r.rotation->seed));
    to.add_flag("rotation random_signs", r.rotation->random_signs);
    if (r.rotation->stored) to.add_flag("rotation export_extra_info", true);
  }
  for (std::size_t i = 0; i < r.suppression.size(); ++i) {
    const suppression_stage& s = r.suppression[i];
    const std::string name = "outlier suppression " + std::to_string(i + 1) + " ";
    to.add(name + "method", s.suppressor);
    to.add(name + "sub-graphs", comma_joined({s.norm_linear ? "norm-linear" : "", s.ov ? "ov" : "", s.up_down ? "up-down" : "",
                                              s.query_key ? "query-key" : "", s.experts ? "experts" : ""}));
    to.add_patterns(name, s.syntax, s.targets, s.ignore);
    for (const smoothing_mapping& m : s.mappings) to.add(name + "balance_layers of " + comma_joined(m.smooth), comma_joined(m.balance));
  }
  for (std::size_t i = 0; i < r.stages.size(); ++i) {
    const stage& s = r.stages[i];
    const std::string name = "stage " + std::to_string(i + 1) + " ";
    std::vector<std::string> ignore = s.ignore;
    for (std::string& pattern : ignore)
      for (const auto& [translated, written] : s.spelled)
        if (translated == pattern) pattern = written;
    to.add_patterns(name, s.syntax, s.targets, ignore);
    to.add(name + "weights", s.scheme.weights);
    to.add(name + "input_activations", s.scheme.input_activations);
    if (s.scheme.dynamic_prefill) to.add_flag(name + "dynamic_prefill", true);
    to.add(name + "format", s.scheme.format);
    to.add(name + "observer", s.observer);
    to.add(name + "rounder", s.rounder);
    if (s.scheme.input_activations && !s.scheme.input_activations->dynamic) to.add(name + "input observer", s.input_observer);
  }
  for (std::size_t i = 0; i < r.attention.size(); ++i) {
    const attention_stage& s = r.attention[i];
    const std::string name = "attention " + std::to_string(i + 1) + " ";
    to.add(name + "operands", s.what == attention_stage::operands::cache ? "cache" : "attention");
    to.add_patterns(name, s.syntax, s.targets, s.ignore);
    to.add(name + "args", std::optional{s.args});
    to.add(name + "observer", s.observer);
    to.add(name + "value observer", s.value_observer);
  }
}

/// At most so many characters, its middle left out.
inline std::string without_middle(const std::string& text) {
  constexpr std::size_t most = 60;
  return text.size() <= most ? text : text.substr(0, most / 2) + "..." + text.substr(text.size() - most / 2);
}

inline std::string settings_text(const run_settings& settings) {
  auto all = nlohmann::ordered_json::array();  // pairs: an object of thousands of keys would be slow
  for (const run_setting& s : settings) all.push_back({s.name, s.value});
  const nlohmann::ordered_json document{{"qlib_run", 1}, {"settings", std::move(all)}};
  return document.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

inline std::optional<run_settings> settings_in(const std::string& text) {
  const auto document = nlohmann::json::parse(text, nullptr, false);
  if (!document.is_object() || document.value("qlib_run", nlohmann::json{}) != 1) return std::nullopt;
  const auto all = document.find("settings");
  if (all == document.end() || !all->is_array()) return std::nullopt;
  run_settings out;
  for (const auto& pair : *all) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) return std::nullopt;
    out.push_back({pair[0].get<std::string>(), pair[1].get<std::string>()});
  }
  return out;
}

}  // namespace detail

QLIB_INLINE run_settings settings_of(const checkpoint& source, const recipe& r, const quantization_plan& plan, const run_inputs& inputs) {
  namespace fs = std::filesystem;
  detail::setting_list out;
  out.add("qlib", QLIB_VERSION);
  out.add("model", detail::identity_of(source));
  out.add("config.json", detail::hex_text(checksum_of(std::as_bytes(std::span{source.config_text()}))));
  out.add(detail::source_files_setting, detail::stamps_of(source));
  std::string others;
  for (const std::string& name : inputs.copied_files) {
    std::error_code ignored;
    others += (others.empty() ? "" : ", ") + name + " (" + std::to_string(fs::file_size(fs::path{source.directory()} / name, ignored)) + " bytes)";
  }
  out.add("other files", others);
  out.add("format", plan.format);
  if (plan.follow != compat::none) out.add("compat", plan.follow == compat::llmcompressor ? "llmcompressor" : "msmodelslim");
  out.add_size("weight files", plan.files.size());
  detail::add_recipe(r, out);
  if (!inputs.samples.empty()) {
    out.add("calibration data", detail::identity_of(inputs.samples));
    out.add_flag("reproducible", inputs.reproducible);
  }
  if (!inputs.suppress_samples.empty()) out.add("data of outlier suppression", detail::identity_of(inputs.suppress_samples));
  out.add_size("disable_level", inputs.float_layers);
  out.add("plan", detail::hex_text(detail::digest_of(plan, plan.follow)));
  return detail::settings_in(detail::settings_text(out.all)).value_or(run_settings{});  // as a file has them: names that are no UTF-8 are mended
}

QLIB_INLINE std::vector<std::string> changed_settings(const run_settings& then, const run_settings& now) {
  std::map<std::string, std::string> before, after;
  for (const run_setting& s : then) before[s.name] = s.value;
  for (const run_setting& s : now) after[s.name] = s.value;
  std::vector<std::string> changed;
  const auto compare = [&](const std::string& name) {
    const auto b = before.find(name), a = after.find(name);
    if (b != before.end() && a != after.end() && b->second == a->second) return;
    if (name == detail::source_files_setting && (b == before.end() || a == after.end())) return;
    if (name == "plan" && !changed.empty()) return;  // what follows from the others
    changed.push_back(name + (b == before.end() ? " was not given" : " was " + detail::without_middle(b->second)) +
                      (a == after.end() ? ", is not given" : ", is " + detail::without_middle(a->second)));
  };
  for (const run_setting& s : now)
    if (s.name != "plan") compare(s.name);
  for (const run_setting& s : then)
    if (s.name != "plan" && !after.contains(s.name)) compare(s.name);
  compare("plan");
  return changed;
}

QLIB_INLINE std::string settings_file_of(const std::string& folder) { return folder + "/.qlib-run.json"; }

QLIB_INLINE status store_settings(const run_settings& settings, const std::string& folder) {
  return replace_file(settings_file_of(folder), detail::settings_text(settings));
}

QLIB_INLINE std::optional<run_settings> load_settings(const std::string& folder) {
  const auto text = read_text_file(settings_file_of(folder));
  return text ? detail::settings_in(*text) : std::nullopt;
}

QLIB_INLINE run_settings settings_of_result(run_settings settings) {
  std::erase_if(settings, [](const run_setting& s) { return s.name == detail::source_files_setting; });
  return settings;
}

}  // namespace qlib::inline v0
