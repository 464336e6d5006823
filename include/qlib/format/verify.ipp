#pragma once
#include <qlib/format/verify.hpp>
#include <qlib/format/verify_ascend_v1.hpp>
#include <qlib/format/verify_complete.hpp>
#include <qlib/format/verify_compressed_tensors.hpp>
#include <qlib/format/verify_findings.hpp>
#include <qlib/format/verify_gptq.hpp>
#include <qlib/io/file.hpp>
#include <qlib/io/json_text.hpp>
#include <qlib/io/python_json.ipp>
#include <qlib/model/description.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

namespace qlib::inline v0 {

namespace detail {

using weight_map = std::map<std::string, std::string>;                          // as in io/checkpoint.ipp
QLIB_INLINE errors read_model_index(const std::string& path, weight_map& out);  // io/checkpoint.ipp

/// A document parses and repeats no key.
QLIB_INLINE void verify_json(findings& f, const std::string& file) {
  auto text = read_text_file(f.folder().directory() + "/" + file);
  if (!text) return f.add(file, {}, "FILE-json", text.error().problem);
  const json_findings found = check_json(file == "config.json" ? quote_constants(*text) : *text, file);
  if (found.syntax) return f.add(file, found.syntax->subject, "FILE-json", found.syntax->problem);
  for (const error& e : found.duplicate_keys) f.add(file, e.subject, "FILE-json", e.problem);
}

/// What one index says against what the files hold. Returns the files that it names. `rule`: FILE-index, or R14 for an index that
/// vLLM takes as a filter of an AscendV1 checkpoint.
QLIB_INLINE std::set<std::string> verify_index(findings& f, const std::string& file, const std::string& rule, bool strict) {
  const weight_folder& folder = f.folder();
  weight_map index;
  for (const error& e : read_model_index(folder.directory() + "/" + file, index)) f.add(file, e.subject, rule, e.problem);
  std::set<std::string> named, absent;
  for (const auto& [tensor, holder] : index) {
    named.insert(holder);
    if (!folder.has_file(holder)) {
      if (absent.insert(holder).second) f.add(file, holder, rule, "the index names this file, which does not exist");
      continue;
    }
    const stored_tensor* t = folder.find(tensor);
    if (std::ranges::find(folder.weight_names(), holder) == folder.weight_names().end()) continue;  // damaged: said elsewhere
    if (!t) f.add(file, tensor, rule, "is not in " + holder + ", nor in any other file");
    else if (folder.file_of(*t) != holder) f.add(file, tensor, rule, "is in " + folder.file_of(*t) + ", not in " + holder);
  }
  std::uint64_t bytes = 0;
  for (const stored_tensor& t : folder.tensors()) {
    if (index.contains(t.info.name)) bytes += t.info.bytes();
    else if (named.contains(folder.file_of(t))) f.add(folder.file_of(t), t.info.name, rule, "is stored, but " + file + " does not name it");
  }
  if (auto text = read_text_file(folder.directory() + "/" + file)) {
    const nlohmann::json j = nlohmann::json::parse(*text, nullptr, false);
    const auto path = nlohmann::json::json_pointer{"/metadata/total_size"};
    if (j.is_object() && j.contains(path) && j[path].is_number() && absent.empty() && folder.damage().empty()) {
      const auto said = j[path].get<double>();
      const std::string message = "total_size is " + j[path].dump() + ", the tensors have " + std::to_string(bytes) + " bytes";
      if (said != static_cast<double>(bytes))
        strict ? f.add(file, "total_size", "FILE-size", message) : f.warn(file, "total_size", "FILE-size", message);
    }
  }
  return named;
}

/// "model-00002-of-00004.safetensors": its stem, number and count.
struct part_name {
  std::string stem;
  std::uint64_t part = 0, parts = 0;
};
QLIB_INLINE std::optional<part_name> part_of(std::string_view file) {
  file.remove_suffix(std::string_view{".safetensors"}.size());
  const std::size_t of = file.rfind("-of-");
  if (of == std::string_view::npos) return std::nullopt;
  const std::size_t dash = file.rfind('-', of - 1);
  if (of == 0 || dash == std::string_view::npos) return std::nullopt;
  const auto number = [](std::string_view digits, std::uint64_t& out) {
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
    return code == std::errc{} && end == digits.data() + digits.size() && !digits.empty();
  };
  part_name p{std::string{file.substr(0, dash)}, 0, 0};
  if (!number(file.substr(dash + 1, of - dash - 1), p.part) || !number(file.substr(of + 4), p.parts)) return std::nullopt;
  return p;
}

QLIB_INLINE void verify_parts(findings& f) {
  std::map<std::pair<std::string, std::uint64_t>, std::set<std::uint64_t>> sets;
  for (const std::string& file : f.folder().files()) {
    if (!file.ends_with(".safetensors")) continue;
    const auto p = part_of(file);
    if (!p) continue;
    if (p->parts == 0) f.add(file, {}, "FILE-parts", "is a part of a run that did not finish");
    else sets[{p->stem, p->parts}].insert(p->part);
  }
  for (const auto& [key, present] : sets)
    for (std::uint64_t i = 1; i <= std::min<std::uint64_t>(key.second, 100'000); ++i)
      if (!present.contains(i)) {
        f.add({}, {}, "FILE-parts",
              "part " + std::to_string(i) + " of " + std::to_string(key.second) + " of " + key.first + "*.safetensors is missing");
        break;
      }
}

/// Decoder layers 0 ... num_hidden_layers - 1 all store something.
QLIB_INLINE void verify_layers(findings& f) {
  const nlohmann::json config = parse_python_json(f.folder().config_text());
  if (!config.is_object()) return;
  std::uint64_t layers = 0;  // LongCat's num_layers counts pairs of num_hidden_layers
  for (const nlohmann::json* level : {&config, config.contains("text_config") ? &config["text_config"] : &config})
    for (const char* key : {"num_hidden_layers", "n_layer", "num_layers"})
      if (level->is_object())
        if (auto it = level->find(key); it != level->end() && !it->is_null()) {
          if (!it->is_number_unsigned() || it->get<std::uint64_t>() > most_layers)
            return f.add("config.json", key, "FILE-layers", "is " + it->dump() + ", not a number of layers");
          const auto said = it->get<std::uint64_t>();
          layers = layers == 0 ? said : std::min(layers, said);
        }
  for (const nlohmann::json* level : {&config, config.contains("text_config") ? &config["text_config"] : &config})
    if (auto it = level->find("hidden_size"); level->is_object() && it != level->end() && (it->is_string() || (it->is_number() && !(*it > 0))))
      return f.add("config.json", "hidden_size", "FILE-config", "is " + it->dump() + ", not a number of channels");
  std::set<std::uint64_t> seen;
  for (const stored_tensor& t : f.folder().tensors()) {
    const std::string_view name = t.info.name;
    bool tower = false;
    for (std::string_view part : {"vision", "visual", "audio"}) tower = tower || name.find(part) != std::string_view::npos;
    for (std::string_view list : {"layers.", ".h.", "blocks."})
      if (const auto at = name.find(list); !tower && at != std::string_view::npos) {
        std::uint64_t number = 0;
        const char* first = name.data() + at + list.size();
        if (std::from_chars(first, name.data() + name.size(), number).ptr != first) seen.insert(number);
      }
  }
  if (seen.empty()) return;
  for (std::uint64_t i = 0; i < layers; ++i)
    if (!seen.contains(i))
      return f.add("config.json", "num_hidden_layers", "FILE-layers",
                   "is " + std::to_string(layers) + ", but no tensor of layer " + std::to_string(i) + " is stored");
}

/// The files themselves, whatever they store. The names of files that an index covers are returned.
QLIB_INLINE void verify_files(findings& f, const std::string& format) {
  const weight_folder& folder = f.folder();
  const bool strict = format != "float", ascend = format == "ascend_v1" || format == "mindie";
  for (const error& e : folder.damage()) f.add(e.where, e.subject, "FILE-damaged", e.problem);
  if (folder.has_file("config.json")) verify_json(f, "config.json");
  else f.add("config.json", {}, "FILE-config", "does not exist");
  for (const char* name : {"quantize_config.json", "quant_config.json"})
    if (folder.has_file(name)) verify_json(f, name);
  if (folder.weight_names().empty() && folder.damage().empty()) f.add({}, {}, "FILE-missing", "there is no safetensors file");
  std::set<std::string> covered;
  bool any_index = false;
  for (const std::string& file : folder.files())
    if (file.ends_with(".safetensors.index.json")) {
      any_index = true;
      covered.merge(verify_index(f, file, ascend && file == "model.safetensors.index.json" ? "R14" : "FILE-index", strict));
    }
  // AscendV1's loaders take every file; others what the index names, or model.safetensors, and the rest is said to be stray below.
  const bool all = ascend || (!any_index && !folder.has_file("model.safetensors"));
  const auto loaded = [&](const std::string& file) { return all || (any_index ? covered.contains(file) : file == "model.safetensors"); };
  const stored_tensor* before = nullptr;
  for (const stored_tensor& t : folder.tensors()) {
    if (!loaded(folder.file_of(t))) continue;
    if (before && before->info.name == t.info.name) f.add(t, "FILE-duplicate", "is stored in " + folder.file_of(*before) + " too");
    before = &t;
  }
  verify_parts(f);
  verify_layers(f);
  verify_complete(f);
  if (ascend) return;  // R14
  for (const std::string& file : folder.weight_names()) {
    if (loaded(file)) continue;
    if (any_index) f.warn(file, {}, "FILE-stray", "the index does not name this file: engines do not load it");
    else if (strict) f.add(file, {}, "FILE-stray", "without an index, engines load every safetensors file, so this one too: move it away");
    else f.warn(file, {}, "FILE-stray", "lies beside model.safetensors: engines that load every safetensors file stumble over it");
  }
  if (!any_index && folder.weight_names().size() > 1 && !folder.has_file("model.safetensors"))
    f.add({}, {}, "FILE-index",
          "there are " + std::to_string(folder.weight_names().size()) + " safetensors files, but no model.safetensors.index.json");
}

/// Quantized weights of which no document says how: engines would take them for float ones.
QLIB_INLINE void verify_undescribed(findings& f) {
  const stored_tensor* first = nullptr;
  std::size_t count = 0;
  for (const stored_tensor& t : f.folder().tensors()) {
    const std::string_view name = t.info.name;
    const bool codes = (t.info.dtype == dtype::i8 || t.info.dtype == dtype::f8_e4m3) && name.ends_with(".weight");
    const bool parameters = name.ends_with(".weight_scale") || name.ends_with(".weight_packed") || name.ends_with(".weight_offset") ||
                            name.ends_with(".qweight") || name.ends_with(".weight_scale_inv");
    if (!codes && !parameters) continue;
    if (!first) first = &t;
    ++count;
  }
  if (first)
    f.add(*first, "FILE-description",
          "is of a quantized weight (" + std::to_string(count) +
              " such tensors), but there is neither a quant_model_description.json nor a quantization_config that says how");
}

/// Which engines have a loader for a format at all.
QLIB_INLINE void verify_engine_format(findings& f, const std::string& format) {
  if (!f.target() || format == "float") return;
  using enum engine;
  const auto loads = [&]() -> std::vector<engine> {
    if (format == "ascend_v1") return {vllm_ascend, mindie};
    if (format == "mindie") return {mindie, vllm_ascend};  // R1 says what is wrong with it
    if (format == "compressed_tensors") return {vllm, vllm_ascend, vllm_gcu};
    if (format == "gptq" || format == "awq") return {vllm, vllm_gcu};
    if (format == "w8a8" || format == "w4a8") return {vllm_gcu};
    return {vllm, vllm_ascend, vllm_gcu};
  }();
  if (std::ranges::find(loads, *f.target()) != loads.end()) return;
  std::string others;
  for (engine e : loads) others += (others.empty() ? "" : ", ") + std::string{name_of(e)};
  f.add("config.json", {}, "ENGINE-format",
        std::string{name_of(*f.target())} + " has no loader for " + format + " (" + others + (loads.size() == 1 ? " has)" : " have)"));
}

/// Block-fp8 as DeepSeek-V3 publishes it: `weight` F8_E4M3 [N, K], `weight_scale_inv` [ceil(N/rows), ceil(K/cols)].
QLIB_INLINE void verify_block_fp8(findings& f) {
  const found_config found = quantization_config_of(f.folder());
  const nlohmann::json q = nlohmann::json::parse(found.text, nullptr, false);
  const auto block = q.find("weight_block_size");
  if (block == q.end() || !block->is_array() || block->size() != 2 || !(*block)[0].is_number_unsigned() || !(*block)[1].is_number_unsigned() ||
      (*block)[0] == 0 || (*block)[1] == 0)
    return f.warn(found.file, "weight_block_size", "FP8-config", "is not [rows, columns]: only block-fp8 checkpoints are checked");
  const std::uint64_t rows = (*block)[0], cols = (*block)[1];
  for (const stored_tensor& t : f.folder().tensors()) {
    if (t.info.dtype != dtype::f8_e4m3 || t.info.shape.size() != 2 || !t.info.name.ends_with(".weight")) continue;
    f.check_scale(
        f.need(t.info.name + "_scale_inv", {dtype::f32, dtype::bf16}, {(t.info.shape[0] + rows - 1) / rows, (t.info.shape[1] + cols - 1) / cols}));
  }
}

}  // namespace detail

QLIB_INLINE errors verify_checkpoint(const std::string& directory, std::optional<engine> target, verification& out) {
  weight_folder folder;
  if (errors found = weight_folder::open(directory, folder); !found.empty()) return found;
  verification v;
  v.format = format_of(folder);
  const bool ascend = v.format == "ascend_v1" || v.format == "mindie";
  const std::string prefix = ascend                             ? "AV1"
                             : v.format == "compressed_tensors" ? "CT"
                             : v.format == "gptq"               ? "GPTQ"
                             : v.format == "awq"                ? "AWQ"
                             : v.format == "fp8"                ? "FP8"
                                                                : "GCU";
  detail::findings f{folder, target, prefix, v};
  detail::verify_files(f, v.format);
  detail::verify_engine_format(f, v.format);
  if (ascend) detail::verify_ascend_v1(f);
  else if (v.format == "compressed_tensors") detail::verify_compressed_tensors(f);
  else if (v.format == "gptq" || v.format == "awq") detail::verify_gptq(f, v.format);
  else if (v.format == "w8a8") detail::verify_gcu_w8a8(f);
  else if (v.format == "fp8") detail::verify_block_fp8(f);
  else if (v.format == "float") detail::verify_undescribed(f);
  else
    f.warn("config.json", "quantization_config", "FILE-format",
           "\"" + v.format + "\": no rules are known for this format; only the files were checked");
  // A tensor that is missing belongs to no file: the document that asks for it is named instead.
  const std::string document = ascend ? folder.description_file() : quantization_config_of(folder).file;
  for (std::vector<violation>* list : {&v.violations, &v.warnings})
    for (violation& e : *list)
      if (e.file.empty()) e.file = e.tensor.empty() ? "." : document;
  out = std::move(v);
  return {};
}

}  // namespace qlib::inline v0
