/// Which stage of a recipe quantizes a module. Part of plan.ipp.
#pragma once
#include <qlib/model/module_name.hpp>
#include <qlib/model/modules.hpp>
#include <qlib/recipe/match.hpp>
#include <qlib/recipe/recipe.hpp>

#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

namespace qlib::inline v0::detail {

/// What the program leaves float when the user named no list of his own: heads, routers, gates of shared experts, and projections
/// that engines absorb or that are too small to matter. The families' public recipes do the same (docs/formats.md).
inline bool float_by_default(std::string_view module) {
  for (std::string_view tail :
       {"shared_expert_gate", "kv_b_proj", "indexer.wq_b", "indexer.wk", "indexer.weights_proj", "in_proj_a", "in_proj_b", "in_proj_ba", "eh_proj"})
    if (ends_with_component(module, tail)) return true;
  for (std::string_view part :
       {"visual", "vision_tower", "vision_model", "vision_encoder", "mm_projector", "multi_modal_projector", "mlp1", "audio_tower"})
    if (contains_component(module, part)) return true;
  return false;
}

struct compiled_stage {
  pattern_set targets, ignore;
};

/// Modules that two stages describe alike, so that only the order of the stages decides: by the losing stage and the one that wins.
using stage_rivals = std::map<std::pair<std::size_t, std::size_t>, std::vector<std::string_view>>;

/// The other name by which a stage may know a module: LLM-Compressor's recipes speak of modules in memory. Flags speak of stored ones, and of
/// `lm_head` however a family stores it; msModelSlim's globs of stored ones alone.
inline std::string_view other_name_of(const matrix_module& m, const recipe& r, pattern_syntax syntax) {
  if (syntax == pattern_syntax::glob || (r.source == "flags" && m.loaded != "lm_head")) return {};
  return m.loaded;
}

/// The better match of both names.
inline std::optional<pattern_match> find_either(const pattern_set& patterns, const matrix_module& m, std::string_view other) {
  const auto find = [&](std::string_view name) {
    const auto found = patterns.find(name, name_of(m.kind));
    return found ? *found : std::nullopt;
  };
  std::optional<pattern_match> best = find(m.name);
  if (other.empty()) return best;
  std::optional<pattern_match> loaded = find(other);
  return !best || (loaded && *loaded < *best) ? loaded : best;
}

inline bool matches_either(const pattern_set& patterns, const matrix_module& m, std::string_view other) {
  return patterns.matches(m.name, name_of(m.kind)) || (!other.empty() && patterns.matches(other, name_of(m.kind)));
}

/// The stage that quantizes a module, by the precedence of the stage's language.
inline std::optional<std::size_t> stage_of(const matrix_module& m, const recipe& r, const std::vector<compiled_stage>& stages,
                                           std::vector<std::set<std::size_t>>& used, stage_rivals& rivals) {
  if (m.kind != module_class::linear && m.kind != module_class::head) return std::nullopt;
  std::optional<std::size_t> best;
  std::optional<pattern_match> best_match;
  std::vector<std::pair<std::size_t, pattern_match>> all;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const stage& s = r.stages[i];
    if (s.syntax == pattern_syntax::glob && (m.kind == module_class::head || !in_decoder_layer(m.name))) continue;
    if (r.source == "flags" && s.targets == std::vector<std::string>{"Linear"} && (m.kind == module_class::head || float_by_default(m.name)))
      continue;
    const std::string_view other = other_name_of(m, r, s.syntax);
    const std::optional<pattern_match> found = find_either(stages[i].targets, m, other);
    if (!found) continue;
    used[i].insert(found->index);
    if (matches_either(stages[i].ignore, m, other)) continue;
    all.emplace_back(i, *found);
    if (!best || (s.syntax == pattern_syntax::compressed_tensors && *found < *best_match)) {
      best = i;
      best_match = *found;
    }
  }
  for (const auto& [i, match] : all) {
    const bool alike = r.stages[i].syntax == pattern_syntax::glob || (match.kind == best_match->kind && match.pattern == best_match->pattern);
    if (i != *best && alike) rivals[{i, *best}].push_back(m.name);
  }
  return best;
}

}  // namespace qlib::inline v0::detail
