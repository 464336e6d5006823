#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/buffer.hpp>
#include <qlib/observer/range_score.hpp>
#include <qlib/observer/ranges_are_for.hpp>
#include <qlib/pipeline/calibrate.hpp>
#include <qlib/pipeline/rotate.hpp>
#include <qlib/recipe/policy_options.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>

namespace qlib::inline v0 {

namespace detail {

/// Of the operands of attention: queries, keys, values.
inline constexpr std::array<std::string_view, 3> operand_suffixes{".query", ".key", ".value"};

/// Observes the operands of a plan while a decoder runs.
class operand_watch final : public forward_hook {
 public:
  operand_watch(const quantization_plan& plan, bool histograms, bool scores, calibration& out)
      : plan_{plan}, histograms_{histograms}, scores_{scores}, out_{out}, shared_with_(plan.operands.size()), watched_(plan.operands.size()) {
    out_.operands.resize(plan.operands.size());
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
        shared_with_[at->second] = shared_with_[sibling->second].value_or(sibling->second);
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
    return {};
  }

  /// Operands that share an observer, and those that nothing reached.
  errors finish(std::size_t few_tokens) {
    for (std::size_t i = 0; i < shared_with_.size(); ++i)
      if (shared_with_[i]) out_.operands[i] = out_.operands[*shared_with_[i]];
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

  /// "….experts.*.up_proj" of "….experts.17.up_proj"; nothing for other names.
  static std::optional<std::string> any_expert(const std::string& name) {
    constexpr std::string_view part = ".experts.";
    const std::size_t at = name.find(part);
    if (at == name.npos) return std::nullopt;
    const std::size_t number = at + part.size(), end = name.find('.', number);
    if (end == name.npos || end == number) return std::nullopt;
    return name.substr(0, number) + "*" + name.substr(end);
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
  std::vector<std::optional<std::size_t>> shared_with_;
  std::vector<std::optional<watch>> watched_;
  std::vector<std::size_t> open_;  // watched in the layer that runs
  std::optional<error> failed_;
};

/// Shows a float pass to suppressors alone.
class suppression_watch final : public forward_hook {
 public:
  explicit suppression_watch(suppression_pass& pass) : pass_{pass} {}
  matrix_view<const float> input(const linear_input& in, std::size_t i) override {
    pass_.observe(in, i);
    return in.x;
  }
  void attention_input(std::size_t layer, const std::string&, matrix_view<float>, matrix_view<float> k, matrix_view<float>,
                       std::span<const std::size_t>, std::size_t) override {
    pass_.observe_keys(layer, k);
  }

 private:
  suppression_pass& pass_;
};

/// Channels that keep scale 1, sub-graph by sub-graph, and how many sub-graphs stay as they are.
inline void warn_of(const std::vector<suppression_report>& reports, std::vector<std::string>& to) {
  std::size_t left = 0;
  for (const suppression_report& r : reports) {
    left += !r.kept && r.error_after > r.error_before;
    if (r.dead > 0) to.push_back(r.source + ": " + std::to_string(r.dead) + " channels never change over the calibration data: their scale is 1");
    if (r.limited > 0)
      to.push_back(r.source + ": " + std::to_string(r.limited) + " scales would take the gain out of its dtype: those channels keep scale 1");
  }
  if (left > 0)
    to.push_back(std::to_string(left) + " of " + std::to_string(reports.size()) +
                 " sub-graphs are not rescaled: it would have made their outputs worse");
}

/// The residual stream of some samples.
struct residual_rows {
  std::vector<std::size_t> rows;  ///< first row of each sample, and their number
  buffer memory{0};
  matrix_view<float> hidden{};

  status embed(const decoder& model, std::span<const std::vector<std::int32_t>> samples);
};

inline std::vector<std::size_t> rows_of(std::span<const std::vector<std::int32_t>> samples) {
  std::vector<std::size_t> rows{0};
  for (const auto& s : samples) rows.push_back(rows.back() + s.size());
  return rows;
}

QLIB_INLINE status residual_rows::embed(const decoder& model, std::span<const std::vector<std::int32_t>> samples) {
  rows = rows_of(samples);
  if (rows.back() == 0)
    return error{.where = "calibration data", .problem = "holds no token", .remedy = "give samples with --calib_file or --calib_ids"};
  const std::size_t width = model.description().hidden_size;
  memory = buffer{rows.back() * width * sizeof(float)};
  if (memory.data() == nullptr) return error{.kind = error_kind::run_failed, .subject = "calibration", .problem = "out of memory", .remedy = {}};
  hidden = {reinterpret_cast<float*>(memory.data()), rows.back(), width};
  for (std::size_t s = 0; s < samples.size(); ++s)
    if (status st = model.embed(samples[s], hidden.strip(rows[s], samples[s].size())); !st) return st;
  return {};
}

}  // namespace detail

QLIB_INLINE result<calibration> calibrate(const decoder& stored, const quantization_plan& plan, std::span<const std::vector<std::int32_t>> samples,
                                          const calibrate_options& options) {
  model_folds rotated, found;
  if (plan.rotation)
    if (status s = rotate(*plan.rotation, stored.source(), rotated); !s) return std::move(s).error();
  const folded_parameters parameters{stored.source(), rotated};
  const decoder model = plan.rotation ? stored.with(parameters) : stored;
  detail::residual_rows stream, others;
  if (status s = stream.embed(model, samples); !s) return std::move(s).error();
  const bool apart = !plan.suppressions.empty() && !options.suppress_samples.empty();
  if (apart)
    if (status s = others.embed(model, options.suppress_samples); !s) return std::move(s).error();
  const auto& [rows, memory, hidden] = stream;
  calibration out;
  out.samples = samples.size();
  out.tokens = rows.back();
  out.products = model.gemm_name();

  suppression_pass suppression{plan,  model.source(),  (apart ? others : stream).rows.back(), model.products(), options.suppress,
                               found, out.suppressions};

  // Layers behind the last one that is watched need not run.
  std::size_t layers = 0, rescaled_layers = 0;
  for (std::size_t l = 0; l < model.layers(); ++l) {
    const std::string& prefix = model.description().layers[l].prefix;
    if (suppression.has(l)) rescaled_layers = l + 1;
    if (suppression.has(l) || std::any_of(plan.operands.begin(), plan.operands.end(), [&](const auto& o) { return o.name.starts_with(prefix); }))
      layers = l + 1;
  }
  double all = 0, done = 0;
  for (std::size_t l = 0; l < layers; ++l) all += model.flops(l, rows);
  detail::operand_watch watch{plan, options.histograms, options.range_scores, out};
  detail::suppression_watch only{suppression};
  for (std::size_t l = 0; l < layers; ++l) {
    const bool rescaled = suppression.has(l), one_pass = !rescaled || (!apart && watch.extremes_suffice(model.description().layers[l].prefix));
    watch.beside(rescaled && one_pass ? &suppression : nullptr);
    watch.before(rescaled ? &suppression : nullptr, one_pass);
    if (apart && l < rescaled_layers) {
      if (status s = model.run_layer(l, others.hidden, others.rows, only); !s) return std::move(s).error();
    } else if (!one_pass) {
      buffer copied{memory.size()};
      if (copied.data() == nullptr) return error{.kind = error_kind::run_failed, .subject = "calibration", .problem = "out of memory", .remedy = {}};
      std::memcpy(copied.data(), memory.data(), memory.size());
      const matrix_view<float> copy{reinterpret_cast<float*>(copied.data()), hidden.rows(), hidden.cols()};
      if (status s = model.run_layer(l, copy, rows, only); !s) return std::move(s).error();
    }
    if (!one_pass)
      if (status s = suppression.solve(l); !s) return std::move(s).error();
    if (status s = model.run_layer(l, hidden, rows, watch); !s) return std::move(s).error();
    if (rescaled && one_pass)
      if (status s = suppression.solve(l); !s) return std::move(s).error();
    if (status s = watch.settle_layer(); !s) return std::move(s).error();
    done += model.flops(l, rows);
    if (options.on_progress) options.on_progress({l + 1, layers, all > 0 ? done / all : 1});
  }
  errors missing = watch.finish(options.few_tokens);
  if (!missing.empty()) return std::move(missing.front());
  detail::warn_of(out.suppressions, out.warnings);
  out.folds = std::move(rotated);
  out.folds.append(std::move(found));
  return out;
}

QLIB_INLINE result<calibration> rotate_only(const quantization_plan& plan, const parameter_source& source) {
  calibration out;
  if (plan.rotation)
    if (status s = rotate(*plan.rotation, source, out.folds); !s) return std::move(s).error();
  return out;
}

QLIB_INLINE std::vector<std::string> layers_by_range_score(const quantization_plan& plan, const calibration& found, std::size_t count) {
  std::vector<std::size_t> order;
  for (const work_item& item : plan.items)
    if (item.encoding && item.operand) order.push_back(*item.operand);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return found.operands[a].range_score > found.operands[b].range_score; });
  std::vector<std::string> names;
  for (std::size_t i = 0; i < order.size() && i < count; ++i) names.push_back(plan.operands[order[i]].name);
  return names;
}

QLIB_INLINE calibration for_plan(const calibration& found, const quantization_plan& from, const quantization_plan& to) {
  std::map<std::string_view, std::size_t> at;
  for (std::size_t i = 0; i < from.operands.size(); ++i) at.emplace(from.operands[i].name, i);
  calibration out = found;
  out.operands.clear();
  for (const calibrated_operand& o : to.operands) out.operands.push_back(found.operands[at.at(o.name)]);
  return out;
}

QLIB_INLINE std::uint64_t forecast_calibration_memory(const decoder& model, const quantization_plan& plan,
                                                      std::span<const std::vector<std::int32_t>> samples, const suppress_options& suppress,
                                                      std::span<const std::vector<std::int32_t>> suppress_samples) {
  std::size_t tokens = 0, longest = 0;
  for (const auto& all : {samples, suppress_samples})
    for (const auto& s : all) {
      tokens += s.size();
      longest = std::max(longest, s.size());
    }
  const std::uint64_t hidden = std::uint64_t{tokens} * model.description().hidden_size * sizeof(float);
  std::uint64_t most = 0;
  for (std::size_t l = 0; l < model.layers(); ++l) {
    bool observed = false;
    std::uint64_t widest = 0;  // of the operands, which are copied a sample at a time behind a sub-graph
    for (const calibrated_operand& o : plan.operands)
      if (o.name.starts_with(model.description().layers[l].prefix)) {
        observed |= o.name.ends_with(detail::operand_suffixes[0]);
        widest = std::max<std::uint64_t>(widest, o.channels);
      }
    const std::uint64_t plain = model.peak_bytes(l, tokens, longest, observed ? latent_use::observed : latent_use::expanded);
    std::uint64_t kept = 0, search = 0, changed = widest * longest * sizeof(float);
    for (const planned_suppression& p : plan.suppressions) {
      if (p.layer != l) continue;
      const auto shape = model.source().shape(p.graph.targets.front() + ".weight");
      const std::uint64_t columns = shape && shape->size() == 2 ? (*shape)[1] : 0;
      const std::uint64_t rows = std::min<std::uint64_t>(tokens, suppress.search_tokens);
      kept += columns * sizeof(float) * (rows + 2 * (samples.size() + suppress_samples.size()) * (1 + p.graph.targets.size()));
      std::uint64_t weights = 0, outputs = 0;
      for (const std::string& t : p.graph.targets)
        if (const auto s = model.source().shape(t + ".weight"); s && s->size() == 2) {
          weights += (*s)[0] * (*s)[1] * sizeof(float);
          outputs += (*s)[0] * rows * sizeof(float);
        }
      const std::uint64_t held = std::min(weights, suppress.weight_bytes);
      search =
          std::max(search, held + 2 * held / std::max<std::size_t>(1, p.graph.targets.size()) + 2 * outputs + 3 * rows * columns * sizeof(float));
    }
    // A second run of the layer keeps the hidden states before it apart.
    most = std::max(most, kept + std::max(search, plain) + (kept > 0 ? hidden + changed : 0));
  }
  return most + hidden;
}

}  // namespace qlib::inline v0
