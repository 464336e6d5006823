#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/buffer.hpp>
#include <qlib/observer/range_score.hpp>
#include <qlib/pipeline/calibrate.hpp>
#include <qlib/recipe/policy_options.hpp>

#include <algorithm>
#include <map>
#include <optional>

namespace qlib::inline v0 {

namespace detail {

/// Observes the operands of a plan while a decoder runs.
class operand_watch final : public forward_hook {
 public:
  operand_watch(const quantization_plan& plan, bool histograms, calibration& out)
      : plan_{plan}, histograms_{histograms}, out_{out}, shared_with_(plan.operands.size()), watched_(plan.operands.size()) {
    out_.operands.resize(plan.operands.size());
    for (std::size_t i = 0; i < plan.operands.size(); ++i) index_.emplace(plan.operands[i].name, i);
  }

  matrix_view<const float> input(const linear_input& in, std::size_t i) override {
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

  void attention_input(std::size_t, const std::string& module, matrix_view<float> q, matrix_view<float> k, matrix_view<float> v,
                       std::span<const std::size_t> rows_of_sample, std::size_t first_sample) override {
    for (const auto& [suffix, x] : {std::pair{".query", q}, {".key", k}, {".value", v}})
      if (const auto at = index_.find(module + suffix); at != index_.end()) observe(at->second, x, rows_of_sample, first_sample);
  }

  status ok() override {
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
  };

  bool alike(std::size_t a, std::size_t b) const {
    const calibrated_operand &x = plan_.operands[a], &y = plan_.operands[b];
    return x.spec == y.spec && x.channels == y.channels && x.observer == y.observer;
  }

  void observe(std::size_t i, matrix_view<const float> x, std::span<const std::size_t> rows_of_sample, std::size_t first_sample) {
    if (failed_) return;
    const calibrated_operand& o = plan_.operands[i];
    operand_parameters& to = out_.operands[i];
    if (!watched_[i]) {
      watched_[i].emplace(watch{*make_policy<registry::observers>(o.observer, {}, "observer"), range_score{}});
      std::visit([&](auto& observer) { observer.reset(o.spec.granularity, grid_of(o.spec.granularity, 1, o.channels)); }, watched_[i]->observer);
      if (histograms_) to.histogram.emplace();
      open_.push_back(i);
    }
    for (std::size_t s = 0; s + 1 < rows_of_sample.size(); ++s) {
      const std::size_t rows = rows_of_sample[s + 1] - rows_of_sample[s];
      if (rows == 0) continue;
      const auto sample = x.strip(rows_of_sample[s], rows);
      range seen = range::empty();
      backend_.ranges(sample, tile::per_tensor(), std::span{&seen, 1});
      if (!seen.defined()) return fail(o.name, sample, first_sample + s);
      to.seen = join(to.seen, seen);
      to.tokens += rows;
      if (to.histogram) to.histogram->observe(sample);
      watched_[i]->score.observe(backend_, sample);
      std::visit([&](auto& observer) { observer.observe(backend_, sample); }, watched_[i]->observer);
    }
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

  /// From what an observer saw to parameters.
  void settle(std::size_t i) {
    const auto ranges = std::visit(
        [](const auto& observer) {
          const std::span<const range> r = observer.ranges();
          return std::vector<range>(r.begin(), r.end());
        },
        watched_[i]->observer);
    out_.operands[i].range_score = watched_[i]->score.score();
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
  bool histograms_;
  calibration& out_;
  native_backend backend_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::vector<std::optional<std::size_t>> shared_with_;
  std::vector<std::optional<watch>> watched_;
  std::vector<std::size_t> open_;  // watched in the layer that runs
  std::optional<error> failed_;
};

inline std::vector<std::size_t> rows_of(std::span<const std::vector<std::int32_t>> samples) {
  std::vector<std::size_t> rows{0};
  for (const auto& s : samples) rows.push_back(rows.back() + s.size());
  return rows;
}

}  // namespace detail

QLIB_INLINE result<calibration> calibrate(const decoder& model, const quantization_plan& plan, std::span<const std::vector<std::int32_t>> samples,
                                          const calibrate_options& options) {
  const std::vector<std::size_t> rows = detail::rows_of(samples);
  const std::size_t width = model.description().hidden_size;
  if (rows.back() == 0)
    return error{.where = "calibration data", .problem = "holds no token", .remedy = "give samples with --calib_file or --calib_ids"};
  calibration out;
  out.samples = samples.size();
  out.tokens = rows.back();
  out.products = model.gemm_name();
  buffer memory{rows.back() * width * sizeof(float)};
  const matrix_view<float> hidden{reinterpret_cast<float*>(memory.data()), rows.back(), width};
  for (std::size_t s = 0; s < samples.size(); ++s)
    if (status st = model.embed(samples[s], hidden.strip(rows[s], samples[s].size())); !st) return std::move(st).error();

  // Layers behind the last one that is watched need not run.
  std::size_t layers = 0;
  for (std::size_t l = 0; l < model.layers(); ++l)
    for (const calibrated_operand& o : plan.operands)
      if (o.name.starts_with(model.description().layers[l].prefix)) {
        layers = l + 1;
        break;
      }
  double all = 0, done = 0;
  for (std::size_t l = 0; l < layers; ++l) all += model.flops(l, rows);
  detail::operand_watch watch{plan, options.histograms, out};
  for (std::size_t l = 0; l < layers; ++l) {
    if (status s = model.run_layer(l, hidden, rows, watch); !s) return std::move(s).error();
    if (status s = watch.ok(); !s) return std::move(s).error();
    done += model.flops(l, rows);
    if (options.on_progress) options.on_progress({l + 1, layers, all > 0 ? done / all : 1});
  }
  errors missing = watch.finish(options.few_tokens);
  if (!missing.empty()) return std::move(missing.front());
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

QLIB_INLINE std::uint64_t forecast_calibration_memory(const decoder& model, const quantization_plan&,
                                                      std::span<const std::vector<std::int32_t>> samples) {
  std::size_t tokens = 0, longest = 0;
  for (const auto& s : samples) {
    tokens += s.size();
    longest = std::max(longest, s.size());
  }
  std::uint64_t layer = 0;
  for (std::size_t l = 0; l < model.layers(); ++l) layer = std::max(layer, model.peak_bytes(l, tokens, longest));
  return layer + std::uint64_t{tokens} * model.description().hidden_size * sizeof(float);
}

}  // namespace qlib::inline v0
