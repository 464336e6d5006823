#pragma once
#include <qlib/io/python_json.ipp>
#include <qlib/model/description.hpp>
#include <qlib/model/loaded_names.hpp>
#include <qlib/model/module_name.hpp>
#include <qlib/model/modules.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <set>

namespace qlib::inline v0 {

namespace detail {

/// Families that keep some matrices as transformers' Conv1D does: [in_features, out_features].
inline bool is_conv1d(std::string_view model_type, std::string_view module) {
  bool family = false;
  for (std::string_view type : {"gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp"}) family = family || model_type == type;
  if (!family) return false;
  for (std::string_view tail : {"c_attn", "q_attn", "c_proj", "c_fc"})
    if (ends_with_component(module, tail)) return true;
  return false;
}

/// Sizes that no model has: a config.json that was damaged, or written by a slip. Absent ones are other checks' business.
inline void check_sizes(const nlohmann::json& text, const std::string& where, errors& found) {
  const auto check = [&](const char* key, std::uint64_t most, const char* what) {
    const auto it = text.find(key);
    if (it == text.end() || it->is_null() || (it->is_number_unsigned() && it->get<std::uint64_t>() <= most)) return;
    found.push_back({.where = where, .subject = key, .problem = "is " + it->dump() + ", not a number of " + what, .remedy = "correct config.json"});
  };
  check("num_hidden_layers", most_layers, "layers");
  if (const auto it = text.find("hidden_size"); it == text.end() || !it->is_array()) check("hidden_size", 1u << 24, "channels");
}

inline bool is_weight_dtype(dtype t) { return t == dtype::f32 || t == dtype::bf16 || t == dtype::f16; }

/// How a family stacks its experts in one tensor; by the tensor's last component and the family.
struct stacking {
  bool transposed = false;   ///< [experts, in, out]
  bool interleaved = false;  ///< gate and up rows alternate
};

/// t: a stacked tensor [experts, ., .]. Releases of Qwen3-VL have both layouts: the side that is `hidden` wide decides.
inline stacking stacking_of(std::string_view model_type, const tensor_info& t, std::uint64_t hidden) {
  if (model_type == "gpt_oss") return {true, true};
  if (model_type == "llama4_text" || model_type == "llama4") return {true, false};
  if (model_type != "qwen3_vl_moe" && model_type != "qwen3_vl_moe_text") return {};
  const std::size_t input = t.name.ends_with("gate_up_proj") ? 1 : 2;  // where `hidden` stands if it is transposed
  return {t.shape[input] == hidden || t.shape[3 - input] != hidden, false};
}

inline const nlohmann::json* text_config(const nlohmann::json& config) {
  for (const char* key : {"text_config", "llm_config", "language_config"})
    if (auto it = config.find(key); it != config.end() && it->is_object()) return &*it;
  return &config;
}

inline std::string string_at(const nlohmann::json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string{};
}

/// Of a config that names one.
inline std::optional<dtype> run_dtype_of(const nlohmann::json& config) {
  std::string name = string_at(config, "torch_dtype");
  if (name.empty()) name = string_at(config, "dtype");
  if (name.empty() && text_config(config) != &config) return run_dtype_of(*text_config(config));
  if (name.empty()) return std::nullopt;
  if (name.starts_with("torch.")) name.erase(0, 6);
  return name == "bfloat16" ? dtype::bf16 : name == "float16" || name == "half" ? dtype::f16 : dtype::f32;
}

/// A stacked pair [experts, 2 * intermediate, hidden] and [experts, hidden, intermediate] as 3 * experts linear layers. MXFP4:
/// [experts, out, in / 32, 16].
inline void unpack_experts(const checkpoint& source, std::size_t index, const expert_stack& names, const stacking& how,
                           std::vector<matrix_module>& out) {
  const tensor_info& t = source.tensors()[index].info;
  const std::uint64_t experts = t.shape[0], d1 = t.shape[1], d2 = t.shape[2];
  const bool mxfp4 = t.shape.size() == 4;
  const std::uint64_t outs = how.transposed ? d2 : d1, ins = mxfp4 ? d2 * 32 : how.transposed ? d1 : d2;
  const stored_tensor* bias = source.find(std::string{name_of_stack(t.name)} + "_bias");
  const auto bias_index = [&] { return static_cast<std::size_t>(bias - source.tensors().data()); };
  for (std::uint64_t e = 0; e < experts; ++e) {
    const auto add = [&](std::string_view name, std::uint64_t first, std::uint64_t step, std::uint64_t rows) {
      matrix_module m{.name = names.module(e, name), .kind = module_class::linear, .rows = rows, .cols = ins, .type = t.dtype, .stacked = true};
      m.weight = {.tensor = index,
                  .offset = e * outs * ins + first * (how.transposed ? 1 : ins),
                  .row_stride = step * (how.transposed ? 1 : ins),
                  .col_stride = how.transposed ? outs : 1};
      if (mxfp4) {
        m.type = dtype::bf16;
        m.weight.storage = matrix_storage::mxfp4;
        m.weight.scale = static_cast<std::size_t>(source.find(std::string{name_of_stack(t.name)} + "_scales") - source.tensors().data());
      }
      if (bias) m.bias = matrix_source{.tensor = bias_index(), .offset = e * outs + first, .row_stride = step, .col_stride = 1};
      out.push_back(std::move(m));
    };
    if (!names.gate_up) {
      add(names.down, 0, 1, outs);
    } else if (how.interleaved) {
      add(names.gate, 0, 2, outs / 2);
      add(names.up, 1, 2, outs / 2);
    } else {
      add(names.gate, 0, 1, outs / 2);
      add(names.up, outs / 2, 1, outs / 2);
    }
  }
}

}  // namespace detail

QLIB_INLINE errors read_model_layout(const checkpoint& source, model_layout& out) {
  errors found;
  const std::string where = source.directory() + "/config.json";
  const nlohmann::json config = detail::parse_python_json(source.config_text());
  if (!config.is_object()) {
    found.push_back({.where = where, .problem = "is not a JSON object", .remedy = "give a Hugging Face model directory"});
    return found;
  }
  model_layout layout;
  layout.model_type = detail::string_at(config, "model_type");
  if (layout.model_type.empty()) layout.model_type = detail::string_at(*detail::text_config(config), "model_type");
  if (layout.model_type.empty())
    found.push_back(
        {.where = where, .subject = "model_type", .problem = "missing", .remedy = "add the model_type that transformers knows this model by"});
  const auto known = described_model_types();
  const std::string text_type = detail::string_at(*detail::text_config(config), "model_type");
  const auto is_known = [&](std::string_view type) { return std::binary_search(known.begin(), known.end(), type); };
  layout.known_family = is_known(layout.model_type) || is_known(text_type);
  {
    const auto& text = *detail::text_config(config);
    const auto tied = text.find("tie_word_embeddings");
    layout.tied_embeddings =
        tied != text.end() && tied->is_boolean() ? tied->get<bool>() : tied_by_default(text_type.empty() ? layout.model_type : text_type);
  }

  detail::check_sizes(*detail::text_config(config), where, found);

  // What is dequantized on reading; any other quantized source would be quantized twice.
  std::size_t block_rows = 0, block_cols = 0;
  bool mxfp4 = false;
  for (const nlohmann::json* level : {&config, detail::text_config(config)}) {
    const auto q = level->find("quantization_config");
    if (q == level->end() || !q->is_object()) continue;
    const std::string method = detail::string_at(*q, "quant_method");
    const auto block = q->find("weight_block_size");
    const bool has_block =
        block != q->end() && block->is_array() && block->size() == 2 && (*block)[0].is_number_unsigned() && (*block)[1].is_number_unsigned();
    if (method == "fp8" && has_block) {
      block_rows = (*block)[0].get<std::size_t>();
      block_cols = (*block)[1].get<std::size_t>();
    } else if (method == "mxfp4") {
      mxfp4 = true;
    } else {
      found.push_back(
          {.where = where,
           .subject = "quantization_config",
           .problem = "the source is already quantized (quant_method \"" + method + "\")",
           .remedy = "give the float checkpoint it was made from; of quantized sources only block-fp8 (weight_block_size) and MXFP4 are read"});
    }
    break;
  }
  const auto tensors = source.tensors();
  loaded_names names{layout.model_type};
  for (const stored_tensor& t : tensors) names.see(t.info.name);
  const auto hidden = detail::text_config(config)->value("hidden_size", nlohmann::json{});
  const auto how = [&](const tensor_info& t) {
    return detail::stacking_of(layout.model_type, t, hidden.is_number_unsigned() ? hidden.get<std::uint64_t>() : 0);
  };
  std::set<std::size_t> taken;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const tensor_info& t = tensors[i].info;
    const std::string stack_name{mxfp4 ? name_of_stack(t.name) : t.name};
    const auto stack = expert_stack_of(stack_name);
    const bool stacked = stack && t.shape.size() == 3 && detail::is_weight_dtype(t.dtype) && t.elements() > 0 &&
                         (!stack->gate_up || (how(t).transposed ? t.shape[2] : t.shape[1]) % 2 == 0);
    if (stacked) {
      detail::unpack_experts(source, i, *stack, how(t), layout.matrices);
      taken.insert(i);
      if (const stored_tensor* b = source.find(t.name + "_bias")) taken.insert(static_cast<std::size_t>(b - tensors.data()));
      continue;
    }
    if (stack && t.name.ends_with("_blocks")) {
      const stored_tensor* scales = source.find(stack_name + "_scales");
      const std::vector<std::uint64_t> want(t.shape.begin(), t.shape.size() == 4 ? t.shape.end() - 1 : t.shape.end());
      const bool fits = t.shape.size() == 4 && t.shape[3] == 16 && t.dtype == dtype::u8 && t.elements() > 0 && scales && scales->info.shape == want &&
                        (scales->info.dtype == dtype::u8 || scales->info.dtype == dtype::f8_e8m0) && (!stack->gate_up || t.shape[1] % 2 == 0);
      if (!fits) {
        found.push_back({.where = source.shards()[tensors[i].shard].path(),
                         .subject = t.name,
                         .problem = "must be U8 [experts, out_features, in_features / 32, 16] with U8 " + stack_name +
                                    "_scales [experts, out_features, in_features / 32] beside it",
                         .remedy = "the checkpoint is damaged"});
        continue;
      }
      detail::unpack_experts(source, i, *stack, {false, true}, layout.matrices);
      taken.insert(i);
      taken.insert(static_cast<std::size_t>(scales - tensors.data()));
      if (const stored_tensor* b = source.find(stack_name + "_bias")) taken.insert(static_cast<std::size_t>(b - tensors.data()));
      continue;
    }
    if (stack && t.name.ends_with("_scales") && !source.find(stack_name + "_blocks"))
      found.push_back({.where = source.shards()[tensors[i].shard].path(),
                       .subject = t.name,
                       .problem = "has no " + stack_name + "_blocks beside it",
                       .remedy = "give the complete checkpoint"});
    if (t.shape.size() != 2 || !t.name.ends_with(".weight") || t.elements() == 0) continue;
    matrix_module m;
    m.name = t.name.substr(0, t.name.size() - 7);
    m.kind = class_by_name(m.name);
    if (m.kind == module_class::other) continue;
    m.rows = t.shape[0];
    m.cols = t.shape[1];
    m.weight = {.tensor = i, .offset = 0, .row_stride = m.cols, .col_stride = 1};
    if (t.dtype == dtype::f8_e4m3) {
      const stored_tensor* scale = source.find(t.name + "_scale_inv");
      if (block_rows == 0 || scale == nullptr) {
        found.push_back(
            {.where = source.shards()[tensors[i].shard].path(),
             .subject = t.name,
             .problem = scale ? "is fp8, but config.json has no weight_block_size" : "is fp8, but has no " + t.name + "_scale_inv beside it",
             .remedy = "give the complete block-fp8 checkpoint, or a float one"});
        continue;
      }
      const std::uint64_t want_rows = (m.rows + block_rows - 1) / block_rows, want_cols = (m.cols + block_cols - 1) / block_cols;
      const bool fits = scale->info.shape.size() == 2 && scale->info.shape[0] == want_rows && scale->info.shape[1] == want_cols &&
                        (scale->info.dtype == dtype::f32 || scale->info.dtype == dtype::bf16);
      if (!fits) {
        found.push_back({.where = source.shards()[scale->shard].path(),
                         .subject = scale->info.name,
                         .problem = "must be F32 or BF16 [" + std::to_string(want_rows) + ", " + std::to_string(want_cols) + "] for " + t.name,
                         .remedy = "the checkpoint is damaged"});
        continue;
      }
      m.type = dtype::bf16;
      m.weight.storage = matrix_storage::block_fp8;
      m.weight.scale = static_cast<std::size_t>(scale - tensors.data());
      m.weight.block_rows = block_rows;
      m.weight.block_cols = block_cols;
      taken.insert(*m.weight.scale);
    } else if (detail::is_weight_dtype(t.dtype)) {
      m.type = t.dtype;
    } else {
      if (m.kind == module_class::linear || m.kind == module_class::head) layout.unread.push_back(i);
      continue;
    }
    taken.insert(i);
    m.transposed = detail::is_conv1d(layout.model_type, m.name);
    if (const stored_tensor* b = source.find(m.name + ".bias"); b && b->info.shape.size() == 1 && detail::is_weight_dtype(b->info.dtype)) {
      const auto index = static_cast<std::size_t>(b - tensors.data());
      if (b->info.shape[0] == m.rows && !m.transposed) {
        m.bias = matrix_source{.tensor = index, .offset = 0, .row_stride = 1, .col_stride = 1};
        taken.insert(index);
      }
      m.transposed = m.transposed || (b->info.shape[0] != m.rows && b->info.shape[0] == m.cols);
    }
    layout.matrices.push_back(std::move(m));
  }
  for (matrix_module& m : layout.matrices)
    if (std::string loaded = names.of(m.name); loaded != m.name) m.loaded = std::move(loaded);
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (!taken.contains(i)) layout.others.push_back(i);
  std::stable_sort(layout.matrices.begin(), layout.matrices.end(), [](const matrix_module& a, const matrix_module& b) {
    const bool ah = a.kind == module_class::head, bh = b.kind == module_class::head;
    return ah != bh ? bh : natural_less(a.name, b.name);
  });
  std::stable_sort(layout.others.begin(), layout.others.end(),
                   [&](std::size_t a, std::size_t b) { return natural_less(tensors[a].info.name, tensors[b].info.name); });
  // Engines take the weights' dtype where config.json names none.
  const auto is_plain = [](const matrix_module& m) { return m.weight.storage == matrix_storage::plain; };
  const auto first = std::find_if(layout.matrices.begin(), layout.matrices.end(), is_plain);
  layout.run_dtype = detail::run_dtype_of(config).value_or(first == layout.matrices.end() ? dtype::bf16 : first->type);
  if (found.empty()) out = std::move(layout);
  return found;
}

}  // namespace qlib::inline v0
