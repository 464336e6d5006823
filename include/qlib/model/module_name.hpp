/// Questions about dotted module names.
#pragma once
#include <qlib/config.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace qlib::inline v0 {

/// "a.b.mlp.gate" ends with the components "mlp.gate"; "a.b.xmlp.gate" does not.
inline bool ends_with_component(std::string_view name, std::string_view tail) {
  return name.size() == tail.size() ? name == tail : name.size() > tail.size() && name.ends_with(tail) && name[name.size() - tail.size() - 1] == '.';
}

/// One of the components, or a run of them, is `component`.
inline bool contains_component(std::string_view name, std::string_view component) {
  for (std::size_t at = name.find(component); at != std::string_view::npos; at = name.find(component, at + 1)) {
    const bool starts = at == 0 || name[at - 1] == '.';
    const std::size_t end = at + component.size();
    if (starts && (end == name.size() || name[end] == '.')) return true;
  }
  return false;
}

/// "layers.10" after "layers.2": digits compare as numbers.
inline bool natural_less(std::string_view a, std::string_view b) {
  std::size_t i = 0, j = 0;
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  while (i < a.size() && j < b.size()) {
    if (digit(a[i]) && digit(b[j])) {
      std::size_t ie = i, je = j;
      while (ie < a.size() && digit(a[ie])) ++ie;
      while (je < b.size() && digit(b[je])) ++je;
      std::string_view x = a.substr(i, ie - i), y = b.substr(j, je - j);
      while (x.size() > 1 && x.front() == '0') x.remove_prefix(1);
      while (y.size() > 1 && y.front() == '0') y.remove_prefix(1);
      if (x != y) return x.size() != y.size() ? x.size() < y.size() : x < y;
      i = ie;
      j = je;
    } else {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i;
      ++j;
    }
  }
  return a.size() - i < b.size() - j;
}

/// Inside a numbered block: "model.layers.3.…", "transformer.h.3.…".
inline bool in_decoder_layer(std::string_view module) {
  for (std::string_view list : {"layers.", ".h.", "blocks."})
    if (const auto at = module.find(list);
        at != std::string_view::npos && at + list.size() < module.size() && module[at + list.size()] >= '0' && module[at + list.size()] <= '9')
      return true;
  return false;
}

/// Behind ".experts." in "model.layers.0.mlp.experts.3.up_proj", one expert of many; npos in other names.
inline std::size_t expert_number_at(std::string_view module) {
  constexpr std::string_view list = ".experts.";
  const std::size_t at = module.find(list), number = at + list.size();
  return at != module.npos && number < module.size() && module[number] >= '0' && module[number] <= '9' ? number : module.npos;
}
inline bool is_expert(std::string_view module) { return expert_number_at(module) != module.npos; }

/// "….experts.*.up_proj" of "….experts.17.up_proj"; nothing of other names.
inline std::optional<std::string> any_expert(std::string_view module) {
  const std::size_t number = expert_number_at(module);
  if (number == module.npos) return std::nullopt;
  const std::size_t end = std::min(module.find('.', number), module.size());
  return std::string{module.substr(0, number)} + "*" + std::string{module.substr(end)};
}

/// A tensor [experts, ., .] of a family that stacks them, and the names of the linears it holds.
struct expert_stack {
  bool gate_up = false;  ///< gate and up rows; else down
  std::string prefix;    ///< of an expert's number
  std::string_view gate, up, down;

  std::string module(std::uint64_t expert, std::string_view part) const { return prefix + std::to_string(expert) + "." + std::string(part); }
};

/// "….experts.gate_up_proj" of that name, or of its `_blocks` and `_scales`, as MXFP4 calls them.
inline std::string_view name_of_stack(std::string_view tensor) {
  for (const std::string_view tail : {"_blocks", "_scales"})
    if (tensor.ends_with(tail)) return tensor.substr(0, tensor.size() - tail.size());
  return tensor;
}

/// By the tensor's name. Granite's experts are called as Mixtral's are, which is what vLLM unpacks them to.
inline std::optional<expert_stack> expert_stack_of(std::string_view tensor) {
  const auto below = [&](std::string_view tail) { return std::string(tensor.substr(0, tensor.size() - tail.size())); };
  for (const bool gate_up : {true, false}) {
    const std::string_view plain = gate_up ? "gate_up_proj" : "down_proj";
    if (ends_with_component(tensor, gate_up ? "experts.gate_up_proj" : "experts.down_proj"))
      return expert_stack{gate_up, below(plain), "gate_proj", "up_proj", "down_proj"};
    const std::string_view granite = gate_up ? "input_linear.weight" : "output_linear.weight";
    if (ends_with_component(tensor, gate_up ? "block_sparse_moe.input_linear.weight" : "block_sparse_moe.output_linear.weight"))
      return expert_stack{gate_up, below(granite) + "experts.", "w1", "w3", "w2"};
  }
  return std::nullopt;
}

}  // namespace qlib::inline v0
