#pragma once
#include <qlib/format/compressed_tensors_config.hpp>
#include <qlib/format/stored_layers.hpp>
#include <qlib/io/file.hpp>
#include <qlib/model/module_name.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <tuple>

namespace qlib::inline v0 {

namespace detail {

/// What a format calls the type of a module.
using type_lookup = std::function<std::string(const std::string& module)>;

QLIB_INLINE type_lookup ascend_types(const weight_folder& folder) {
  const auto text = read_text_file(folder.directory() + "/" + folder.description_file());
  nlohmann::json j = text ? nlohmann::json::parse(*text, nullptr, false) : nlohmann::json{};
  return [j = std::move(j)](const std::string& module) -> std::string {
    const auto at = j.is_object() ? j.find(module + ".weight") : j.end();
    return j.is_object() && at != j.end() && at->is_string() ? at->get<std::string>() : "FLOAT";
  };
}

QLIB_INLINE type_lookup compressed_tensors_types(const weight_folder& folder) {
  auto config = std::make_shared<stored_config>();
  config->names = loaded_names_of(folder);
  read_compressed_tensors_config(quantization_config_of(folder).text, *config);
  return [config, &folder](const std::string& module) -> std::string {
    const stored_tensor* w = folder.find(module + ".weight");
    const bool codes = !w || bits_of(w->info.dtype) <= 8 || folder.find(module + ".weight_scale");
    const stored_scheme* s = codes ? config->scheme_of(module) : nullptr;
    return s ? type_text(*s) : codes ? "UNKNOWN" : "FLOAT";
  };
}

QLIB_INLINE type_lookup gptq_types(const weight_folder& folder, const std::string& format) {
  const auto q = nlohmann::json::parse(quantization_config_of(folder).text, nullptr, false);
  const auto number = [&](const char* key, const char* other) -> std::int64_t {
    for (const char* k : {key, other})
      if (auto it = q.find(k); it != q.end() && it->is_number_integer()) return it->get<std::int64_t>();
    return -1;
  };
  const std::int64_t group = number("group_size", "q_group_size");
  const std::string type = (format == "awq" ? "AWQ W" : "GPTQ W") + std::to_string(std::max<std::int64_t>(0, number("bits", "w_bit"))) + "A16" +
                           (group > 0 ? " g" + std::to_string(group) : "");
  return [&folder, type](const std::string& module) -> std::string { return folder.find(module + ".qweight") ? type : "FLOAT"; };
}

/// [N, K] of a module from the tensors it has; the stored shape where nothing says more.
QLIB_INLINE std::vector<std::uint64_t> logical_shape(const weight_folder& folder, const std::string& module, const stored_tensor& weight,
                                                     const std::string& type, std::uint64_t bits) {
  std::vector<std::uint64_t> shape = weight.info.shape;
  if (shape.size() != 2) return shape;
  const std::string& name = weight.info.name;
  if (name.ends_with(".qweight")) {
    if (type.starts_with("AWQ")) return {shape[1] * 8, shape[0]};
    return {shape[1], shape[0] * 32 / std::max<std::uint64_t>(1, bits)};
  }
  if (const stored_tensor* s = folder.find(module + ".weight_shape"); s && s->info.elements() == 2 && s->info.dtype == dtype::i64) {
    std::int64_t v[2];
    std::memcpy(v, folder.bytes(*s).data(), sizeof v);
    if (v[0] > 0 && v[1] > 0) return {static_cast<std::uint64_t>(v[0]), static_cast<std::uint64_t>(v[1])};
  }
  if (weight.info.dtype == dtype::u8) return {shape[0], shape[1] * 2};  // fp4, two a byte
  const stored_tensor* scale = folder.find(module + ".weight_scale");
  const std::uint64_t rows = scale && scale->info.shape.size() == 2 ? scale->info.shape[0] : shape[0];
  if (type == "W4A8_DYNAMIC" || type == "W4A16") {
    if (rows == 2 * shape[0]) return {rows, shape[1]};
    if (type == "W4A16" && scale && scale->info.shape.size() == 2 && scale->info.shape[1] == 1) return {shape[0], shape[1] * 2};
  }
  return shape;
}

}  // namespace detail

QLIB_INLINE std::vector<stored_layer> stored_layers(const weight_folder& folder) {
  const std::string format = format_of(folder);
  detail::type_lookup type_of = [](const std::string&) { return std::string{"FLOAT"}; };
  if (format == "ascend_v1" || format == "mindie") type_of = detail::ascend_types(folder);
  else if (format == "compressed_tensors") type_of = detail::compressed_tensors_types(folder);
  else if (format == "gptq" || format == "awq") type_of = detail::gptq_types(folder, format);

  std::vector<stored_layer> out;
  for (const stored_tensor& t : folder.tensors()) {
    const std::string& name = t.info.name;
    stored_layer layer;
    const bool mxfp4 = t.info.shape.size() == 4 && name.ends_with("_blocks") && expert_stack_of(name_of_stack(name)).has_value();
    const bool stacked = mxfp4 || (t.info.shape.size() == 3 && expert_stack_of(name).has_value());
    for (std::string_view suffix : {".weight", ".weight_packed", ".qweight"})
      if (name.ends_with(suffix)) layer.name = name.substr(0, name.size() - suffix.size());
    if (stacked) layer.name = name_of_stack(name);
    if (layer.name.empty() || t.info.shape.size() < 2) continue;
    layer.quant_type = mxfp4 ? "MXFP4" : stacked ? "FLOAT" : type_of(layer.name);
    if (format != "float" && !layer.quantized() && bits_of(t.info.dtype) <= 8)
      layer.quant_type = format == "fp8" && t.info.dtype == dtype::f8_e4m3 ? "FP8 block" : format;
    layer.dtype = name_of(t.info.dtype);
    std::uint64_t bits = 4;
    if (const auto w = layer.quant_type.find(" W"); w != std::string::npos)
      bits = static_cast<std::uint64_t>(std::max(1, layer.quant_type[w + 2] - '0'));
    if (mxfp4) layer.shape = {t.info.shape[0], t.info.shape[1], t.info.shape[2] * 32};
    else layer.shape = detail::logical_shape(folder, layer.name, t, layer.quant_type, bits);
    layer.weights = std::accumulate(layer.shape.begin(), layer.shape.end(), std::uint64_t{1}, std::multiplies<>{});
    if (stacked) {
      layer.bytes = t.info.bytes();
      if (const stored_tensor* scales = mxfp4 ? folder.find(layer.name + "_scales") : nullptr) layer.bytes += scales->info.bytes();
    } else {
      for (const stored_tensor& part : folder.starting_with(layer.name + "."))
        if (part.info.name.find('.', layer.name.size() + 1) == std::string::npos) layer.bytes += part.info.bytes();
    }
    out.push_back(std::move(layer));
  }
  std::ranges::stable_sort(out, [](const stored_layer& a, const stored_layer& b) {
    const bool ah = a.name.starts_with("lm_head"), bh = b.name.starts_with("lm_head");
    return ah != bh ? bh : natural_less(a.name, b.name);
  });
  return out;
}

QLIB_INLINE std::vector<layer_group> layer_groups(const std::vector<stored_layer>& layers) {
  std::vector<layer_group> out;
  std::map<std::tuple<std::string, std::string, std::string, std::vector<std::uint64_t>>, std::size_t> index;
  for (const stored_layer& l : layers) {
    std::string pattern;
    for (std::size_t at = 0; at <= l.name.size();) {
      const std::size_t end = std::min(l.name.find('.', at), l.name.size());
      const std::string_view part = std::string_view{l.name}.substr(at, end - at);
      const bool number = !part.empty() && std::ranges::all_of(part, [](char c) { return c >= '0' && c <= '9'; });
      pattern += (at == 0 ? "" : ".") + (number ? std::string{"*"} : std::string{part});
      at = end + 1;
    }
    const auto [it, added] = index.try_emplace({pattern, l.quant_type, l.dtype, l.shape}, out.size());
    if (added) out.push_back({pattern, l.quant_type, l.dtype, l.shape, 0, 0, 0});
    layer_group& g = out[it->second];
    ++g.count;
    g.weights += l.weights;
    g.bytes += l.bytes;
  }
  return out;
}

}  // namespace qlib::inline v0
