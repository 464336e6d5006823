#pragma once
#include <qlib/format/compressed_tensors.hpp>
#include <qlib/format/config_json.hpp>
#include <qlib/io/python_json.ipp>
#include <qlib/recipe/match.hpp>
#include <qlib/recipe/policy_options.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <set>

namespace qlib::inline v0 {

QLIB_INLINE std::string compressed_tensors_format::container(const scheme& s) {
  if (!s.format.empty()) return s.format;
  if (!s.weights) return "dense";
  if (s.weights->type == number::floating) return s.input_activations ? "float-quantized" : "naive-quantized";
  return s.input_activations ? "int-quantized" : "pack-quantized";
}

QLIB_INLINE result<linear_encoding> compressed_tensors_format::encode(const matrix_module& m, const scheme& s, dtype, compat follow) {
  const auto refuse = [&](std::string problem, std::string remedy) {
    return error{.subject = m.name + ".weight", .problem = std::move(problem), .remedy = std::move(remedy)};
  };
  if (!s.weights) return refuse("has no weight scheme", "leave it out of the targets");
  const quantization_args& w = *s.weights;
  const auto& a = s.input_activations;
  if (a && !a->dynamic && a->strategy != strategy::tensor) return refuse("static activations have one scale a tensor here", "use strategy tensor");
  if (s.dynamic_prefill)
    return refuse("compressed-tensors has no W8A8_MIX: activations are static or dynamic", "use w8a8 or w8a8_dynamic, or --format ascend_v1");
  const std::string box = container(s);
  linear_encoding e;
  e.spec = {.type = w.type,
            .num_bits = w.num_bits,
            .symmetric = w.symmetric,
            .granularity = {},
            .rule = scale_rule::compressed_tensors,
            .scale_dtype = m.type,
            // Scale and zero point round into each other: only the tool's own parameters never lose more than the tool does.
            .arithmetic = follow == compat::none && w.symmetric ? dtype::f32 : m.type,
            .nearest_codes = follow == compat::none && !w.symmetric};
  switch (w.strategy) {
    case strategy::tensor:
      e.spec.granularity = tile::per_tensor();
      break;
    case strategy::channel:
      e.spec.granularity = tile::per_channel();
      break;
    case strategy::group:
      e.spec.granularity = tile::per_group(w.group_size);
      break;
    case strategy::block:
      e.spec.granularity = tile::per_block(w.block_rows, w.block_cols);
      break;
    case strategy::token:
      return refuse("weights cannot be quantized per token", "use strategy channel, group or tensor");
  }
  if (w.type == number::floating) {
    if (!w.symmetric) return refuse("fp8 weights have no zero point", "use symmetric: true");
    e.packer = fp8_packer{};
  } else if (box == "pack-quantized") {
    e.packer = pack_quantized_packer{};
  } else if (box == "int-quantized" || box == "naive-quantized") {
    e.packer = int8_packer{};
  } else {
    return refuse("format \"" + box + "\" cannot hold this scheme", "use int-quantized, pack-quantized or leave format out");
  }
  if (status ok = std::visit([&](const auto& p) { return p.accepts(e.spec, m.rows, m.cols); }, e.packer); !ok)
    return refuse(ok.error().problem, ok.error().remedy);
  const std::string bits = std::to_string(w.num_bits), a_bits = a ? std::to_string(a->num_bits) : "";
  if (w.type == number::floating) e.quant_type = "FP" + bits;
  else e.quant_type = "W" + bits + (a ? "A" + a_bits : "A16");
  if (a && a->dynamic) e.quant_type += "_DYNAMIC";
  if (a && !a->dynamic)
    e.input = quant_spec{.type = a->type,
                         .num_bits = a->num_bits,
                         .symmetric = a->symmetric,
                         .granularity = tile::per_tensor(),
                         .rule = scale_rule::compressed_tensors,
                         .scale_dtype = m.type,
                         .arithmetic = follow == compat::none ? dtype::f32 : m.type};

  const packed_layout codes = std::visit([&](const auto& p) { return p.layout(e.spec, m.rows, m.cols); }, e.packer);
  const grid g = grid_of(e.spec.granularity, m.rows, m.cols);
  const std::vector<std::uint64_t> scale_shape =
      w.strategy == strategy::tensor ? std::vector<std::uint64_t>{1} : std::vector<std::uint64_t>{g.rows, g.cols};
  const bool packed = box == "pack-quantized";
  e.tensors.push_back({packed ? ".weight_packed" : ".weight", codes.type, {codes.rows, codes.cols}, slot_role::codes});
  e.tensors.push_back({".weight_scale", m.type, scale_shape, slot_role::scales});
  if (!w.symmetric) {
    if (packed) {
      const std::uint64_t words = (m.rows * static_cast<std::uint64_t>(w.num_bits) + 31) / 32;
      e.tensors.push_back({".weight_zero_point", dtype::i32, {words, g.cols}, slot_role::packed_zero_points});
    } else {
      e.tensors.push_back({".weight_zero_point", dtype::i8, scale_shape, slot_role::zero_points});
    }
  }
  if (packed) e.tensors.push_back({".weight_shape", dtype::i64, {2}, slot_role::weight_shape});
  if (e.input) {
    e.tensors.push_back({".input_scale", m.type, {1}, slot_role::operand_scales});
    if (!a->symmetric) e.tensors.push_back({".input_zero_point", dtype::i8, {1}, slot_role::operand_zero_points});
  }
  e.bias_type = m.type;
  return e;
}

QLIB_INLINE result<std::vector<attention_encoding>> compressed_tensors_format::encode_attention(const attention_module& m, const attention_stage& s,
                                                                                                dtype run, compat follow) {
  const auto refuse = [&](std::string problem, std::string remedy) {
    return error{.where = s.where, .subject = m.name, .problem = std::move(problem), .remedy = std::move(remedy)};
  };
  const quantization_args& a = s.args;
  if (s.what != attention_stage::operands::cache)
    return refuse("compressed-tensors stores no attention operands but the cache", "use --format ascend_v1");
  if (m.latent)
    return refuse("multi-head latent attention caches its compressed vector, and k_scale and v_scale are of the expanded keys and values",
                  "leave it out: vLLM quantizes that cache by an option of its own; or use --format ascend_v1 with fa3_quant");
  if (a.dynamic) return refuse("a dynamic cache has no scales", "leave it out of the recipe: engines quantize the cache by an option of theirs");
  if (!a.symmetric) return refuse("engines read symmetric cache scales only", "set symmetric: true");
  if (a.strategy != strategy::tensor)
    return refuse("the cache has one scale a tensor here", "use strategy tensor, or --format ascend_v1 for one scale a channel");
  const quant_spec spec{.type = a.type,
                        .num_bits = a.num_bits,
                        .symmetric = true,
                        .granularity = tile::per_tensor(),
                        .rule = scale_rule::compressed_tensors,
                        .scale_dtype = run,
                        .arithmetic = follow == compat::none ? dtype::f32 : run};
  std::vector<attention_encoding> out;
  const std::string type = std::string{a.type == number::floating ? "FP" : "INT"} + std::to_string(a.num_bits) + "_KV";
  for (const auto& [operand, suffix] : {std::pair{"key", ".k_scale"}, {"value", ".v_scale"}})
    out.push_back({operand, spec, type, {{m.name + suffix, run, {1}, slot_role::operand_scales}}});
  return out;
}

QLIB_INLINE std::string compressed_tensors_format::file_name(std::size_t part, std::size_t parts) {
  if (parts == 1) return "model.safetensors";
  std::array<char, 80> text{};
  std::snprintf(text.data(), text.size(), "model-%05zu-of-%05zu.safetensors", part + 1, parts);
  return text.data();
}

namespace detail {

/// The targets of a stage find these modules by their stored names, as vLLM has them, too.
inline bool targets_stored_names(const stage& s, const std::vector<std::string>& modules) {
  const auto targets = pattern_set::compile(s.targets, s.syntax, s.where);
  return targets && std::all_of(modules.begin(), modules.end(), [&](const std::string& m) { return targets->matches(m, "Linear"); });
}

/// `weights`: how their ranges were found; null for activations. Readers know LLM-Compressor's observers only: others are left out.
inline nlohmann::ordered_json arguments_json(const std::optional<quantization_args>& a, const policy_choice* weights) {
  using json = nlohmann::ordered_json;
  if (!a) return nullptr;
  static constexpr std::array<const char*, 5> strategies{"tensor", "channel", "group", "block", "token"};
  json j;
  j["actorder"] = nullptr;
  j["block_structure"] = a->strategy == strategy::block ? json::array({a->block_rows, a->block_cols}) : json(nullptr);
  j["dynamic"] = a->dynamic;
  j["group_size"] = a->group_size ? json(a->group_size) : json(nullptr);
  j["num_bits"] = a->num_bits;
  j["observer"] = a->dynamic ? json(nullptr) : json(a->observer.empty() ? "minmax" : a->observer);
  j["observer_kwargs"] = json::object();
  if (weights) {
    const bool known = weights->name == "minmax" || weights->name == "mse";
    j["observer"] = known ? json("memoryless_" + weights->name) : json(nullptr);
    for (const auto& [key, value] : weights->options) {
      if (!known) continue;
      if (const auto whole = value_of<int>(value)) j["observer_kwargs"][key] = *whole;
      else j["observer_kwargs"][key] = value_of<double>(value).value_or(0);
    }
  }
  j["scale_dtype"] = nullptr;
  j["strategy"] = strategies[static_cast<std::size_t>(a->strategy)];
  j["symmetric"] = a->symmetric;
  j["type"] = a->type == number::integer ? "int" : "float";
  j["zp_dtype"] = a->symmetric ? json(nullptr) : json("torch.int8");
  return j;
}

}  // namespace detail

QLIB_INLINE std::vector<document> compressed_tensors_format::documents(const manifest& m) {
  using json = nlohmann::ordered_json;
  std::vector<document> out;
  // transformers looks modules up by the names it gives them, vLLM by the stored ones.
  const auto both_names = [&](std::size_t stage) {
    json names = json::array();
    for (const manifest::linear& l : m.linears)
      if (!l.quant_type.empty() && l.stage == stage) {
        names.push_back(l.name);
        if (!l.loaded.empty()) names.push_back(l.loaded);
      }
    return names;
  };
  json groups = json::object();
  std::set<std::string> containers;
  std::map<std::size_t, std::vector<std::string>> members;
  for (const manifest::linear& l : m.linears)
    if (!l.quant_type.empty()) members[l.stage].push_back(l.name);
  for (const auto& [index, names] : members) {
    const stage& s = m.recipe->stages[index];
    json group;
    group["format"] = container(s.scheme);
    containers.insert(container(s.scheme));
    group["input_activations"] = detail::arguments_json(s.scheme.input_activations, nullptr);
    group["output_activations"] = nullptr;
    // Globs are msModelSlim's; readers of this format know names, classes and regexes. A single group speaks of all Linears that
    // `ignore` does not list; one of several lists its modules. So do regexes that only transformers' names match.
    if (s.syntax == pattern_syntax::compressed_tensors && detail::targets_stored_names(s, names)) group["targets"] = s.targets;
    else if (members.size() == 1) group["targets"] = json::array({"Linear"});
    else group["targets"] = both_names(index);
    group["weights"] = detail::arguments_json(s.scheme.weights, &s.observer);
    groups["group_" + std::to_string(groups.size())] = std::move(group);
  }
  json ignore = json::array();
  for (const manifest::linear& l : m.linears)
    if (l.listed_in_ignore) {
      ignore.push_back(l.name);
      if (!l.loaded.empty()) ignore.push_back(l.loaded);
    }
  json q;
  q["config_groups"] = std::move(groups);
  q["format"] = containers.empty() ? "dense" : containers.size() == 1 ? *containers.begin() : "mixed-precision";
  q["global_compression_ratio"] = nullptr;
  q["ignore"] = std::move(ignore);
  q["kv_cache_scheme"] = m.attentions.empty() ? json(nullptr) : detail::arguments_json(m.recipe->attention[m.attentions.front().stage].args, nullptr);
  q["quant_method"] = "compressed-tensors";
  q["quantization_status"] = "compressed";
  q["sparsity_config"] = json::object();
  q["transform_config"] = json::object();
  q["version"] = "0.19.0";  // of the layout: compressed-tensors' own reader and ours agree on this one
  json config = detail::parse_python_json<json>(m.config_text);
  detail::remove_quantization_config(config);
  if (m.untied) detail::untie_embeddings(config);
  config["quantization_config"] = std::move(q);
  out.push_back({"config.json", detail::dump_python_json(std::move(config), 2) + "\n"});

  std::set<std::string> files;
  for (const auto& [tensor, file] : m.tensor_files) files.insert(file);
  if (files.size() > 1) {
    json index;
    index["metadata"]["total_size"] = m.total_bytes;
    json& map = index["weight_map"] = json::object();
    for (const auto& [tensor, file] : m.tensor_files) map[tensor] = file;
    out.push_back({"model.safetensors.index.json", index.dump(2) + "\n"});
  }
  return out;
}

}  // namespace qlib::inline v0
