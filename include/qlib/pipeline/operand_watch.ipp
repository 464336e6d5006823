/// What a calibration pass sees of the operands of a plan.
#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/model/module_name.hpp>
#include <qlib/observer/range_score.hpp>
#include <qlib/observer/ranges_are_for.hpp>
#include <qlib/pipeline/calibration.hpp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/suppress.hpp>
#include <qlib/recipe/policy_options.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>

namespace qlib::inline v0::detail {

/// Of the operands of attention: queries, keys, values.
inline constexpr std::array<std::string_view, 3> operand_suffixes{".query", ".key", ".value"};

/// Observes the operands of a plan while a decoder runs.
class operand_watch final : public forward_hook {
 public:
  operand_watch(const quantization_plan& plan, bool histograms, bool scores, calibration& out)
      : plan_{plan}, histograms_{histograms}, scores_{scores}, out_{out}, watched_(plan.operands.size()) {
    for (std::size_t i = 0; i < plan.operands.size(); ++i) index_.emplace(plan.operands[i].name, i);
  }

  /// The layer runs as it was before its sub-graphs were rescaled, and `pass` says how their channels change: at once, or, `later`, when it
  /// has solved them: extremes are kept until then. Null: what passes is what will be.
  void before(const suppression_pass* pass, bool later) {
    pass_ = pass;
    later_ = later;
  }
  /// Sees the inputs of linears too.
  void beside(suppression_pass* pass) { beside_ = pass; }

  /// Whether extremes are all that the observers of a layer need.
  bool extremes_suffice(const std::string& prefix) const {
    if (histograms_ || scores_)
      return std::none_of(plan_.operands.begin(), plan_.operands.end(), [&](const auto& o) { return o.name.starts_with(prefix); });
    return std::all_of(plan_.operands.begin(), plan_.operands.end(), [&](const calibrated_operand& o) {
      return !o.name.starts_with(prefix) ||
             std::visit([](const auto& observer) { return keeps_extremes(observer); }, *make_policy<registry::observers>(o.observer, {}, "observer"));
    });
  }

  matrix_view<const float> input(const linear_input& in, std::size_t i) override {
    if (beside_) beside_->observe(in, i);
    const auto at = index_.find(in.modules[i]);
    if (at == index_.end()) return in.x;
    for (std::size_t before = 0; before < i; ++before)
      if (const auto sibling = index_.find(in.modules[before]); sibling != index_.end() && alike(sibling->second, at->second)) {
        const auto first = shared_with_.find(sibling->second);
        shared_with_[at->second] = first == shared_with_.end() ? sibling->second : first->second;
        return in.x;
      }
    observe(at->second, in.x, in.rows_of_sample, in.first_sample);
    return in.x;
  }

  void attention_input(std::size_t layer, const std::string& module, matrix_view<float> q, matrix_view<float> k, matrix_view<float> v,
                       std::span<const std::size_t> rows_of_sample, std::size_t first_sample) override {
    if (beside_) beside_->observe_keys(layer, k);
    observe_attention(module, {q, k, v}, rows_of_sample, first_sample);
  }

  latent_use use_of_latent(const std::string& module) override {
    const bool asked = std::any_of(operand_suffixes.begin(), operand_suffixes.end(),
                                   [&](std::string_view suffix) { return index_.contains(module + std::string{suffix}); });
    return asked ? latent_use::observed : latent_use::expanded;
  }

  void latent_input(const std::string& module, const latent_operands& in) override {
    observe_attention(module, {in.query, in.key, in.value}, in.rows_of_sample, in.first_sample);
  }

  status ok() override {
    if (failed_) return *failed_;
    return {};
  }

  /// After a layer: from what was observed to parameters.
  status settle_layer() {
    if (failed_) return *failed_;
    for (std::size_t i : open_) settle(i);
    open_.clear();
    for (const auto& [i, with] : shared_with_) out_.operands[i] = out_.operands[with];
    shared_with_.clear();
    return {};
  }

