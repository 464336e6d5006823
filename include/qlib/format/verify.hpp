/// A linter for quantized checkpoints, ours or another tool's: every rule that the loader of an engine follows.
#pragma once
#include <qlib/core/status.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// One thing that breaks a rule. `file` is a name in the directory; `tensor` is empty when the rule is about the whole file;
/// `rule` is a stable name ("R5", "CT-shape", "GPTQ-zeros"; docs/formats.md says what each asks for).
struct violation {
  std::string file, tensor, rule, message;
  friend bool operator==(const violation&, const violation&) = default;
};

enum class engine { vllm_ascend, mindie, vllm, vllm_gcu };

constexpr std::string_view name_of(engine e) {
  constexpr std::string_view names[]{"vllm-ascend", "mindie", "vllm", "vllm-gcu"};
  return names[static_cast<int>(e)];
}

/// "vllm_ascend" is accepted for "vllm-ascend".
constexpr std::optional<engine> engine_from_name(std::string_view name) {
  for (engine e : {engine::vllm_ascend, engine::mindie, engine::vllm, engine::vllm_gcu}) {
    const std::string_view wanted = name_of(e);
    bool same = name.size() == wanted.size();
    for (std::size_t i = 0; same && i < name.size(); ++i) same = name[i] == wanted[i] || (name[i] == '_' && wanted[i] == '-');
    if (same) return e;
  }
  return std::nullopt;
}

struct verification {
  std::string format;                 ///< as `format_of` names it
  std::vector<violation> violations;  ///< the file is wrong, or the engine refuses it or reads it wrongly
  std::vector<violation> warnings;    ///< sound, but suspicious, or refused by some engine that was not asked about
};

/// Checks a directory against the rules of its format and, if one is named, of an engine.
///
/// Metadata of every tensor is checked, and the values of scales, offsets, zero points and group indices; the weights themselves are
/// not read. A damaged file is a violation. A float checkpoint has none unless its files are damaged or incomplete. Errors: the
/// directory cannot be read, or is no checkpoint.
errors verify_checkpoint(const std::string& directory, std::optional<engine> target, verification& out);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/format/verify.ipp>
#endif
