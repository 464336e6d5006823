/// Where each output tensor stands in the files. Part of plan.ipp.
#pragma once
#include <qlib/pipeline/plan.hpp>

#include <cstdint>
#include <map>
#include <vector>

namespace qlib::inline v0::detail {

/// Fills files, offsets and headers from the slots' order, names and sizes.
inline status place_slots(quantization_plan& plan, const registry::formats::any& format, std::uint64_t limit) {
  std::vector<std::vector<std::size_t>> parts(1);
  std::uint64_t pending = 0;
  for (std::size_t i = 0; i < plan.slots.size(); ++i) {
    const std::uint64_t bytes = plan.slots[i].bytes;
    if (limit > 0 && pending > 0 && pending + bytes >= limit) {
      parts.emplace_back();
      pending = 0;
    }
    parts.back().push_back(i);
    pending += bytes;
  }
  for (std::size_t p = 0; p < parts.size(); ++p) {
    std::vector<tensor_info> tensors;
    std::map<std::string, std::size_t> by_name;
    for (std::size_t i : parts[p]) {
      const output_tensor& t = plan.slots[i].tensor;
      tensors.push_back({t.name, t.type, t.shape});
      by_name.emplace(t.name, i);
    }
    order_for_writing(tensors);
    const auto size = assign_offsets(tensors);
    if (!size) return size.error();
    planned_file file;
    file.name = std::visit([&](const auto& f) { return f.file_name(p, parts.size()); }, format);
    auto header = serialize_safetensors_header(tensors, std::visit([](const auto& f) { return f.metadata(); }, format));
    if (!header) return header.error();
    file.header = *std::move(header);
    file.bytes = file.header.size() + *size;
    for (const tensor_info& t : tensors) {
      output_slot& slot = plan.slots[by_name.at(t.name)];
      slot.file = p;
      slot.offset = file.header.size() + t.begin;
    }
    plan.files.push_back(std::move(file));
  }
  return {};
}

}  // namespace qlib::inline v0::detail
