#pragma once
#include <qlib/format/fused_groups.hpp>
#include <qlib/model/module_name.hpp>

#include <algorithm>
#include <array>

namespace qlib::inline v0 {

QLIB_INLINE std::vector<fused_group> fused_groups(std::span<const std::string> modules) {
  // Which projections share a matrix multiplication in vLLM and vLLM-Ascend (packed_modules_mapping).
  static constexpr std::array<std::array<std::string_view, 3>, 6> fused{{{"q_proj", "k_proj", "v_proj"},
                                                                         {"gate_proj", "up_proj", ""},
                                                                         {"w1", "w3", ""},
                                                                         {"q_a_proj", "kv_a_proj_with_mqa", ""},
                                                                         {"in_proj_qkv", "in_proj_z", ""},
                                                                         {"in_proj_b", "in_proj_a", ""}}};
  std::vector<fused_group> out;
  std::map<std::string, std::size_t, std::less<>> by_parent;
  for (const std::string& module : modules) {
    const std::size_t dot = module.rfind('.');
    if (dot == std::string::npos) continue;
    const std::string_view parent = std::string_view{module}.substr(0, dot), last = std::string_view{module}.substr(dot + 1);
    std::string key;
    const bool expert = is_expert(module);
    if (expert) {
      key = module.substr(0, module.find(".experts.") + 8);
    } else {
      for (const auto& members : fused)
        if (std::ranges::find(members, last) != members.end() && !last.empty()) {
          key = std::string{parent} + " (";
          for (std::size_t i = 0; i < members.size() && !members[i].empty(); ++i) key += (i ? ", " : "") + std::string{members[i]};
          key += ")";
        }
    }
    if (key.empty()) continue;
    const auto [at, added] = by_parent.emplace(key, out.size());
    if (added) out.push_back({key, {}, expert});
    out[at->second].members.push_back(module);
  }
  std::erase_if(out, [](const fused_group& g) { return g.members.size() < 2; });
  return out;
}

QLIB_INLINE members_by_type types_in(const fused_group& group, const std::map<std::string, std::string>& types) {
  members_by_type out;
  for (const std::string& m : group.members) out[types.at(m)].push_back(m);
  return out;
}

}  // namespace qlib::inline v0
