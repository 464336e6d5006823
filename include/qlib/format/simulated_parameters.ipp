#pragma once
#include <qlib/format/simulated_parameters.hpp>
#include <qlib/model/module_name.hpp>

#include <algorithm>
#include <bit>
#include <cstring>

namespace qlib::inline v0 {

namespace detail {

inline bool is_float_dtype(dtype t) { return t == dtype::f32 || t == dtype::bf16 || t == dtype::f16; }

/// The scale of row r: F32, or an I64 whose low half has the bits of one.
inline float deq_scale(const weight_folder& folder, const stored_tensor& t, std::size_t r) {
  const std::byte* base = folder.bytes(t).data();
  const std::size_t at = t.info.elements() == 1 ? 0 : r;
  std::uint32_t bits = 0;
  std::memcpy(&bits, base + at * (t.info.dtype == dtype::i64 ? 8 : 4), 4);
  return std::bit_cast<float>(bits);
}

}  // namespace detail

QLIB_INLINE simulated_parameters::simulated_parameters(const weight_folder& folder, const simulated_contents& contents, std::string_view model_type,
                                                       std::size_t threads)
    : folder_{&folder}, threads_{threads} {
  for (const auto& [module, l] : contents.linears) {
    entries_[module + ".weight"] = {.linear = &l, .shape = {l.weight.rows, l.weight.cols}};
    if (l.bias || l.folded) entries_[module + ".bias"] = {.linear = &l, .bias = true, .shape = {l.weight.rows}};
  }
  const bool interleaved = model_type == "gpt_oss";  // gate and up rows alternate
  const bool transposed = interleaved || model_type.starts_with("llama4") || model_type.starts_with("qwen3_vl_moe");
  for (const auto& [name, t] : contents.floats) {
    const bool stack =
        t->info.shape.size() == 3 && detail::is_float_dtype(t->info.dtype) && t->info.elements() > 0 && expert_stack_of(name).has_value();
    if (stack) {
      const auto bias = contents.floats.find(name + "_bias");
      add_stack(*t, bias == contents.floats.end() ? nullptr : bias->second, transposed, interleaved);
    } else if (!(name.ends_with("experts.gate_up_proj_bias") || name.ends_with("experts.down_proj_bias"))) {
      const auto& shape = t->info.shape;
      std::uint64_t cols = 1;
      for (std::size_t i = shape.size() > 1 ? 1 : 0; i < shape.size(); ++i) cols *= shape[i];
      entries_[name] = {.tensor = t, .shape = shape, .row_stride = cols};
    }
  }
}

QLIB_INLINE void simulated_parameters::add_stack(const stored_tensor& t, const stored_tensor* bias, bool transposed, bool interleaved) {
  const std::uint64_t experts = t.info.shape[0], d1 = t.info.shape[1], d2 = t.info.shape[2];
  const std::uint64_t outs = transposed ? d2 : d1, ins = transposed ? d1 : d2;
  const expert_stack names = *expert_stack_of(t.info.name);
  for (std::uint64_t e = 0; e < experts; ++e) {
    const auto add = [&](std::string_view part, std::uint64_t first, std::uint64_t step, std::uint64_t rows) {
      const std::string module = names.module(e, part);
      const std::uint64_t row = transposed ? 1 : ins;
      entries_[module + ".weight"] = {
          .tensor = &t, .shape = {rows, ins}, .offset = e * d1 * d2 + first * row, .row_stride = step * row, .col_stride = transposed ? outs : 1};
      if (bias) entries_[module + ".bias"] = {.tensor = bias, .shape = {rows}, .offset = e * outs + first, .col_stride = step};
    };
    if (!names.gate_up) add(names.down, 0, 1, outs);
    else if (interleaved) add(names.gate, 0, 2, outs / 2), add(names.up, 1, 2, outs / 2);
    else add(names.gate, 0, 1, outs / 2), add(names.up, outs / 2, 1, outs / 2);
  }
}

QLIB_INLINE std::vector<std::string> simulated_parameters::names() const {
  std::vector<std::string> out;
  for (const auto& [name, e] : entries_) out.push_back(name);
  return out;
}

QLIB_INLINE std::optional<std::vector<std::uint64_t>> simulated_parameters::shape(const std::string& name) const {
  const auto e = entries_.find(name);
  return e == entries_.end() ? std::nullopt : std::optional{e->second.shape};
}

QLIB_INLINE std::optional<dtype> simulated_parameters::type(const std::string& name) const {
  const auto e = entries_.find(name);
  if (e == entries_.end()) return std::nullopt;
  return e->second.linear ? dtype::f32 : e->second.tensor->info.dtype;
}

QLIB_INLINE stored_matrix simulated_parameters::matrix_of(const simulated_linear& l) const {
  stored_matrix m = l.weight;
  if (l.folded) {
    // The hook's inputs are (xq - offset) * input_scale, so that weights and biases are plain numbers.
    m.row_scales.resize(m.rows);
    for (std::size_t r = 0; r < m.rows; ++r) m.row_scales[r] = detail::deq_scale(*folder_, *l.folded->deq_scale, r) / l.input.scale;
  }
  return m;
}

QLIB_INLINE std::vector<float> simulated_parameters::bias_of(const simulated_linear& l) const {
  if (!l.folded) return l.bias ? stored_values(*folder_, *l.bias) : std::vector<float>{};
  std::vector<float> out(l.weight.rows);
  const std::vector<std::int64_t> sums = row_sums(*folder_, l.weight);
  const std::byte* quant_bias = folder_->bytes(*l.folded->quant_bias).data();
  for (std::size_t r = 0; r < out.size(); ++r) {
    std::int32_t b = 0;
    std::memcpy(&b, quant_bias + r * 4, 4);
    const double whole = static_cast<double>(b) + static_cast<double>(l.input.zero_point) * static_cast<double>(sums[r]);
    out[r] = static_cast<float>(whole * static_cast<double>(detail::deq_scale(*folder_, *l.folded->deq_scale, r)));
  }
  return out;
}

QLIB_INLINE status simulated_parameters::read(const std::string& name, matrix_view<float> out, std::size_t first_row) const {
  const auto found = entries_.find(name);
  if (found == entries_.end())
    return error{.where = where(), .subject = name, .problem = "is not in the checkpoint", .remedy = "give the complete model"};
  const entry& e = found->second;
  const std::uint64_t rows = e.shape.size() > 1 ? e.shape[0] : 1;
  std::uint64_t cols = 1;
  for (std::size_t i = e.shape.size() > 1 ? 1 : 0; i < e.shape.size(); ++i) cols *= e.shape[i];
  if (out.cols() != cols || first_row + out.rows() > rows)
    return error{.where = where(),
                 .subject = name,
                 .problem = "has " + std::to_string(rows) + " rows of " + std::to_string(cols) + "; rows " + std::to_string(first_row) + " to " +
                            std::to_string(first_row + out.rows()) + " of " + std::to_string(out.cols()) + " were asked for",
                 .remedy = "give the config.json that belongs to these weights"};
  if (e.linear && e.bias) {
    const std::vector<float> bias = bias_of(*e.linear);
    if (out.rows() > 0) std::copy(bias.begin(), bias.end(), out.row(0));
    return {};
  }
  if (e.linear) {
    dequantize(*folder_, matrix_of(*e.linear), first_row, out, threads_);
    return {};
  }
  if (!detail::is_float_dtype(e.tensor->info.dtype))
    return error{.where = where() + "/" + folder_->file_of(*e.tensor),
                 .subject = name,
                 .problem = "is " + std::string{name_of(e.tensor->info.dtype)} + ", and nothing says what it is scaled with",
                 .remedy = "run `qlib verify` on the checkpoint"};
  for (std::size_t r = 0; r < out.rows(); ++r)
    for (std::size_t c = 0; c < cols; ++c)
      out(r, c) = stored_value(*folder_, *e.tensor, e.offset + (first_row + r) * e.row_stride + c * e.col_stride);
  return {};
}

QLIB_INLINE result<linear_weight> simulated_parameters::linear(const std::string& module) const {
  const auto found = entries_.find(module + ".weight");
  if (found == entries_.end() || found->second.shape.size() != 2)
    return error{
        .where = where(), .subject = module + ".weight", .problem = "is not a matrix of the checkpoint", .remedy = "give the complete model"};
  const entry& e = found->second;
  const std::size_t rows = e.shape[0], cols = e.shape[1];
  linear_weight out;
  const std::byte* first = nullptr;
  if (e.tensor) first = folder_->bytes(*e.tensor).data() + e.offset * (bits_of(e.tensor->info.dtype) / 8);
  const auto aligned = [&](std::size_t size) { return e.col_stride == 1 && reinterpret_cast<std::uintptr_t>(first) % size == 0; };
  const bool whole = e.tensor && e.offset == 0 && e.tensor->info.elements() == rows * cols;
  const auto give_back = [folder = folder_, t = e.tensor, whole] {
    if (whole) folder->release(*t);  // other experts lie in the same tensor
  };
  if (e.tensor && e.tensor->info.dtype == dtype::bf16 && aligned(2)) {
    out = linear_weight{matrix_view<const bf16>{reinterpret_cast<const bf16*>(first), rows, cols, e.row_stride}, give_back};
  } else if (e.tensor && e.tensor->info.dtype == dtype::f32 && aligned(4)) {
    out = linear_weight{matrix_view<const float>{reinterpret_cast<const float*>(first), rows, cols, e.row_stride}, give_back};
  } else {
    buffer owned{rows * cols * sizeof(float)};
    if (!owned.data())
      return error{
          .kind = error_kind::run_failed, .where = where(), .subject = module, .problem = "no memory for its weight", .remedy = "free memory"};
    const matrix_view<float> w{reinterpret_cast<float*>(owned.data()), rows, cols};
    if (status s = read(module + ".weight", w); !s) return s.error();
    if (e.linear) folder_->release(*e.linear->weight.codes);
    out = linear_weight{matrix_view<const float>{w}, std::move(owned)};
  }
  if (const auto bias = entries_.find(module + ".bias"); bias != entries_.end()) {
    out.bias.resize(rows);
    if (status s = read(module + ".bias", matrix_view<float>{out.bias.data(), 1, rows}); !s) return s.error();
  }
  return out;
}

}  // namespace qlib::inline v0
