#pragma once
#include <qlib/io/checkpoint.hpp>
#include <qlib/io/file.hpp>
#include <qlib/io/json_text.hpp>

#include <algorithm>
#include <array>
#include <filesystem>
#include <iterator>
#include <map>
#include <numeric>
#include <set>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

namespace qlib::inline v0 {

namespace detail {

inline constexpr std::string_view single_model_file = "model.safetensors";
inline constexpr std::string_view model_index_file = "model.safetensors.index.json";

/// Moves `more` to the end of `all`.
QLIB_INLINE void append_errors(errors& all, errors more) {
  all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

QLIB_INLINE bool is_weight_file(std::string_view name) {
  // `.bin` is PyTorch's pickle ("pytorch_model-00001-of-00002.bin", "training_args.bin"): never copied.
  constexpr std::array<std::string_view, 10> endings{".safetensors", ".index.json", ".bin", ".pt",      ".pth",
                                                     ".ckpt",        ".gguf",       ".h5",  ".msgpack", ".onnx"};
  return std::ranges::any_of(endings, [&](std::string_view ending) { return name.ends_with(ending); });
}

/// Names of the regular files in a directory, sorted. Links count as what they point to: hub caches consist of links.
QLIB_INLINE result<std::vector<std::string>> regular_files(const std::string& directory) {
  std::error_code code;
  std::filesystem::directory_iterator at{directory, code};
  if (code) return system_error(directory, "list the model directory", code.value());
  std::vector<std::string> names;
  while (at != std::filesystem::directory_iterator{}) {
    std::error_code dangling;  // a link to nothing is no file; it is missed where its name is needed
    if (at->is_regular_file(dangling)) names.push_back(at->path().filename().string());
    at.increment(code);
    if (code) return system_error(directory, "list the model directory", code.value());
  }
  std::ranges::sort(names);
  return names;
}

/// What is copied to an output beside weights and config.json.
QLIB_INLINE std::vector<std::string> files_to_copy(const std::string& directory, std::span<const std::string> files) {
  namespace fs = std::filesystem;
  const auto is_copied = [](const std::string& name) { return !name.starts_with('.') && name != "config.json" && !is_weight_file(name); };
  std::vector<std::string> names;
  std::ranges::copy_if(files, std::back_inserter(names), is_copied);
  std::error_code code;
  for (fs::directory_iterator at{directory, code}; !code && at != fs::directory_iterator{}; at.increment(code)) {
    std::error_code gone;
    const std::string name = at->path().filename().string();
    if (at->is_symlink(gone) && !at->exists(gone) && is_copied(name)) names.push_back(name);
  }
  const std::string templates = "additional_chat_templates";
  for (fs::directory_iterator at{directory + "/" + templates, code}; !code && at != fs::directory_iterator{}; at.increment(code)) {
    const std::string name = at->path().filename().string();
    if (name.ends_with(".jinja")) names.push_back(templates + "/" + name);
  }
  std::ranges::sort(names);
  return names;
}

/// config.json: present and a JSON object. Of a repeated key the last value counts, as everywhere; that is no error here.
QLIB_INLINE errors read_config(const std::string& directory, std::string& out) {
  const std::string path = directory + "/config.json";
  auto text = read_text_file(path);
  if (!text) {
    error e = std::move(text).error();
    e.remedy = "a model directory needs a readable config.json";
    return {e};
  }
  if (auto syntax = check_json(detail::quote_constants(*text), path).syntax) return {*std::move(syntax)};
  if (text->find_first_not_of(" \t\r\n") != text->find('{'))
    return {error{error_kind::invalid_input, path, {}, "is not a JSON object", "download the file again"}};
  out = *std::move(text);
  return {};
}

using weight_map = std::map<std::string, std::string>;  // tensor -> file

/// The weight map of an index. `metadata.total_size` is not compared: published models have wrong ones, and nothing depends on it.
QLIB_INLINE errors read_model_index(const std::string& path, weight_map& out) {
  auto text = read_text_file(path);
  if (!text) return {std::move(text).error()};
  json_findings findings = check_json(*text, path);
  if (findings.syntax) return {*std::move(findings.syntax)};
  errors found = std::move(findings.duplicate_keys);
  const auto fault = [&](const std::string& subject, std::string problem, std::string remedy) {
    found.push_back({error_kind::invalid_input, path, subject, std::move(problem), std::move(remedy)});
  };
  const nlohmann::json index = nlohmann::json::parse(*text, nullptr, false);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (map == index.end() || !map->is_object()) {
    fault("weight_map", "is missing or not an object", "download the file again");
    return found;
  }
  if (map->empty()) fault("weight_map", "names no tensor", "download the file again");
  std::set<std::string> refused;  // one error a file, not one a tensor
  for (const auto& [tensor, value] : map->items()) {
    const std::string* file = value.get_ptr<const std::string*>();
    if (!file) {
      fault(tensor, std::string{"the file name is "} + value.type_name() + ", not string", "download the file again");
    } else if (file->empty() || file->find('/') != std::string::npos || file->find('\\') != std::string::npos ||
               file->find('\0') != std::string::npos || file->find("..") != std::string::npos) {
      if (refused.insert(*file).second)
        fault(tensor, "\"" + *file + "\" is not a plain file name", "shards lie beside the index: name them without folders");
    } else {
      out.emplace(tensor, *file);
    }
  }
  return found;
}

/// Neither the model file nor an index: what is there instead decides the remedy.
QLIB_INLINE error no_weights(const std::string& directory, std::span<const std::string> files) {
  error e{error_kind::invalid_input,
          directory,
          {},
          "neither " + std::string{single_model_file} + " nor " + std::string{model_index_file} + " exists",
          "check the model path"};
  if (std::ranges::any_of(files, [](const std::string& name) { return name.starts_with("quant_model_description"); })) {
    e.problem = "is already quantized (it has a quant_model_description.json)";
    e.remedy = "give the float checkpoint it was made from";
    return e;
  }
  const auto ends = [&](std::string_view ending) {
    return std::ranges::count_if(files, [&](const std::string& name) { return name.ends_with(ending); });
  };
  const auto shards =
      std::ranges::count_if(files, [](const std::string& name) { return name.starts_with("model-") && name.ends_with(".safetensors"); });
  if (shards != 0) {
    e.problem += "; found " + std::to_string(shards) + " files model-*.safetensors";
    e.remedy = "download the index of the shards";
  } else if (const auto others = ends(".safetensors"); others != 0) {
    e.problem += "; found " + std::to_string(others) + " other files *.safetensors";
    e.remedy = "rename the model's file or write its index";
  } else if (ends(".bin") + ends(".pth") + ends(".pt") + ends(".gguf") != 0) {
    e.problem += "; found weights of another format";
    e.remedy = "convert the model to safetensors";
  }
  return e;
}

/// What the index says against what the shards hold. Shards that did not open are not compared.
QLIB_INLINE errors compare_with_index(const std::string& index_path, const weight_map& index, std::span<const std::string> names,
                                      std::span<const safetensors_file> shards, std::span<const char> opened) {
  errors found;
  const auto fault = [&](const std::string& where, const std::string& subject, std::string problem, std::string remedy) {
    found.push_back({error_kind::invalid_input, where, subject, std::move(problem), std::move(remedy)});
  };
  std::map<std::string_view, std::size_t> holder;  // tensor -> the first shard that holds it
  for (std::size_t i = 0; i < shards.size(); ++i) {
    for (const tensor_info& t : shards[i].tensors()) {
      const auto [at, first] = holder.emplace(t.name, i);
      if (!first) fault(index_path, t.name, "is stored in both " + names[at->second] + " and " + names[i], "download these files again");
      else if (!index.contains(t.name)) fault(shards[i].path(), t.name, "is stored here, but the index does not name it", "download the index again");
    }
  }
  for (const auto& [tensor, file] : index) {
    const std::size_t i = static_cast<std::size_t>(std::ranges::lower_bound(names, file) - names.begin());
    if (!opened[i] || shards[i].find(tensor)) continue;
    const auto at = holder.find(tensor);
    fault(index_path, tensor, "is not in " + file + (at == holder.end() ? "" : " but in " + names[at->second]),
          "download the index and this file again");
  }
  return found;
}

}  // namespace detail

QLIB_INLINE errors checkpoint::open(const std::string& directory, checkpoint& out) {
  auto files = detail::regular_files(directory);
  if (!files) return {std::move(files).error()};
  const auto exists = [&](std::string_view name) { return std::ranges::binary_search(*files, name); };

  checkpoint model;
  model.directory_ = directory;
  errors found = detail::read_config(directory, model.config_text_);

  // transformers prefers the single file when both exist; so must we, or the two would read different models.
  detail::weight_map index;
  std::vector<std::string> names;
  const std::string index_path = directory + "/" + std::string{detail::model_index_file};
  const bool single = exists(detail::single_model_file);
  if (single) {
    names.emplace_back(detail::single_model_file);
  } else if (exists(detail::model_index_file)) {
    detail::append_errors(found, detail::read_model_index(index_path, index));
    for (const auto& [tensor, file] : index) names.push_back(file);
    std::ranges::sort(names);
    names.erase(std::unique(names.begin(), names.end()), names.end());
  } else {
    found.push_back(detail::no_weights(directory, *files));
  }

  model.shards_.resize(names.size());
  std::vector<char> opened(names.size(), 0);
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (!exists(names[i])) {
      const auto count = std::ranges::count_if(index, [&](const auto& mapped) { return mapped.second == names[i]; });
      found.push_back({error_kind::invalid_input, index_path, names[i],
                       "the file does not exist; " + std::to_string(count) + " tensors should be in it", "download the file"});
      continue;
    }
    errors of_shard = safetensors_file::open(directory + "/" + names[i], model.shards_[i]);
    opened[i] = of_shard.empty();
    detail::append_errors(found, std::move(of_shard));
  }
  if (!single) detail::append_errors(found, detail::compare_with_index(index_path, index, names, model.shards_, opened));
  if (!found.empty()) return found;

  for (std::size_t i = 0; i < names.size(); ++i)
    for (const tensor_info& t : model.shards_[i].tensors()) model.tensors_.push_back({t, i});
  model.by_name_.resize(model.tensors_.size());
  std::iota(model.by_name_.begin(), model.by_name_.end(), std::size_t{0});
  std::ranges::sort(model.by_name_, {}, [&](std::size_t i) -> const std::string& { return model.tensors_[i].info.name; });
  model.other_files_ = detail::files_to_copy(directory, *files);
  out = std::move(model);
  return {};
}

QLIB_INLINE const stored_tensor* checkpoint::find(std::string_view name) const {
  const auto name_at = [&](std::size_t i) -> std::string_view { return tensors_[i].info.name; };
  const auto at = std::ranges::lower_bound(by_name_, name, {}, name_at);
  return at != by_name_.end() && name_at(*at) == name ? &tensors_[*at] : nullptr;
}

QLIB_INLINE std::uint64_t checkpoint::total_bytes() const {
  return std::accumulate(tensors_.begin(), tensors_.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const stored_tensor& t) { return sum + t.info.bytes(); });
}

}  // namespace qlib::inline v0
