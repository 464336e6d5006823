/// Linear layers that engines load into one matrix, and that therefore have one type.
#pragma once
#include <qlib/config.hpp>

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// q, k and v; gate and up; all experts of a layer; ...: members of a group share type and input scale.
struct fused_group {
  std::string name;                  ///< "model.layers.0.self_attn (q_proj, k_proj, v_proj)"
  std::vector<std::string> members;  ///< module names, two or more
  bool experts = false;              ///< all experts of a layer
};

/// The groups among `modules`, which are sorted.
std::vector<fused_group> fused_groups(std::span<const std::string> modules);

/// Members of a group by their type; more than one entry is a mix.
using members_by_type = std::map<std::string, std::vector<std::string>>;

/// types: of every member.
members_by_type types_in(const fused_group& group, const std::map<std::string, std::string>& types);

/// Whether every loader of `format` refuses or misreads a mix. AscendV1's experts are stored one by one: MindIE takes them as they are, vLLM-Ascend
/// takes the type of expert 0 for all.
inline bool needs_one_type(const fused_group& group, std::string_view format) { return !group.experts || format == "compressed_tensors"; }

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/format/fused_groups.ipp>
#endif