  /// Operands that nothing reached.
  errors finish(std::size_t few_tokens) {
    errors found;
    std::map<std::string, range> of_layer;  // "model.layers.3.mlp.experts.*.up_proj": joined over its experts
    std::map<std::string, std::vector<std::size_t>> few;
    for (std::size_t i = 0; i < plan_.operands.size(); ++i)
      if (const auto name = any_expert(plan_.operands[i].name)) {
        range& all = of_layer.try_emplace(*name, range::empty()).first->second;
        if (out_.operands[i].tokens > 0) all = join(all, out_.operands[i].seen);
        if (out_.operands[i].tokens < few_tokens) few[*name].push_back(i);
      }
    for (std::size_t i = 0; i < plan_.operands.size(); ++i) {
      if (out_.operands[i].tokens > 0) continue;
      const auto name = any_expert(plan_.operands[i].name);
      if (!name || of_layer.at(*name).min > of_layer.at(*name).max) {
        found.push_back({.subject = plan_.operands[i].name, .problem = "was never computed", .remedy = "leave it out of the recipe"});
        continue;
      }
      set(i, std::vector<range>(grid_of(plan_.operands[i].spec.granularity, 1, plan_.operands[i].channels).tiles(), of_layer.at(*name)));
    }
    for (const auto& [name, who] : few) out_.warnings.push_back(few_text(name, who, few_tokens));
    return found;
  }

 private:
  struct watch {
    registry::observers::any observer;
    range_score score;
    std::vector<float> extremes;  ///< of each sample, the smallest, then the largest value of each channel, before it was rescaled
  };

  template <class O>
  static constexpr bool keeps_extremes(const O&) {
    if constexpr (requires { O::keeps_extremes; }) return O::keeps_extremes;
    else return false;
  }

  bool alike(std::size_t a, std::size_t b) const {
    const calibrated_operand &x = plan_.operands[a], &y = plan_.operands[b];
    return x.spec == y.spec && x.channels == y.channels && x.observer == y.observer;
  }

  void observe(std::size_t i, matrix_view<const float> x, std::span<const std::size_t> rows_of_sample, std::size_t first_sample) {
    if (failed_) return;
    const calibrated_operand& o = plan_.operands[i];
    operand_parameters& to = out_.operands[i];
    if (!watched_[i]) {
      watched_[i].emplace(watch{*make_policy<registry::observers>(o.observer, {}, "observer"), range_score{}, {}});
      std::visit(
          [&](auto& observer) {
            ranges_are_for(observer, o.spec);
            observer.reset(o.spec.granularity, grid_of(o.spec.granularity, 1, o.channels));
          },
          watched_[i]->observer);
      if (histograms_) to.histogram.emplace();
      open_.push_back(i);
    }
    const bool changed = pass_ && !later_ && !pass_->changes(o.name).empty();
    for (std::size_t s = 0; s + 1 < rows_of_sample.size(); ++s) {
      const std::size_t rows = rows_of_sample[s + 1] - rows_of_sample[s];
      if (rows == 0) continue;
      auto sample = x.strip(rows_of_sample[s], rows);
      if (changed) {
        changed_.resize(sample.size());
        for (std::size_t r = 0; r < rows; ++r) std::copy_n(sample.row(r), x.cols(), changed_.data() + r * x.cols());
        change(o.name, changed_, x.cols());
        sample = {changed_.data(), rows, x.cols()};
      }
      range seen = range::empty();
      backend_.ranges(sample, tile::per_tensor(), std::span{&seen, 1});
      if (!seen.defined()) return fail(o.name, sample, first_sample + s);
      to.tokens += rows;
      if (pass_ && later_) {
        keep_extremes(sample, watched_[i]->extremes);
        continue;
      }
      to.seen = join(to.seen, seen);
      if (to.histogram) to.histogram->observe(sample);
      if (scores_) watched_[i]->score.observe(backend_, sample);
      std::visit([&](auto& observer) { observer.observe(backend_, sample); }, watched_[i]->observer);
    }
  }

  void observe_attention(const std::string& module, const std::array<matrix_view<const float>, 3>& operands,
                         std::span<const std::size_t> rows_of_sample, std::size_t first_sample) {
    for (std::size_t i = 0; i < operands.size(); ++i)
      if (const auto at = index_.find(module + std::string{operand_suffixes[i]}); at != index_.end())
        observe(at->second, operands[i], rows_of_sample, first_sample);
  }

