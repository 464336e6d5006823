#pragma once
#include <qlib/format/ascend_schemes.hpp>
#include <qlib/format/fused_groups.hpp>
#include <qlib/model/module_name.hpp>
#include <qlib/pipeline/fingerprint.ipp>
#include <qlib/pipeline/place_slots.ipp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/plan_choices.ipp>
#include <qlib/pipeline/plan_items.ipp>
#include <qlib/pipeline/planned_config.hpp>
#include <qlib/pipeline/planner.ipp>

#include <algorithm>
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
  check_complete();
  if (!found_.empty()) return found_;
  choose_stages();
  note_embeddings();
  note_tied_head();
  choose_attention();
  choose_rotation();
  choose_suppressions();
  add_everything();
  for (const auto& [text, r] : refusals_)
    if (r.more > 0) found_[r.error].subject += " and " + std::to_string(r.more) + " more";
  check();
  if (!found_.empty()) return found_;
  if (status s = finish(); !s) return {s.error()};
  check_fused();
  if (!found_.empty()) return found_;
  out = std::move(plan_);
  return {};
}

inline void planner::check() {
  const auto matches_one = [&](std::size_t i, std::size_t p) {  // beside another target, which was counted
    return std::any_of(layout_.matrices.begin(), layout_.matrices.end(), [&](const matrix_module& m) {
      if (m.kind != module_class::linear && m.kind != module_class::head) return false;
      for (const std::string_view name : {std::string_view{m.name}, other_name_of(m, recipe_, recipe_.stages[i].syntax)})
        if (const auto hits = stages_[i].targets.matching(name, name_of(m.kind)); !name.empty() && std::binary_search(hits.begin(), hits.end(), p))
          return true;
      return false;
    });
  };
  for (std::size_t i = 0; i < stages_.size(); ++i)
    for (std::size_t p = 0; p < recipe_.stages[i].targets.size(); ++p)
      if (!used_[i].contains(p) && (recipe_.stages[i].syntax == pattern_syntax::glob || !matches_one(i, p)))
        plan_.warnings.push_back(recipe_.stages[i].where + ": target \"" + recipe_.stages[i].targets[p] + "\" matches no linear layer");
  check_ignored();
  check_rivals();
  check_engine();
  check_left_out();
  if (!unseen_.empty())
    plan_.warnings.push_back(unseen_.front() + (unseen_.size() == 1 ? "" : " and " + std::to_string(unseen_.size() - 1) + " more") + ": the " +
                             std::to_string(options_.model->layers.size()) +
                             " layers of config.json do not have it, so that its inputs have no range: stays float");
  const bool nothing = found_.empty() && plan_.quantized == 0 && attention_.empty();
  if (nothing && layout_.unread.empty())
    found_.push_back({.where = source_.directory(),
                      .problem = "no layer matches the recipe: nothing would be quantized",
                      .remedy = "check targets and ignore; `qlib inspect` lists the layers"});
  if (!layout_.unread.empty()) {
    const std::size_t first = layout_.unread.front();
    const std::string what = "is " + std::string{name_of(source_.tensors()[first].info.dtype)} +
                             (layout_.unread.size() == 1 ? "" : ", and so are " + std::to_string(layout_.unread.size() - 1) + " more weights");
    if (nothing)
      found_.push_back({.where = path_of(first),
                        .subject = name_of_tensor(first),
                        .problem = what + ": already quantized, or of a dtype that is not read, and no other layer matches the recipe",
                        .remedy = "give the float checkpoint it was made from: f32, bf16 or f16"});
    else plan_.warnings.push_back(name_of_tensor(first) + " " + what + ": not quantized, but copied as it is");
  }
  check_names();
}

inline void planner::check_names() {
  const auto refuse = [&](const std::string& name, std::string problem, std::string remedy) {
    found_.push_back({.where = source_.directory(), .subject = name, .problem = std::move(problem), .remedy = std::move(remedy)});
  };
  std::map<std::string_view, const work_item*> writers;
  for (const work_item& item : plan_.items)
    for (const std::size_t slot : item.slots) {
      const std::string& name = plan_.slots[slot].tensor.name;
      const auto [at, first] = writers.emplace(name, &item);
      if (first) continue;
      const work_item &a = *at->second, &b = item;
      if (a.encoding.has_value() == b.encoding.has_value()) {
        refuse(name, "would be written twice", "the source holds stacked and separate experts of one layer");
      } else {
        const std::string& module = (a.encoding ? a : b).name;
        refuse(name, "is in the source, and quantizing " + module + " would write one of this name too",
               "give the float checkpoint without parameters of an earlier quantization, or --ignore " + module);
      }
    }
}

