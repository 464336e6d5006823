#pragma once
#include <qlib/format/ascend_v1.hpp>
#include <qlib/format/config_json.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdio>

namespace qlib::inline v0 {

QLIB_INLINE result<linear_encoding> ascend_v1_format::encode(const matrix_module& m, const scheme& s, compat follow) {
  const auto refuse = [&](std::string problem, std::string remedy) {
    return error{.subject = m.name + ".weight", .problem = std::move(problem), .remedy = std::move(remedy)};
  };
  if (!s.weights) return refuse("has no weight scheme", "leave it out of the targets");
  const quantization_args& w = *s.weights;
  const bool grouped = w.strategy == strategy::group;
  if (!grouped && w.strategy != strategy::channel)
    return refuse("AscendV1 stores scales per channel or per group only", "use strategy channel or group, or --format compressed_tensors");
  const bool dynamic_token = s.input_activations && s.input_activations->dynamic && s.input_activations->strategy == strategy::token;
  if (s.input_activations && !dynamic_token)
    return refuse("static activations need calibration, which this version does not build", "use a dynamic per-token scheme");

  linear_encoding e;
  e.spec = {.type = w.type,
            .num_bits = w.num_bits,
            .symmetric = w.symmetric,
            .granularity = grouped ? tile::per_group(w.group_size) : tile::per_channel(),
            .rule = scale_rule::ascend,
            .scale_dtype = dtype::f32,
            .arithmetic = follow == compat::none ? dtype::f32 : m.type};
  const bool activations_match = !s.input_activations || (s.input_activations->type == w.type && s.input_activations->num_bits == 8);
  if (w.type == number::integer && w.num_bits == 8 && dynamic_token && activations_match) {
    if (!w.symmetric) return refuse("W8A8_DYNAMIC has no weight offset in its kernel", "use symmetric weights");
    e.quant_type = "W8A8_DYNAMIC";
  } else if (w.type == number::integer && w.num_bits == 8 && !s.input_activations) {
    e.quant_type = "W8A16";
  } else if (w.type == number::integer && w.num_bits == 4 && !s.input_activations) {
    e.quant_type = "W4A16";
    if (grouped) {
      e.packer = int4_rows_packer{};
      e.spec.arithmetic = dtype::f32;  // msModelSlim quantizes int4 groups in f32 whatever the model is
    } else {
      e.packer = int4_columns_packer{};
    }
  } else if (w.type == number::floating && dynamic_token && activations_match && !grouped) {
    e.quant_type = follow == compat::msmodelslim ? "WFP8AFP8_DYNAMIC" : "W8A8FP8_DYNAMIC";  // the name that vLLM-Ascend registers
    e.packer = fp8_packer{};
  } else {
    return refuse("AscendV1 has no type for this scheme (W" + std::to_string(w.num_bits) + (s.input_activations ? "A8" : "A16") + ")",
                  "use w8a8_dynamic, w8a16, w4a16 or fp8_dynamic, or --format compressed_tensors");
  }
  if (status ok = std::visit([&](const auto& p) { return p.accepts(e.spec, m.rows, m.cols); }, e.packer); !ok)
    return refuse(ok.error().problem, ok.error().remedy);

  const packed_layout codes = std::visit([&](const auto& p) { return p.layout(e.spec, m.rows, m.cols); }, e.packer);
  const grid g = grid_of(e.spec.granularity, m.rows, m.cols);
  e.tensors = {{".weight", codes.type, {codes.rows, codes.cols}, slot_role::codes},
               {".weight_scale", dtype::f32, {g.rows, g.cols}, slot_role::scales},
               {".weight_offset", dtype::f32, {g.rows, g.cols}, w.symmetric ? slot_role::zeros : slot_role::zero_points}};
  e.bias_type = dtype::f32;
  return e;
}

QLIB_INLINE std::string ascend_v1_format::file_name(std::size_t part, std::size_t parts) {
  std::array<char, 80> text{};
  std::snprintf(text.data(), text.size(), "quant_model_weights-%05zu-of-%05zu.safetensors", part + 1, parts);
  return text.data();
}

QLIB_INLINE std::vector<document> ascend_v1_format::documents(const manifest& m) {
  using json = nlohmann::ordered_json;
  std::vector<document> out;
  json config = json::parse(m.config_text, nullptr, false);
  detail::remove_quantization_config(config);
  out.push_back({"config.json", config.dump(2) + "\n"});

  json index;
  index["metadata"]["total_size"] = m.total_bytes;
  json& map = index["weight_map"] = json::object();
  for (const auto& [tensor, file] : m.tensor_files) map[tensor] = file;
  out.push_back({"quant_model_weights.safetensors.index.json", index.dump(2)});

  // "model_quant_type": the type that comes last in this list among those that occur.
  static constexpr std::array<std::string_view, 6> priority{"FLOAT", "W8A16", "W8A8_DYNAMIC", "WFP8AFP8_DYNAMIC", "W8A8FP8_DYNAMIC", "W4A16"};
  json description = json::object();
  std::size_t best = 0;
  for (const manifest::tensor& t : m.tensors) {
    description[t.name] = t.quant_type;
    const auto at = std::find(priority.begin(), priority.end(), t.quant_type);
    if (at != priority.end()) best = std::max(best, static_cast<std::size_t>(at - priority.begin()));
  }
  description["version"] = "1.0.0";
  description["model_quant_type"] = priority[best];
  description["metadata"] = json::object();
  description["group_size"] = m.group_size;
  description["optional"] = json::object();
  out.push_back({"quant_model_description.json", description.dump(4)});
  return out;
}

}  // namespace qlib::inline v0
