#pragma once
#include <qlib/format/stored_layers.hpp>
#include <qlib/io/python_json.ipp>
#include <qlib/report/describe.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string_view>

namespace qlib::inline v0 {

namespace report_parts {

/// The reals that the codes of `o` stand for; the widest over its scales.
inline range covered_by(const quant_spec& spec, const operand_parameters& o) {
  constexpr float fp8_largest = 448;
  range all = range::empty();
  for (std::size_t i = 0; i < o.scales.size(); ++i) {
    const auto zero = static_cast<float>(o.zero_points.empty() ? 0 : o.zero_points[i]);
    const bool integer = spec.type == number::integer;
    const float low = integer ? static_cast<float>(spec.qmin()) - zero : -fp8_largest;
    const float high = integer ? static_cast<float>(spec.qmax()) - zero : fp8_largest;
    all = join(all, {low * o.scales[i], high * o.scales[i]});
  }
  return o.scales.empty() ? range::undefined() : all;
}

inline std::string folder_name(const std::string& path) {
  std::filesystem::path p = std::filesystem::path{path}.lexically_normal();
  if (!p.has_filename()) p = p.parent_path();
  if (p.empty() || p == "." || p == "..") {
    std::error_code ec;
    p = std::filesystem::weakly_canonical(path, ec);
    if (!p.has_filename()) p = p.parent_path();
  }
  return p.filename().string();
}

}  // namespace report_parts

QLIB_INLINE accuracy_report describe_run(const checkpoint& source, const quantization_plan& plan, const run_report& done, const calibration* found,
                                         const calibration_report* data) {
  accuracy_report r;
  r.model = report_parts::folder_name(source.directory());
  r.model_type = plan.model_type;
  r.format = plan.format;
  r.input_bytes = plan.input_bytes;
  r.output_bytes = plan.output_bytes;
  r.quantized = plan.quantized;
  for (const output_slot& s : plan.slots) r.floats += s.tensor.role == slot_role::copy;
  std::map<std::string_view, const layer_report*> measured;
  for (const layer_report& l : done.layers) measured.emplace(l.name, &l);
  for (const work_item& item : plan.items) {
    if (!item.encoding || item.rows == 0) continue;
    reported_layer l{item.name, item.encoding->quant_type, std::nullopt, 0, 0, {}};
    if (const auto at = measured.find(item.name); at != measured.end()) {
      l.error = at->second->error;
      l.path = at->second->path;
    }
    const dtype stored = source.tensors()[item.source.tensor].info.dtype;
    l.bytes_before = static_cast<std::uint64_t>(item.rows) * item.cols * bits_of(stored) / 8;
    for (std::size_t slot : item.slots) l.bytes_after += plan.slots[slot].bytes;
    r.layers.push_back(std::move(l));
  }
  if (!r.layers.empty()) r.quant_type = r.layers.front().quant_type;
  if (found && data) {
    reported_calibration c{data->file, found->products, data->samples, data->tokens, data->truncated, data->dropped_tokens, 0, {}};
    for (std::size_t i = 0; i < plan.operands.size() && i < found->operands.size(); ++i) {
      const operand_parameters& from = found->operands[i];
      reported_operand o;
      o.name = plan.operands[i].name;
      o.observer = plan.operands[i].observer.name;
      o.tokens = from.tokens;
      o.seen = from.seen;
      o.covered = report_parts::covered_by(plan.operands[i].spec, from);
      o.range_score = from.range_score;
      o.histogram = from.histogram;
      if (from.scales.size() == 1) {
        o.scale = from.scales[0];
        o.zero_point = from.zero_points.empty() ? 0 : from.zero_points[0];
      }
      c.operands.push_back(std::move(o));
    }
    r.calibration = std::move(c);
  }
  if (found) r.subgraphs = found->suppressions;
  r.files = done.files;
  r.warnings = plan.warnings;
  r.warnings.insert(r.warnings.end(), done.warnings.begin(), done.warnings.end());
  if (found) r.warnings.insert(r.warnings.end(), found->warnings.begin(), found->warnings.end());
  return r;
}

QLIB_INLINE accuracy_report describe_checkpoint(const weight_folder& folder) {
  accuracy_report r;
  r.model = report_parts::folder_name(folder.directory());
  r.format = format_of(folder);
  const auto config = detail::parse_python_json(folder.config_text());
  for (const char* part : {"", "text_config", "llm_config"}) {
    const auto& level = *part && config.is_object() && config.contains(part) ? config[part] : config;
    if (r.model_type.empty() && level.is_object() && level.contains("model_type") && level["model_type"].is_string())
      r.model_type = level["model_type"].get<std::string>();
  }
  std::map<std::string, std::size_t> types;
  for (const stored_layer& l : stored_layers(folder)) {
    if (!l.quantized()) {
      ++r.floats;
      continue;
    }
    ++r.quantized;
    ++types[l.quant_type];
    r.layers.push_back({l.name, l.quant_type, std::nullopt, 0, l.bytes, {}});
  }
  const auto most = std::max_element(types.begin(), types.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  r.quant_type = most == types.end() ? "float" : most->first;
  for (const stored_tensor& t : folder.tensors()) r.output_bytes += t.info.bytes();
  r.files.assign(folder.files().begin(), folder.files().end());
  for (const error& e : folder.damage()) r.warnings.push_back(e.text());
  return r;
}

}  // namespace qlib::inline v0
