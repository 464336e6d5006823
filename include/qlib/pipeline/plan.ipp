#pragma once
#include <qlib/format/ascend_schemes.hpp>
#include <qlib/model/module_name.hpp>
#include <qlib/pipeline/fingerprint.ipp>
#include <qlib/pipeline/place_slots.ipp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/plan_choices.ipp>
#include <qlib/pipeline/plan_items.ipp>
#include <qlib/pipeline/planner.ipp>

#include <map>
#include <set>

namespace qlib::inline v0 {

namespace detail {

inline errors planner::make(quantization_plan& out) {
  compile_stages();
  if (!found_.empty()) return found_;
  plan_.model_type = layout_.model_type;
  plan_.format = std::visit([](const auto& f) { return std::string{f.name}; }, options_.format);
  plan_.follow = options_.follow;
  plan_.input_bytes = source_.total_bytes();
  if (!layout_.known_family)
    plan_.warnings.push_back("model_type \"" + layout_.model_type +
                             "\" is not known: every two-dimensional .weight that is no embedding, router or norm is taken for a linear layer");
  choose_stages();
  choose_attention();
  choose_rotation();
  choose_suppressions();
  add_everything();
  check();
  if (!found_.empty()) return found_;
  if (status s = finish(); !s) return {s.error()};
  out = std::move(plan_);
  return {};
}

inline void planner::check() {
  for (std::size_t i = 0; i < stages_.size(); ++i)
    for (std::size_t p = 0; p < recipe_.stages[i].targets.size(); ++p)
      if (!used_[i].contains(p))
        plan_.warnings.push_back(recipe_.stages[i].where + ": target \"" + recipe_.stages[i].targets[p] + "\" matches no linear layer");
  check_ignored();
  check_rivals();
  check_engine();
  if (!unseen_.empty())
    plan_.warnings.push_back(unseen_.front() + (unseen_.size() == 1 ? "" : " and " + std::to_string(unseen_.size() - 1) + " more") + ": the " +
                             std::to_string(options_.model->layers.size()) +
                             " layers of config.json do not have it, so that its inputs have no range: stays float");
  if (found_.empty() && plan_.quantized == 0 && attention_.empty())
    found_.push_back({.where = source_.directory(),
                      .problem = "no layer matches the recipe: nothing would be quantized",
                      .remedy = "check targets and ignore; `qlib inspect` lists the layers"});
  std::set<std::string> names;
  for (const output_slot& s : plan_.slots)
    if (!names.insert(s.tensor.name).second)
      found_.push_back({.where = source_.directory(),
                        .subject = s.tensor.name,
                        .problem = "would be written twice",
                        .remedy = "the source holds stacked and separate experts of one layer"});
}

inline void planner::check_engine() {
  if (plan_.format != "ascend_v1") return;
  std::map<std::pair<std::string, bool>, std::vector<std::string_view>> strangers;
  for (const work_item& i : plan_.items) {
    if (!i.encoding) continue;
    const bool expert = is_expert(i.name);
    if (!has_ascend_scheme(i.encoding->quant_type, expert)) strangers[{i.encoding->quant_type, expert}].push_back(i.name);
  }
  for (const auto& [key, names] : strangers)
    plan_.warnings.push_back("vLLM-Ascend has no " + key.first + (key.second ? " for experts: " : " for linear layers: ") +
                             std::string{names.front()} + (names.size() > 1 ? " and " + std::to_string(names.size() - 1) + " more" : "") +
                             (key.second ? "; it loads w8a8_dynamic there" : "; another engine must load this checkpoint"));
}

/// A pattern to leave alone, with the place where it was written.
inline std::string as_written(const stage& s, const std::string& pattern) {
  for (const auto& [translated, written] : s.spelled)
    if (translated == pattern) return "--disable_names: \"" + written + "\"";
  return s.where + ": \"" + pattern + "\"";
}

inline void planner::check_rivals() {
  for (const auto& [stages, names] : rivals_) {
    const stage &loser = recipe_.stages[stages.first], &winner = recipe_.stages[stages.second];
    plan_.warnings.push_back(loser.where + ": " + loser.name + " has no effect on " + std::string{names.front()} +
                             (names.size() > 1 ? " and " + std::to_string(names.size() - 1) + " more layers" : "") + ": " + winner.name + " of " +
                             winner.where + " matches them too, comes first and wins");
  }
}

inline void planner::check_ignored() {
  std::set<std::string> said;
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const std::vector<std::string>& ignore = recipe_.stages[i].ignore;
    std::vector<bool> hit(ignore.size());
    for (const matrix_module& m : layout_.matrices)
      for (const std::size_t p : stages_[i].ignore.matching(m.name, name_of(m.kind))) hit[p] = true;
    for (std::size_t p = 0; p < ignore.size(); ++p)  // a tied head has no tensor
      if (!hit[p] && ignore[p] != "lm_head" && said.insert(ignore[p]).second)
        plan_.warnings.push_back(as_written(recipe_.stages[i], ignore[p]) + " is to be left alone, but no layer has this name");
  }
}

inline status planner::finish() {
  const std::uint64_t limit =
      options_.part_bytes ? *options_.part_bytes : std::visit([](const auto& f) { return f.default_part_bytes; }, options_.format);
  if (status s = place_slots(plan_, options_.format, limit); !s) return s;
  for (const output_slot& s : plan_.slots) {
    about_.tensors.push_back({s.tensor.name, s.quant_type});
    about_.tensor_files.emplace_back(s.tensor.name, plan_.files[s.file].name);
    about_.total_bytes += s.bytes;
  }
  plan_.output_bytes = about_.total_bytes;
  plan_.documents = std::visit([&](const auto& f) { return f.documents(about_); }, options_.format);
  plan_.fingerprint = fingerprint_of(plan_, source_, options_.follow);
  return {};
}

}  // namespace detail

QLIB_INLINE errors make_plan(const checkpoint& source, const model_layout& layout, const recipe& r, const plan_options& options,
                             quantization_plan& out) {
  return detail::planner{source, layout, r, options}.make(out);
}

}  // namespace qlib::inline v0
