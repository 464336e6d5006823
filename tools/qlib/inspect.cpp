#include "command.hpp"

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <qlib/format/stored_layers.hpp>
#include <qlib/format/weight_folder.hpp>
#include <qlib/io/python_json.ipp>
#include <qlib/model/description.hpp>
#include <qlib/model/modules.hpp>

#include <algorithm>
#include <map>
#include <memory>

namespace qlib::program {

namespace {

struct inspect_options {
  common_options common;
  std::string directory;
};

/// What a type costs: layers, weights they stand for, bytes with their scales.
struct type_total {
  std::size_t layers = 0;
  std::uint64_t weights = 0, bytes = 0;
  double bits() const { return weights ? 8.0 * static_cast<double>(bytes) / static_cast<double>(weights) : 0.0; }
};

struct summary {
  std::string family, format;
  bool known_family = false;
  std::size_t files = 0, tensors = 0;
  std::uint64_t bytes = 0, weights = 0;  // of all tensors; weights: without scales and zero points
  std::map<std::string, type_total> types, dtypes;
  type_total quantized;
  std::vector<layer_group> groups;

  double bits() const { return weights ? 8.0 * static_cast<double>(bytes) / static_cast<double>(weights) : 0.0; }
};

std::string family_of(const weight_folder& folder) {
  const auto config = qlib::detail::parse_python_json(folder.config_text());
  for (const char* part : {"", "text_config", "llm_config", "language_config"}) {
    const auto& level = *part && config.is_object() && config.contains(part) ? config[part] : config;
    if (level.is_object() && level.contains("model_type") && level["model_type"].is_string()) return level["model_type"].get<std::string>();
  }
  return "unknown";
}

/// Other safetensors files (calibration data, a second copy of the weights) lie in the same folder.
bool of_model(const weight_folder& folder, const std::string& file) {
  if (folder.has_file("model.safetensors")) return file == "model.safetensors";
  if (folder.has_file("model.safetensors.index.json")) return file.find("-of-") != std::string::npos;
  if (folder.description_file().empty()) return true;
  return file.starts_with("quant_model_weight") || file.starts_with("mtp-") || file.starts_with("rot.") || file.starts_with("model-");
}

summary summarize(const weight_folder& folder) {
  summary s;
  s.family = family_of(folder);
  s.format = format_of(folder);
  model_description ignored;
  const auto known = described_model_types();
  s.known_family = std::ranges::binary_search(known, s.family) || read_model_description(folder.config_text(), {}, ignored).empty();
  const std::vector<stored_layer> layers = stored_layers(folder);
  std::uint64_t in_layers = 0, all_weights = 0;
  for (const stored_layer& l : layers) {
    type_total& t = s.types[l.quantized() ? l.quant_type : l.dtype];
    for (type_total* total : {&t, &s.quantized}) {
      if (total == &s.quantized && !l.quantized()) continue;
      ++total->layers;
      total->weights += l.weights;
      total->bytes += l.bytes;
    }
    in_layers += l.bytes;
    s.weights += l.weights;
  }
  for (const stored_tensor& t : folder.tensors()) {
    if (!of_model(folder, folder.file_of(t))) continue;
    s.bytes += t.info.bytes();
    ++s.tensors;
    type_total& d = s.dtypes[std::string{name_of(t.info.dtype)}];
    ++d.layers;
    d.bytes += t.info.bytes();
    // Vectors are norms and biases; of a quantized module they may be scales, which stand for no weight.
    const bool side = t.info.name.find("_scale") != std::string::npos || t.info.name.find("_offset") != std::string::npos ||
                      t.info.name.find(".g_idx") != std::string::npos;
    if (s.format == "float") all_weights += t.info.elements();
    else if (t.info.shape.size() == 1 && !side && !t.info.name.ends_with(".weight_shape")) s.weights += t.info.elements();
  }
  if (s.format == "float") s.weights = all_weights;
  if (s.bytes > in_layers) {
    type_total& other = s.types["others"];
    other.bytes = s.bytes - in_layers;
  }
  for (const std::string& file : folder.weight_names()) s.files += of_model(folder, file);
  s.groups = layer_groups(layers);
  return s;
}

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text;
  for (std::uint64_t d : shape) text += (text.empty() ? "" : ", ") + std::to_string(d);
  return "[" + text + "]";
}

/// `text` in at most `width` columns: what is too long loses its middle.
std::string fitted(const std::string& text, std::size_t width) {
  if (text.size() <= width) return text;
  const std::size_t tail = (width - 3) * 2 / 3;
  return text.substr(0, width - 3 - tail) + "..." + text.substr(text.size() - tail);
}

nlohmann::ordered_json json_of(const summary& s) {
  nlohmann::ordered_json j;
  j["model_type"] = s.family;
  j["known_family"] = s.known_family;
  j["format"] = s.format;
  j["bytes"] = s.bytes;
  j["files"] = s.files;
  j["tensors"] = s.tensors;
  j["bits_per_weight"] = s.bits();
  j["quantized"] = {
      {"layers", s.quantized.layers}, {"weights", s.quantized.weights}, {"bytes", s.quantized.bytes}, {"bits_per_weight", s.quantized.bits()}};
  j["types"] = nlohmann::ordered_json::object();
  for (const auto& [type, t] : s.types) j["types"][type] = {{"layers", t.layers}, {"weights", t.weights}, {"bytes", t.bytes}};
  j["layers"] = nlohmann::ordered_json::array();
  for (const layer_group& g : s.groups)
    j["layers"].push_back({{"name", g.pattern},
                           {"quant_type", g.quant_type},
                           {"dtype", g.dtype},
                           {"count", g.count},
                           {"shape", g.shape},
                           {"weights", g.weights},
                           {"bytes", g.bytes}});
  j["dtypes"] = nlohmann::ordered_json::object();
  for (const auto& [type, t] : s.dtypes) j["dtypes"][type] = {{"tensors", t.layers}, {"bytes", t.bytes}};
  return j;
}

/// A table of at most 80 columns.
void print(const summary& s, const inspect_options& o) {
  fmt::print("{}\n  family {}, format {}\n  {} tensors in {} file{}, {}, {:.2f} bits per weight", o.directory, s.family, s.format, s.tensors, s.files,
             s.files == 1 ? "" : "s", size_text(static_cast<double>(s.bytes)), s.bits());
  if (s.quantized.layers) fmt::print("\n  {} quantized layers, {:.2f} bits per weight with their scales", s.quantized.layers, s.quantized.bits());
  fmt::print("\n\n");
  std::size_t name = 5, type = 4, count = 1, shape = 5;
  const auto type_of = [](const layer_group& g) { return g.quant_type == "FLOAT" ? g.dtype : g.quant_type; };
  for (const layer_group& g : s.groups) {
    name = std::max(name, g.pattern.size());
    type = std::max(type, type_of(g).size());
    count = std::max(count, std::to_string(g.count).size());
    shape = std::max(shape, shape_text(g.shape).size());
  }
  type = std::min<std::size_t>(type, 24);
  const std::size_t others = type + count + shape + 7;  // two columns between the cells, an x before the count
  name = std::min(name, others < 60 ? 80 - others : 20);
  for (const layer_group& g : s.groups)
    fmt::print("{:<{}}  {:<{}}  x{:<{}}  {}\n", fitted(one_line(g.pattern), name), name, fitted(type_of(g), type), type, g.count, count,
               shape_text(g.shape));
  fmt::print("\n");
  for (const auto& [label, t] : s.types) {
    const std::string size = size_text(static_cast<double>(t.bytes));
    if (t.layers == 0) fmt::print("{:<24} {:>7} {:>19}\n", label, "", size);
    else fmt::print("{:<24} {:>7} layers {:>12} {:>8.2f} bits per weight\n", fitted(label, 24), t.layers, size, t.bits());
  }
}

int run(const inspect_options& o) {
  weight_folder folder;
  if (errors found = weight_folder::open(o.directory, folder); !found.empty()) return report_errors(o.common, found);
  for (const error& e : folder.damage()) log_warning(o.common, e.text());
  const summary s = summarize(folder);
  if (o.common.json) fmt::print("{}\n", json_of(s).dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  else print(s, o);
  return folder.weight_names().empty() ? exit_invalid : exit_done;
}

}  // namespace

void declare_inspect(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("inspect", "say what a checkpoint is: family, format, type of each layer, sizes");
  auto options = std::make_shared<inspect_options>();
  add_common_options(*c, options->common);
  c->add_option("directory", options->directory, "the checkpoint, float or quantized")->required();
  c->footer("Example:\n  qlib inspect Qwen3-8B-W8A8");
  c->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace qlib::program