inline void planner::check_left_out() {
  const auto some = [](const std::vector<std::string_view>& names) {
    return std::string{names.front()} + (names.size() > 1 ? " and " + std::to_string(names.size() - 1) + " more" : "");
  };
  if (!transposed_.empty())
    found_.push_back(
        {.where = source_.directory(),
         .subject = std::string{transposed_.front()} + ".weight",
         .problem = "is stored [in_features, out_features], as transformers' Conv1D" +
                    (transposed_.size() > 1 ? ", and so are " + std::to_string(transposed_.size() - 1) + " more matrices" : std::string{}) +
                    ": its channels would be quantized along the wrong axis",
         .remedy = "leave them out by ignore, or store the model with Linear layers, transposed"});
  for (const auto& [where, names] : embeddings_)
    plan_.warnings.push_back(where + " matches " + some(names) + ": embeddings are not quantized, it stays float");
  if (!tied_target_.empty())
    plan_.warnings.push_back(tied_target_ +
                             " matches lm_head, which is the embedding (tie_word_embeddings) and has no tensor of its own: it stays float");
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
      for (const std::string_view name : {std::string_view{m.name}, other_name_of(m, recipe_, recipe_.stages[i].syntax)})
        for (const std::size_t p : name.empty() ? std::vector<std::size_t>{} : stages_[i].ignore.matching(name, name_of(m.kind))) hit[p] = true;
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

/// "q_proj FLOAT, k_proj and v_proj W8A8"; of experts "24 of W8A8, 3 of FLOAT".
inline std::string types_text(const fused_group& g, const members_by_type& types) {
  std::string text;
  for (const auto& [type, members] : types) {
    text += text.empty() ? "" : ", ";
    for (std::size_t i = 0; i < members.size() && !g.experts; ++i) text += (i ? " and " : "") + members[i].substr(members[i].rfind('.') + 1);
    text += g.experts ? std::to_string(members.size()) + " of " + type : " " + type;
  }
  return text;
}

inline void planner::check_fused() {
  const bool ascend = plan_.format == "ascend_v1";
  const stored_config config = ascend ? stored_config{} : planned_config(plan_);
  std::map<std::string, std::string> types;
  std::vector<std::string> names;
  for (const manifest::linear& l : about_.linears) {
    const stored_scheme* s = ascend || l.quant_type.empty() ? nullptr : config.scheme_of(l.name);
    types[l.name] = l.quant_type.empty() ? "FLOAT" : s ? type_text(*s) : l.quant_type;
    names.push_back(l.name);
  }
  std::sort(names.begin(), names.end());
  struct mix {
    fused_group first;
    std::size_t count = 0;
    bool with_floats = false;
  };
  std::map<std::pair<bool, std::string>, mix> mixes;  // by whether it is an error, and what is said of it
  for (fused_group& g : fused_groups(names)) {
    const members_by_type members = types_in(g, types);
    if (members.size() == 1) continue;
    mix& m = mixes[{needs_one_type(g, plan_.format) && options_.follow == compat::none, types_text(g, members)}];
    if (m.count++ == 0) m = {std::move(g), 1, members.contains("FLOAT")};
  }
  for (const auto& [key, m] : mixes) {
    const std::string subject = m.first.name + (m.count > 1 ? " and " + std::to_string(m.count - 1) + " more" : "");
    const std::string problem = "engines load it as one matrix of one type, but it would be " + key.second;
    std::string remedy = "let one stage of the recipe match all of them";
    if (m.with_floats) {
      remedy = "name all of them or none where layers are left out";
      if (recipe_.source == "flags" && !m.first.experts) {
        std::string all;
        for (const std::string& member : m.first.members) all += (all.empty() ? "" : ",") + member;
        remedy += ", as in --disable_names " + all;
      }
    }
    if (key.first) found_.push_back({.where = source_.directory(), .subject = subject, .problem = problem, .remedy = remedy});
    else plan_.warnings.push_back(subject + ": " + problem + ": " + remedy);
  }
}

}  // namespace detail

QLIB_INLINE errors make_plan(const checkpoint& source, const model_layout& layout, const recipe& r, const plan_options& options,
                             quantization_plan& out) {
  return detail::planner{source, layout, r, options}.make(out);
}

}  // namespace qlib::inline v0
