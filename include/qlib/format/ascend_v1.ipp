#pragma once
#include <qlib/format/ascend_v1.hpp>
#include <qlib/format/config_json.hpp>
#include <qlib/io/python_json.ipp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <tuple>

namespace qlib::inline v0 {

QLIB_INLINE result<linear_encoding> ascend_v1_format::encode(const matrix_module& m, const scheme& s, dtype run_dtype, compat follow) {
  const auto refuse = [&](std::string problem, std::string remedy) {
    return error{.subject = m.name + ".weight", .problem = std::move(problem), .remedy = std::move(remedy)};
  };
  if (!s.weights) return refuse("has no weight scheme", "leave it out of the targets");
  const quantization_args& w = *s.weights;
  if (w.type == number::floating && !(s.input_activations && s.input_activations->dynamic))
    return refuse("AscendV1 has fp8 with dynamic per-token activations alone", "use fp8_dynamic, or --format compressed_tensors");
  const bool grouped = w.strategy == strategy::group;
  if (!grouped && w.strategy != strategy::channel)
    return refuse("AscendV1 stores scales per channel or per group only", "use strategy channel or group, or --format compressed_tensors");
  const auto& a = s.input_activations;
  const bool dynamic_token = a && a->dynamic && a->strategy == strategy::token;
  const bool static_tensor = a && !a->dynamic && a->strategy == strategy::tensor;
  if (a && !dynamic_token && !static_tensor)
    return refuse("AscendV1 knows dynamic per-token and static per-tensor activations only", "use one of them, or --format compressed_tensors");

  linear_encoding e;
  e.spec = {.type = w.type,
            .num_bits = w.num_bits,
            .symmetric = w.symmetric,
            .granularity = grouped ? tile::per_group(w.group_size) : tile::per_channel(),
            .rule = scale_rule::ascend,
            .scale_dtype = dtype::f32,
            .arithmetic = follow == compat::none ? dtype::f32 : m.type};
  const bool activations_match = !a || (a->type == w.type && a->num_bits == 8);
  if (w.type == number::integer && w.num_bits == 8 && dynamic_token && activations_match) {
    if (!w.symmetric) return refuse("W8A8_DYNAMIC has no weight offset in its kernel", "use symmetric weights");
    e.quant_type = "W8A8_DYNAMIC";
  } else if (w.type == number::integer && w.num_bits == 8 && static_tensor && activations_match) {
    if (!w.symmetric || grouped)
      return refuse("static W8A8 has one symmetric weight scale a channel in its kernel", "use symmetric per-channel weights");
    e.quant_type = s.dynamic_prefill ? "W8A8_MIX" : "W8A8";
    e.input = quant_spec{.type = number::integer,
                         .num_bits = 8,
                         .symmetric = a->symmetric,
                         .granularity = tile::per_tensor(),
                         .rule = scale_rule::ascend,
                         .scale_dtype = dtype::f32,
                         .arithmetic = e.spec.arithmetic};
  } else if (w.type == number::integer && w.num_bits == 8 && !a) {
    e.quant_type = "W8A16";
  } else if (w.type == number::integer && w.num_bits == 4 && !a) {
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
    return refuse("AscendV1 has no type for this scheme (W" + std::to_string(w.num_bits) + (a ? "A8" : "A16") + ")",
                  "use w8a8, w8a8_mix, w8a8_dynamic, w8a16, w4a16 or fp8_dynamic, or --format compressed_tensors");
  }
  if (status ok = std::visit([&](const auto& p) { return p.accepts(e.spec, m.rows, m.cols); }, e.packer); !ok)
    return refuse(ok.error().problem, ok.error().remedy);

  const packed_layout codes = std::visit([&](const auto& p) { return p.layout(e.spec, m.rows, m.cols); }, e.packer);
  const grid g = grid_of(e.spec.granularity, m.rows, m.cols);
  e.tensors = {{".weight", codes.type, {codes.rows, codes.cols}, slot_role::codes}};
  if (e.input) {
    // vLLM-Ascend reads deq_scale as f32 in a bf16 model; for f16 and f32 its kernel wants the f32's bits in 64-bit integers.
    e.tensors.push_back({".quant_bias", dtype::i32, {m.rows}, slot_role::quant_bias});
    e.tensors.push_back({".input_scale", dtype::f32, {1}, slot_role::operand_scales});
    e.tensors.push_back({".input_offset", dtype::f32, {1}, slot_role::operand_zero_points});
    e.tensors.push_back({".deq_scale", run_dtype == dtype::bf16 ? dtype::f32 : dtype::i64, {m.rows}, slot_role::deq_scales});
  }
  if (!e.input || s.dynamic_prefill) {
    e.tensors.push_back({".weight_scale", dtype::f32, {g.rows, g.cols}, slot_role::scales});
    e.tensors.push_back({".weight_offset", dtype::f32, {g.rows, g.cols}, w.symmetric ? slot_role::zeros : slot_role::zero_points});
  }
  e.bias_type = dtype::f32;
  return e;
}

QLIB_INLINE result<std::vector<attention_encoding>> ascend_v1_format::encode_attention(const attention_module& m, const attention_stage& s, dtype,
                                                                                       compat) {
  const auto refuse = [&](std::string problem, std::string remedy) {
    return error{.where = s.where, .subject = m.name, .problem = std::move(problem), .remedy = std::move(remedy)};
  };
  const quantization_args& a = s.args;
  if (m.latent && s.what == attention_stage::operands::cache)
    return refuse("vLLM-Ascend's C8 cache is one of k_proj and v_proj, which multi-head latent attention does not have",
                  "use msModelSlim's fa3_quant for it, or exclude it");
  if (a.type != number::integer || a.num_bits != 8 || a.dynamic) return refuse("AscendV1 stores static int8 here only", "use int8");
  const quant_spec spec{.type = number::integer,
                        .num_bits = 8,
                        .symmetric = a.symmetric,
                        .granularity = s.what == attention_stage::operands::cache ? tile{0, 1} : tile{0, m.head_dim},
                        .rule = scale_rule::ascend,
                        .scale_dtype = dtype::f32,
                        .arithmetic = dtype::f32};
  std::vector<attention_encoding> out;
  if (s.what == attention_stage::operands::cache) {
    if (a.strategy != strategy::channel) return refuse("the C8 cache has one scale a channel", "use scope per_channel");
    for (const auto& [operand, linear, width] : {std::tuple{"key", ".k_proj", m.head_dim}, {"value", ".v_proj", m.value_dim}}) {
      const std::string at = m.name + linear;
      const std::vector<std::uint64_t> shape{m.kv_heads * width};
      out.push_back({operand,
                     spec,
                     "C8",
                     {{at + ".kv_cache_scale", dtype::f32, shape, slot_role::operand_scales},
                      {at + ".kv_cache_offset", dtype::f32, shape, slot_role::operand_zero_points}}});
    }
    return out;
  }
  for (const auto& [operand, suffix, heads, width] :
       {std::tuple{"query", ".fa_q", m.heads, m.head_dim}, {"key", ".fa_k", m.kv_heads, m.head_dim}, {"value", ".fa_v", m.kv_heads, m.value_dim}}) {
    quant_spec one = spec;
    one.granularity = {0, width};
    out.push_back({operand,
                   one,
                   "FAQuant",
                   {{m.name + suffix + ".scale", dtype::f32, {heads, 1}, slot_role::operand_scales},
                    {m.name + suffix + ".offset", dtype::i8, {heads, 1}, slot_role::operand_zero_points}}});
  }
  return out;
}

QLIB_INLINE std::string ascend_v1_format::file_name(std::size_t part, std::size_t parts) {
  std::array<char, 80> text{};
  std::snprintf(text.data(), text.size(), "quant_model_weights-%05zu-of-%05zu.safetensors", part + 1, parts);
  return text.data();
}

QLIB_INLINE std::vector<document> ascend_v1_format::documents(const manifest& m) {
  using json = nlohmann::ordered_json;
  std::vector<document> out;
  json config = detail::parse_python_json<json>(m.config_text);
  detail::remove_quantization_config(config);
  if (m.untied) detail::untie_embeddings(config);
  out.push_back({"config.json", detail::dump_python_json(std::move(config), 2) + "\n"});

  json index;
  index["metadata"]["total_size"] = m.total_bytes;
  json& map = index["weight_map"] = json::object();
  for (const auto& [tensor, file] : m.tensor_files) map[tensor] = file;
  out.push_back({"quant_model_weights.safetensors.index.json", index.dump(2)});

  // "model_quant_type": the type that comes last in this list among those that occur.
  static constexpr std::array<std::string_view, 8> priority{"FLOAT",           "W8A16", "W8A8_DYNAMIC", "W8A8_MIX", "W8A8", "WFP8AFP8_DYNAMIC",
                                                            "W8A8FP8_DYNAMIC", "W4A16"};
  json description = json::object();
  std::size_t best = 0;
  for (const manifest::tensor& t : m.tensors) {
    description[t.name] = t.quant_type;
    const auto at = std::find(priority.begin(), priority.end(), t.quant_type);
    if (at != priority.end()) best = std::max(best, static_cast<std::size_t>(at - priority.begin()));
  }
  bool cache = false, attention = false;
  for (const manifest::attention& a : m.attentions) {
    cache |= a.quant_type == "C8";
    attention |= a.quant_type == "FAQuant";
    if (a.quant_type == "FAQuant") description[a.name + ".quant_type"] = "INT8";
  }
  if (cache) description["kv_cache_type"] = description["kv_quant_type"] = "C8";
  if (attention) description["fa_quant_type"] = "FAKQuant";
  description["version"] = "1.0.0";
  description["model_quant_type"] = priority[best];
  description["metadata"] = json::object();
  description["group_size"] = m.group_size;
  description["optional"] = json::object();
  if (!m.rotation_file.empty()) description["optional"]["quarot"]["rotation_map"]["global_rotation"] = m.rotation_file;
  out.push_back({"quant_model_description.json", description.dump(4)});
  return out;
}

}  // namespace qlib::inline v0
