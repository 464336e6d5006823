/// Which sub-graphs a stage of a recipe takes, and which of its words meant nothing. Part of plan_suppression.ipp.
#pragma once
#include <qlib/model/parameters.hpp>
#include <qlib/model/subgraph.hpp>
#include <qlib/recipe/match.hpp>
#include <qlib/recipe/recipe.hpp>

#include <algorithm>
#include <cctype>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0::detail {

/// "a", or "a and 3 more".
struct counted_names {
  std::string first;
  std::size_t count = 0;

  void add(std::string_view name) {
    if (count++ == 0) first = name;
  }
  std::string text() const { return count <= 1 ? first : first + " and " + std::to_string(count - 1) + " more"; }
};

/// The modules of a model, asked for once.
class module_names {
 public:
  explicit module_names(const parameter_source& source) : source_{source} {}

  const std::set<std::string>& all() {
    if (names_.empty())
      for (const std::string& tensor : source_.names()) names_.insert(tensor.substr(0, tensor.rfind('.')));
    return names_;
  }
  bool match(const pattern_set& patterns) {
    return std::any_of(all().begin(), all().end(), [&](const std::string& n) { return patterns.matches(n, "Linear"); });
  }
  /// There is this module, or one inside it.
  bool contain(const std::string& module) {
    const auto at = all().lower_bound(module);
    if (at != names_.end() && *at == module) return true;
    const auto inside = all().lower_bound(module + ".");
    return inside != names_.end() && inside->starts_with(module + ".");
  }

 private:
  const parameter_source& source_;
  std::set<std::string> names_;
};

/// The module around all of these, which is no list of modules: "model.layers.0.mlp" of two experts in it. One module is around itself.
inline std::string module_around(const std::vector<std::string_view>& modules) {
  std::string around{modules.front()};
  for (const std::string_view m : modules)
    while (m != around && !m.starts_with(around + ".")) {
      const std::size_t dot = around.rfind('.');
      if (dot == around.npos) return {};
      around.resize(dot);
    }
  const auto numbered = [&](std::string_view m) {
    return m.size() > around.size() + 1 && std::isdigit(static_cast<unsigned char>(m[around.size() + 1]));
  };
  if (modules.size() > 1 && numbered(modules.front())) around.resize(std::min(around.size(), around.rfind('.')));
  return around;
}

/// One of a stage's mappings, and what it met.
class watched_mapping {
 public:
  watched_mapping(const smoothing_mapping& m, pattern_set smooth, pattern_set balance)
      : written_{&m}, smooth_{std::move(smooth)}, balance_{std::move(balance)}, reads_(m.balance.size()) {}

  /// The sub-graph begins at a smooth layer, and a balance layer reads it.
  bool takes(const subgraph& g) {
    if (!smooth_.matches(g.source, "Module")) return false;
    std::vector<std::string_view> named;
    counted_names others;
    for (const std::string& reader : g.targets) {
      const auto hits = balance_.matching(reader, "Linear");
      for (const std::size_t p : hits) reads_[p] = true;
      if (!hits.empty()) named.push_back(reader);
      else others.add(reader);
    }
    if (named.empty()) {
      if (strange_source_.empty()) strange_source_ = g.source, strange_ = others;
      return false;
    }
    ++taken_;
    if (others.count > 0 && unnamed_.count == 0) unnamed_.first = others.first;
    unnamed_.count += others.count;
    if (!written_->hook.empty()) hooks_.insert(module_around(named) + "." + written_->hook);
    for (const std::string& reader : g.targets) hooked_ += inside_hook(reader);
    return true;
  }

  std::size_t taken() const { return taken_; }

  void say(module_names& modules, std::vector<std::string>& warnings, errors& found) const {
    const auto fail = [&](std::string problem, std::string remedy) {
      found.push_back({.where = written_->where, .subject = written_->name, .problem = std::move(problem), .remedy = std::move(remedy)});
    };
    const auto warn = [&](const std::string& text) { warnings.push_back(written_->where + ": " + written_->name + ": " + text); };
    if (taken_ == 0 && !modules.match(balance_))
      return fail("no module of the model is one of the balance layers", "`qlib inspect` lists the modules; or remove the mapping");
    if (taken_ == 0 && !strange_source_.empty())
      return fail("none of the balance layers reads " + strange_source_ + ": " + strange_.text() + (strange_.count > 1 ? " do" : " does"),
                  "name what reads it, or remove the mapping");
    if (taken_ == 0)
      return warn("nothing can be rescaled behind \"" + written_->smooth.front() + "\": it is no norm, value or up projection of this model");
    for (std::size_t p = 0; p < reads_.size(); ++p)
      if (!reads_[p]) warn("\"" + written_->balance[p] + "\" of the balance layers reads none of the smooth layers: it is left alone");
    if (unnamed_.count > 0)
      warn("all that read a smooth layer are balanced, also " + unnamed_.text() + ", or the model would compute something else");
    for (const std::string& hook : hooks_)
      if (!modules.contain(hook))
        return fail("activation_hook_target " + written_->hook + ": there is no " + hook, "give a module below the one around the balance layers");
    if (!hooks_.empty() && hooked_ == 0)
      warn("statistics are those of what the balance layers get, not of what activation_hook_target " + written_->hook + " gets");
  }

 private:
  bool inside_hook(const std::string& reader) const {
    return std::any_of(hooks_.begin(), hooks_.end(), [&](const std::string& h) { return reader == h || reader.starts_with(h + "."); });
  }