  void fail(const std::string& name, matrix_view<const float> x, std::size_t sample) {
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t c = 0; c < x.cols(); ++c)
        if (!std::isfinite(x(r, c))) {
          failed_ = error{.subject = name,
                          .problem = "its input becomes " + std::string{std::isnan(x(r, c)) ? "NaN" : "infinite"} + " at sample " +
                                     std::to_string(sample) + ", token " + std::to_string(r) + ", channel " + std::to_string(c),
                          .remedy = "the checkpoint overflows on this sample: check its weights, or leave the sample out"};
          return;
        }
  }

  void keep_extremes(matrix_view<const float> sample, std::vector<float>& to) {
    columns_.assign(sample.cols(), range::empty());
    backend_.ranges(sample, tile{0, 1}, std::span{columns_});
    for (const range& r : columns_) to.push_back(r.min);
    for (const range& r : columns_) to.push_back(r.max);
  }

  /// Rows of an operand as they are behind its sub-graphs.
  void change(const std::string& name, std::vector<float>& rows, std::size_t width) const {
    for (const transform& t : pass_->changes(name))
      for (std::size_t k = 0; k < rows.size(); ++k) {
        const std::size_t c = k % width;
        rows[k] = (rows[k] - (t.shift.empty() ? 0.0f : t.shift[c])) / (t.scale.empty() ? 1.0f : t.scale[c]);
      }
  }

  /// A sample's extremes are all that an observer of extremes can tell of it: two rows stand for the sample.
  void observe_changed(std::size_t i) {
    watch& w = *watched_[i];
    const std::size_t width = plan_.operands[i].channels;
    change(plan_.operands[i].name, w.extremes, width);
    for (std::size_t at = 0; at < w.extremes.size(); at += 2 * width) {
      const matrix_view<const float> sample{w.extremes.data() + at, 2, width};
      std::visit([&](auto& observer) { observer.observe(backend_, sample); }, w.observer);
      for (std::size_t k = 0; k < sample.size(); ++k) out_.operands[i].seen = join(out_.operands[i].seen, {w.extremes[at + k], w.extremes[at + k]});
    }
  }

  /// From what an observer saw to parameters.
  void settle(std::size_t i) {
    if (pass_ && later_) observe_changed(i);
    const auto ranges = std::visit(
        [](const auto& observer) {
          const std::span<const range> r = observer.ranges();
          return std::vector<range>(r.begin(), r.end());
        },
        watched_[i]->observer);
    if (scores_) out_.operands[i].range_score = watched_[i]->score.score();
    watched_[i].reset();
    set(i, ranges);
  }

  void set(std::size_t i, const std::vector<range>& ranges) {
    const quant_spec& spec = plan_.operands[i].spec;
    operand_parameters& to = out_.operands[i];
    to.scales.resize(ranges.size());
    to.zero_points.resize(spec.symmetric || spec.type == number::floating ? 0 : ranges.size());
    solve_qparams(ranges, spec, {{1, ranges.size()}, to.scales, to.zero_points});
  }

  std::string few_text(const std::string& name, const std::vector<std::size_t>& who, std::size_t few_tokens) const {
    std::string list;
    std::size_t none = 0;
    for (std::size_t k = 0; k < who.size(); ++k) {
      none += out_.operands[who[k]].tokens == 0;
      const std::string& full = plan_.operands[who[k]].name;
      const std::size_t number = name.find('*');
      if (k < 8) list += (k ? ", " : "") + full.substr(number, full.find('.', number) - number);
      else if (k == 8) list += ", …";
    }
    return name + ": " + std::to_string(who.size()) + " experts saw fewer than " + std::to_string(few_tokens) + " tokens (" + list + "); " +
           std::to_string(none) + " of them none: those take the joined range of the others";
  }

  const quantization_plan& plan_;
  bool histograms_, scores_;
  calibration& out_;
  native_backend backend_;
  const suppression_pass* pass_ = nullptr;
  bool later_ = false;
  suppression_pass* beside_ = nullptr;
  std::vector<range> columns_;
  std::vector<float> changed_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::map<std::size_t, std::size_t> shared_with_;  // operands of the layer that runs, with the one that is observed for them
  std::vector<std::optional<watch>> watched_;
  std::vector<std::size_t> open_;  // watched in the layer that runs
  std::optional<error> failed_;
};

}  // namespace qlib::inline v0::detail
