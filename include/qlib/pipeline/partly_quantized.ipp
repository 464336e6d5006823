#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/buffer.hpp>
#include <qlib/core/parallel.hpp>
#include <qlib/format/compressed_tensors_config.hpp>
#include <qlib/pipeline/compose.hpp>
#include <qlib/pipeline/partly_quantized.hpp>
#include <qlib/pipeline/planned_config.hpp>
#include <qlib/pipeline/row_quantizer.hpp>

#include <algorithm>
#include <cmath>
#include <optional>

namespace qlib::inline v0 {

namespace detail {

inline activation_arithmetic static_input(const quant_spec& spec, const operand_parameters& found) {
  activation_arithmetic a;
  a.type = spec.type == number::floating ? activation_type::e4m3 : activation_type::integer;
  a.num_bits = spec.num_bits;
  a.rule = spec.rule;
  a.symmetric = spec.symmetric;
  a.scale = found.scales[0];
  if (!found.zero_points.empty()) a.zero_point = static_cast<float>(found.zero_points[0]);
  a.reciprocal = spec.rule == scale_rule::ascend;
  return a;
}

/// A dynamic or float input of AscendV1 by the type that its description says; nothing for types that are not known here.
inline std::optional<activation_arithmetic> ascend_input(std::string_view quant_type) {
  activation_arithmetic a;
  if (quant_type == "W8A16" || quant_type == "W4A16") return a;
  a.dynamic = true;
  a.rule = scale_rule::ascend;
  a.type = activation_type::integer;
  if (quant_type == "W8A8_DYNAMIC") return a;
  a.type = activation_type::e4m3;
  if (quant_type == "W8A8FP8_DYNAMIC" || quant_type == "WFP8AFP8_DYNAMIC") return a;
  return std::nullopt;
}

/// The same by what compressed-tensors' config.json says.
inline std::optional<activation_arithmetic> compressed_input(const stored_config& config, const std::string& module) {
  const stored_scheme* s = config.scheme_of(module);
  if (!s || s->unknown) return std::nullopt;
  activation_arithmetic a;
  if (!s->input) return a;
  const stored_arguments& in = *s->input;
  if (!in.dynamic || in.local || in.num_bits > 8 || (in.floating && in.num_bits != 8)) return std::nullopt;
  if (in.strategy != "token" && in.strategy != "group") return std::nullopt;
  a.dynamic = true;
  a.type = in.floating ? activation_type::e4m3 : activation_type::integer;
  a.num_bits = static_cast<int>(in.num_bits);
  a.rule = scale_rule::compressed_tensors;
  a.symmetric = in.symmetric;
  a.group_size = in.strategy == "group" ? in.group_size : 0;
  return a;
}

/// Rows that are quantized by one task: whole tiles.
inline std::size_t task_rows(const quant_spec& spec, std::size_t rows) {
  if (spec.granularity.rows == 0) return std::max<std::size_t>(1, rows);
  return (64 + spec.granularity.rows - 1) / spec.granularity.rows * spec.granularity.rows;
}

/// Static W8A8 of AscendV1, y = (sum of xq * wq + quant_bias) * deq_scale: one f32 for both scales, and the bias in whole steps of it.
inline bool scales_its_sums(const linear_encoding& e) {
  return std::any_of(e.tensors.begin(), e.tensors.end(), [](const output_tensor& t) { return t.role == slot_role::quant_bias; });
}

/// Scales of the rows and their biases as such a kernel has them.
inline void as_sums_are_scaled(float input_scale, std::span<float> scales, std::span<float> bias) {
  for (std::size_t r = 0; r < scales.size(); ++r) {
    const float deq = input_scale * scales[r];
    scales[r] = deq / input_scale;
    if (!bias.empty()) bias[r] = static_cast<float>(std::nearbyint(static_cast<double>(bias[r]) / deq) * static_cast<double>(deq));
  }
}

/// out = what the codes of w mean; false for a value that is not finite. w: whole tiles. bias: of these rows, or empty; changed where the kernel
/// scales its sums.
template <Element T>
bool requantize_rows(const work_item& item, const activation_arithmetic& input, matrix_view<const T> w, matrix_view<float> out,
                     std::span<float> bias) {
  const quant_spec& spec = item.encoding->spec;
  const native_backend backend;
  const grid g = grid_of(spec.granularity, w.rows(), w.cols());
  std::vector<float> scales(g.tiles());
  std::vector<std::int32_t> zero_points(spec.symmetric || spec.type == number::floating ? 0 : g.tiles());
  const qparams_view q{g, scales, zero_points};
  std::vector<std::int8_t> codes(w.size());
  const matrix_view<std::int8_t> view{codes.data(), w.rows(), w.cols()};
  row_quantizer rows;
  rows.choose(item.observer, item.rounder);
  if (!rows.quantize(backend, w, spec, q, view)) return false;
  if (scales_its_sums(*item.encoding)) as_sums_are_scaled(input.scale, scales, bias);
  backend.dequantize(matrix_view<const std::int8_t>{view}, spec, as_const(q), out);
  return true;
}

}  // namespace detail

QLIB_INLINE errors input_arithmetic(const quantization_plan& plan, const calibration* found, std::vector<activation_arithmetic>& out) {
  errors bad;
  out.assign(plan.items.size(), {});
  std::optional<stored_config> config;
  if (plan.format != "ascend_v1") config = detail::planned_config(plan);
  for (std::size_t i = 0; i < plan.items.size(); ++i) {
    const work_item& item = plan.items[i];
    if (!item.encoding) continue;
    if (item.encoding->input) {
      if (found && item.operand) out[i] = detail::static_input(*item.encoding->input, found->operands[*item.operand]);
      else bad.push_back({.subject = item.name, .problem = "has a static input without parameters", .remedy = "calibrate the plan first"});
      continue;
    }
    const auto a = config ? detail::compressed_input(*config, item.name) : detail::ascend_input(item.encoding->quant_type);
    if (a) out[i] = *a;
    else
      bad.push_back({.subject = item.name,
                     .problem = "the input of type " + item.encoding->quant_type + " is not simulated",
                     .remedy = "choose another type, or --metric range"});
  }
  return bad;
}

QLIB_INLINE result<linear_weight> requantized(const work_item& item, const activation_arithmetic& input, const linear_weight& w,
                                              std::size_t threads) {
  const std::size_t rows = w.rows(), cols = w.cols(), step = detail::task_rows(item.encoding->spec, rows);
  buffer memory{rows * cols * sizeof(float)};
  if (!memory.data() && rows * cols > 0)
    return error{.kind = error_kind::run_failed, .subject = item.name, .problem = "no memory for its weight", .remedy = "free memory"};
  const matrix_view<float> out{reinterpret_cast<float*>(memory.data()), rows, cols};
  std::vector<float> bias = w.bias;
  return std::visit(
      [&](auto from) -> result<linear_weight> {
        const bool finite = parallel_for((rows + step - 1) / step, threads, [&](std::size_t, std::size_t task) {
          const std::size_t first = task * step, count = std::min(step, rows - first);
          const std::span<float> rows_bias = bias.empty() ? std::span<float>{} : std::span{bias}.subspan(first, count);
          return detail::requantize_rows(item, input, from.strip(first, count), out.strip(first, count), rows_bias);
        });
        if (!finite) {
          error e = non_finite_error(from, 0);
          e.subject = item.name + "." + e.subject;
          return e;
        }
        linear_weight made{matrix_view<const float>{out}, std::move(memory)};
        made.bias = std::move(bias);
        return made;
      },
      w.weight());
}

QLIB_INLINE void partly_quantized::choose(std::span<const std::size_t> items) {
  chosen_.clear();
  for (const std::size_t i : items) chosen_.emplace(plan_.items[i].name, i);
}

QLIB_INLINE result<linear_weight> partly_quantized::linear(const std::string& module) const {
  auto w = floats_.linear(module);
  const auto at = chosen_.find(module);
  if (!w || at == chosen_.end()) return w;
  auto made = requantized(plan_.items[at->second], inputs_[at->second], *w, threads_);
  if (made) return made;
  error e = made.error();
  if (e.where.empty()) e.where = where();
  return e;
}

QLIB_INLINE matrix_view<const float> partly_quantized::input(const linear_input& in, std::size_t i) {
  const auto at = chosen_.find(in.modules[i]);
  if (at == chosen_.end() || inputs_[at->second].identity() || in.x.rows() == 0) return in.x;
  room_.resize(in.x.size());
  const matrix_view<float> y{room_.data(), in.x.rows(), in.x.cols()};
  inputs_[at->second].apply(in.x, y, threads_);
  return y;
}

}  // namespace qlib::inline v0
