#pragma once
#include <qlib/format/weight_folder.hpp>
#include <qlib/io/file.hpp>
#include <qlib/io/python_json.ipp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace qlib::inline v0 {

namespace detail {
QLIB_INLINE result<std::vector<std::string>> regular_files(const std::string& directory);  // io/checkpoint.ipp
}  // namespace detail

QLIB_INLINE errors weight_folder::open(const std::string& directory, weight_folder& out) {
  auto files = detail::regular_files(directory);
  if (!files) return {std::move(files).error()};
  weight_folder folder;
  folder.directory_ = directory;
  folder.files_ = *std::move(files);
  for (const std::string& name : folder.files_) {
    if (name.ends_with(".safetensors")) {
      safetensors_file file;
      errors found = safetensors_file::open(directory + "/" + name, file);
      for (error& e : found) {
        e.where = name;
        folder.damage_.push_back(std::move(e));
      }
      if (!found.empty()) continue;
      for (const tensor_info& t : file.tensors()) folder.tensors_.push_back({t, folder.weights_.size()});
      folder.weights_.push_back(std::move(file));
      folder.names_.push_back(name);
    } else if (name == "config.json") {
      if (auto text = read_text_file(directory + "/" + name)) folder.config_text_ = *std::move(text);
    } else if (name.starts_with("quant_model_description") && name.ends_with(".json")) {
      if (folder.description_file_.empty() || name == "quant_model_description.json") folder.description_file_ = name;
    }
  }
  if (folder.names_.empty() && folder.damage_.empty() && !folder.has_file("config.json"))
    return {
        error{error_kind::invalid_input, directory, {}, "holds neither a safetensors file nor config.json", "give the directory of a checkpoint"}};
  std::ranges::stable_sort(folder.tensors_, {}, [](const stored_tensor& t) -> const std::string& { return t.info.name; });
  out = std::move(folder);
  return {};
}

QLIB_INLINE bool weight_folder::has_file(std::string_view name) const { return std::ranges::binary_search(files_, name); }

QLIB_INLINE const stored_tensor* weight_folder::find(std::string_view name) const {
  const auto at = std::ranges::lower_bound(tensors_, name, {}, [](const stored_tensor& t) -> std::string_view { return t.info.name; });
  return at != tensors_.end() && at->info.name == name ? &*at : nullptr;
}

QLIB_INLINE std::span<const stored_tensor> weight_folder::starting_with(std::string_view prefix) const {
  const auto first = std::ranges::lower_bound(tensors_, prefix, {}, [](const stored_tensor& t) -> std::string_view { return t.info.name; });
  auto last = first;
  while (last != tensors_.end() && last->info.name.starts_with(prefix)) ++last;
  return {first, last};
}

QLIB_INLINE found_config quantization_config_of(const weight_folder& folder) {
  const nlohmann::ordered_json config = detail::parse_python_json<nlohmann::ordered_json>(folder.config_text());
  if (config.is_object()) {
    for (const char* key : {"quantization_config", "compression_config"})
      if (auto it = config.find(key); it != config.end() && it->is_object()) return {"config.json", it->dump()};
    for (const char* part : {"text_config", "llm_config"})
      if (auto text = config.find(part); text != config.end() && text->is_object())
        if (auto it = text->find("quantization_config"); it != text->end() && it->is_object()) return {"config.json", it->dump()};
  }
  for (const char* name : {"quantize_config.json", "quant_config.json"})
    if (folder.has_file(name))
      if (auto text = read_text_file(folder.directory() + "/" + name)) return {name, *std::move(text)};
  return {};
}

QLIB_INLINE loaded_names loaded_names_of(const weight_folder& folder) {
  const nlohmann::json config = detail::parse_python_json(folder.config_text());
  const auto type = config.is_object() ? config.find("model_type") : config.end();
  loaded_names names{config.is_object() && type != config.end() && type->is_string() ? type->get<std::string>() : std::string{}};
  for (const stored_tensor& t : folder.tensors()) names.see(t.info.name);
  return names;
}

QLIB_INLINE std::string format_of(const weight_folder& folder) {
  // The description wins over config.json, as in vLLM-Ascend.
  if (!folder.description_file().empty()) return folder.description_file() == "quant_model_description.json" ? "ascend_v1" : "mindie";
  const found_config found = quantization_config_of(folder);
  if (found.text.empty()) return "float";
  const nlohmann::json q = nlohmann::json::parse(found.text, nullptr, false);
  if (!q.is_object()) return "unknown";
  const auto text_of = [&](const char* key) {
    const auto it = q.find(key);
    return it != q.end() && it->is_string() ? it->get<std::string>() : std::string{};
  };
  std::string method = text_of("quant_method");
  if (method.empty() && q.contains("config_groups")) method = "compressed-tensors";
  // Files beside config.json name no method: AutoGPTQ writes desc_act, AutoAWQ zero_point.
  if (method.empty() && found.file != "config.json") method = q.contains("zero_point") || q.contains("w_bit") ? "awq" : "gptq";
  if (method.empty()) return "unknown";
  std::ranges::replace(method, '-', '_');
  return method;
}

}  // namespace qlib::inline v0