  const smoothing_mapping* written_;
  pattern_set smooth_, balance_;
  std::vector<bool> reads_;  // by pattern: names a reader of a smooth layer
  std::size_t taken_ = 0, hooked_ = 0;
  counted_names unnamed_;
  std::string strange_source_;  // the first smooth layer that none of the named ones reads, and what does
  counted_names strange_;
  std::set<std::string> hooks_;
};

/// A stage's patterns, and what they met.
class watched_stage {
 public:
  static result<watched_stage> compile(const suppression_stage& s) {
    watched_stage out;
    out.stage_ = &s;
    auto targets = pattern_set::compile(s.targets, s.syntax, s.where), ignore = pattern_set::compile(s.ignore, s.syntax, s.where);
    if (!targets) return std::move(targets).error();
    if (!ignore) return std::move(ignore).error();
    out.targets_ = *std::move(targets);
    out.ignore_ = *std::move(ignore);
    out.targets_hit_.resize(s.targets.size());
    out.ignore_hit_.resize(s.ignore.size());
    for (const smoothing_mapping& m : s.mappings) {
      auto smooth = pattern_set::compile(m.smooth, s.syntax, m.where), balance = pattern_set::compile(m.balance, s.syntax, m.where);
      if (!smooth) return std::move(smooth).error();
      if (!balance) return std::move(balance).error();
      out.mappings_.emplace_back(m, *std::move(smooth), *std::move(balance));
    }
    return out;
  }

  /// A sub-graph of a kind that the stage wants; `attention` is the name of its layer's attention module, which is what patterns for keys match.
  bool takes(const subgraph& g, const std::string& attention) {
    const bool keys = g.kind == subgraph_kind::query_key;
    const std::string& name = keys ? attention : g.source;
    const std::string_view class_name = keys ? "Attention" : "Module";
    const auto note = [&](const pattern_set& set, std::vector<bool>& hit) {
      const auto hits = set.matching(name, class_name);
      for (const std::size_t p : hits) hit[p] = true;
      return !hits.empty();
    };
    bool chosen = note(targets_, targets_hit_) || stage_->targets.empty();
    if (!mappings_.empty()) {
      chosen = false;
      for (watched_mapping& m : mappings_) chosen |= m.takes(g);
    }
    const bool ignored = note(ignore_, ignore_hit_);
    taken_ += chosen && !ignored;
    return chosen && !ignored;
  }

  void note_unread() { ++unread_; }
  void note_unscalable() { ++unscalable_; }
  void note_searched(const std::string& reader, const scheme& s) {
    if (!stage_->searched) return;
    const bool same = stage_->searched->weights == s.weights &&
                      (!stage_->searches_inputs ||
                       (stage_->searched->input_activations == s.input_activations && stage_->searched->dynamic_prefill == s.dynamic_prefill));
    if (!same) otherwise_.add(reader);
  }

  /// `quantized`: of the stages that quantize, whose own lists are checked where they are.
  void say(const std::vector<stage>& quantized, module_names& modules, std::vector<std::string>& warnings, errors& found) const {
    const suppression_stage& s = *stage_;
    const auto warn = [&](const std::string& text) { warnings.push_back(s.where + ": " + text); };
    std::size_t by_mappings = 0;
    for (const watched_mapping& m : mappings_) {
      m.say(modules, warnings, found);
      by_mappings += m.taken();
    }
    const char* const meant = s.query_key ? "attention module" : "source of a sub-graph: those are norms, value and up projections";
    if (mappings_.empty())
      for (std::size_t p = 0; p < s.targets.size(); ++p)
        if (!targets_hit_[p]) warn("include \"" + s.targets[p] + "\" matches no " + meant);
    for (std::size_t p = 0; p < s.ignore.size(); ++p)
      if (!ignore_hit_[p] && !elsewhere(s.ignore[p], quantized, modules))
        warn("\"" + s.ignore[p] + "\" is to be left alone, but it matches no " + meant);
    if (taken_ == 0 && (mappings_.empty() || by_mappings > 0)) warn("matches no sub-graph: nothing is rescaled");
    if (taken_ > 0 && taken_ == unread_)
      warn("of the linears behind its " + std::to_string(taken_) + " sub-graphs none is quantized: nothing is rescaled");
    if (unscalable_ > 0)
      warn(std::to_string(unscalable_) +
           " norms of keys are left as they are: gains stored as g - 1 with few bits cannot be scaled on both sides alike");
    if (otherwise_.count > 0)
      warn((s.name.empty() ? s.suppressor.name : s.name) + ": its qconfig is not what linear_quant makes of " + otherwise_.text() +
           ": the search uses what the linears get");
  }

 private:
  /// LLM-Compressor's lists to ignore are about linears too.
  bool elsewhere(const std::string& pattern, const std::vector<stage>& quantized, module_names& modules) const {
    if (stage_->syntax == pattern_syntax::glob) return false;
    if (pattern == "lm_head") return true;  // a tied head has no tensor
    for (const stage& q : quantized)
      if (std::find(q.ignore.begin(), q.ignore.end(), pattern) != q.ignore.end()) return true;
    const auto one = pattern_set::compile(std::span{&pattern, 1}, stage_->syntax, stage_->where);
    return one && modules.match(*one);
  }

  const suppression_stage* stage_ = nullptr;
  pattern_set targets_, ignore_;
  std::vector<bool> targets_hit_, ignore_hit_;
  std::vector<watched_mapping> mappings_;
  std::size_t taken_ = 0, unread_ = 0, unscalable_ = 0;
  counted_names otherwise_;  // readers that a search is told to make something else of
};

}  // namespace qlib::inline v0::detail
