#pragma once
#include <qlib/core/buffer.hpp>
#include <qlib/format/fused_groups.hpp>
#include <qlib/pipeline/calibrate.hpp>
#include <qlib/pipeline/operand_watch.ipp>
#include <qlib/pipeline/pass_keeper.ipp>
#include <qlib/pipeline/rotate.hpp>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

namespace qlib::inline v0 {

namespace detail {

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
  std::size_t left = 0, unseen = 0;
  for (const suppression_report& r : reports) {
    left += !r.kept && r.error_after > r.error_before;
    unseen += r.unseen;
    if (r.dead > 0) to.push_back(r.source + ": " + std::to_string(r.dead) + " channels never change over the calibration data: their scale is 1");
    if (r.limited > 0) {
      std::string channels;
      for (const std::size_t c : r.limited_channels) channels += (channels.empty() ? "" : ", ") + std::to_string(c);
      to.push_back(r.source + ": " + std::to_string(r.limited) + " scales are clamped, what is stored would have left its dtype: channel " +
                   channels + (r.limited > r.limited_channels.size() ? ", ..." : ""));
    }
  }
  if (unseen > 0)
    to.push_back(std::to_string(unseen) + " of " + std::to_string(reports.size()) +
                 " sub-graphs are not rescaled: fewer than two tokens of the calibration data came to them");
  if (left > 0)
    to.push_back(std::to_string(left) + " of " + std::to_string(reports.size()) +
                 " sub-graphs are not rescaled: it would have made their outputs worse");
}

/// The residual stream of some samples.
struct residual_rows {
  std::vector<std::size_t> rows;  ///< first row of each sample, and their number
  buffer memory{0};
  matrix_view<float> hidden{};

  status allocate(const decoder& model, std::span<const std::vector<std::int32_t>> samples);
  status embed(const decoder& model, std::span<const std::vector<std::int32_t>> samples);
  std::span<float> values() const { return {hidden.data(), hidden.size()}; }
};

inline std::vector<std::size_t> rows_of(std::span<const std::vector<std::int32_t>> samples) {
  std::vector<std::size_t> rows{0};
  for (const auto& s : samples) rows.push_back(rows.back() + s.size());
  return rows;
}

QLIB_INLINE status residual_rows::allocate(const decoder& model, std::span<const std::vector<std::int32_t>> samples) {
  rows = rows_of(samples);
  if (rows.back() == 0)
    return error{.where = "calibration data", .problem = "holds no token", .remedy = "give samples with --calib_file or --calib_ids"};
  const std::size_t width = model.description().hidden_size;
  memory = buffer{rows.back() * width * sizeof(float)};
  if (memory.data() == nullptr) return error{.kind = error_kind::run_failed, .subject = "calibration", .problem = "out of memory", .remedy = {}};
  hidden = {reinterpret_cast<float*>(memory.data()), rows.back(), width};
  return {};
}

QLIB_INLINE status residual_rows::embed(const decoder& model, std::span<const std::vector<std::int32_t>> samples) {
  for (std::size_t s = 0; s < samples.size(); ++s)
    if (status st = model.embed(samples[s], hidden.strip(rows[s], samples[s].size())); !st) return st;
  return {};
}

/// What each decoder layer is run for.
struct layer_roles {
  std::vector<char> rescaled, watched;  ///< by a suppressor; for an operand
  std::size_t rescaled_layers = 0;      ///< up to the last one that is rescaled
  std::size_t layers = 0;               ///< up to the last one with a role: those behind it need not run

  layer_roles(const decoder& model, const quantization_plan& plan) : rescaled(model.layers()), watched(model.layers()) {
    for (const planned_suppression& p : plan.suppressions) rescaled[p.layer] = 1;
    for (std::size_t l = 0; l < model.layers(); ++l) {
      const std::string& prefix = model.description().layers[l].prefix;
      watched[l] = std::any_of(plan.operands.begin(), plan.operands.end(), [&](const auto& o) { return o.name.starts_with(prefix); });
      if (rescaled[l]) rescaled_layers = l + 1;
      if (rescaled[l] || watched[l]) layers = l + 1;
    }
  }
};

}  // namespace detail

QLIB_INLINE result<calibration> calibrate(const decoder& stored, const quantization_plan& plan, std::span<const std::vector<std::int32_t>> samples,
                                          const calibrate_options& options) {
  model_folds rotated;
  if (plan.rotation)
    if (status s = rotate(*plan.rotation, stored.source(), rotated); !s) return std::move(s).error();
  const folded_parameters parameters{stored.source(), rotated};
  const decoder model = plan.rotation ? stored.with(parameters) : stored;
  detail::residual_rows stream, others;
  if (status s = stream.allocate(model, samples); !s) return std::move(s).error();
  const bool apart = !plan.suppressions.empty() && !options.suppress_samples.empty();
  if (apart)
    if (status s = others.allocate(model, options.suppress_samples); !s) return std::move(s).error();
  const auto& [rows, memory, hidden] = stream;
  calibration out;
  detail::pass_keeper keeper{options.keep};
  pass_between_layers pass{.found = &out, .hidden = stream.values(), .hidden_of_suppression = others.values()};
  const auto resumed = keeper.resume(pass);
  if (!resumed) return resumed.error();
  const std::size_t first = pass.layers;
  if (!*resumed) {
    out.operands.resize(plan.operands.size());
    if (status s = stream.embed(model, samples); !s) return std::move(s).error();
    if (apart)
      if (status s = others.embed(model, options.suppress_samples); !s) return std::move(s).error();
  }
  out.samples = samples.size();
  out.tokens = rows.back();
  out.products = model.gemm_name();

  suppression_pass suppression{plan,      model.source(),  (apart ? others : stream).rows.back(), model.products(), options.suppress,
                               out.folds, out.suppressions};

  const detail::layer_roles roles{model, plan};
  const std::size_t layers = roles.layers;
  double all = 0, done = 0;
  for (std::size_t l = 0; l < layers; ++l) {
    all += model.flops(l, rows);
    if (l < first) done += model.flops(l, rows);
  }
  const double before = all > 0 ? done / all : 0;
  detail::operand_watch watch{plan, options.histograms, options.range_scores, out};
  detail::suppression_watch only{suppression};
  for (std::size_t l = first; l < layers; ++l) {
    const bool rescaled = roles.rescaled[l] != 0, one_pass = !rescaled || (!apart && watch.extremes_suffice(model.description().layers[l].prefix));
    watch.beside(rescaled && one_pass ? &suppression : nullptr);
    watch.before(rescaled ? &suppression : nullptr, one_pass);
    if (apart && l < roles.rescaled_layers) {
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
    if (l + 1 < layers) {
      pass.layers = l + 1;
      if (status s = keeper.layer_done(pass); !s) out.warnings.push_back(s.error().text());
    }
    if (options.on_progress) options.on_progress({l + 1, layers, all > 0 ? done / all : 1, before});
  }
  errors missing = watch.finish(options.few_tokens);
  if (!missing.empty()) return std::move(missing.front());
  detail::warn_of(out.suppressions, out.warnings);
  rotated.append(std::move(out.folds));
  out.folds = std::move(rotated);
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
  std::vector<std::string> sorted;
  for (const work_item& item : plan.items) {
    if (item.encoding) sorted.push_back(item.name);
    if (item.encoding && item.operand) order.push_back(*item.operand);
  }
  std::sort(sorted.begin(), sorted.end());
  const std::vector<fused_group> groups = fused_groups(sorted);
  std::map<std::string_view, const fused_group*> group_of;
  for (const fused_group& g : groups)
    for (const std::string& m : g.members) group_of[m] = &g;
  const auto score = [&](std::size_t operand) { return found.operands[operand].range_score; };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return score(a) > score(b); });
  std::vector<std::string> names;
  std::set<std::string_view> taken;
  const auto take = [&](const std::string& name) {
    if (taken.insert(name).second) names.push_back(name);
  };
  for (std::size_t i = 0, sets = 0; i < order.size(); ++i) {
    const std::string& name = plan.operands[order[i]].name;
    if (taken.contains(name)) continue;
    if (sets++ == count) break;
    for (std::size_t same = i; same < order.size() && score(order[same]) == score(order[i]); ++same) {
      const std::string& tied = plan.operands[order[same]].name;
      take(tied);
      if (const auto g = group_of.find(tied); g != group_of.end())
        for (const std::string& m : g->second->members) take(m);
    }
  }
  return names;
}

QLIB_INLINE std::size_t most_range_groups(const quantization_plan& plan) {
  std::vector<std::string> ranked;
  for (const work_item& item : plan.items)
    if (item.encoding && item.operand) ranked.push_back(item.name);
  std::sort(ranked.begin(), ranked.end());
  std::size_t groups = ranked.size();
  for (const fused_group& g : fused_groups(ranked)) groups -= g.members.size() - 1;
  return groups;
}

QLIB_INLINE calibration for_plan(const calibration& found, const quantization_plan& from, const quantization_plan& to) {
  std::map<std::string_view, std::size_t> at;
  for (std::size_t i = 0; i < from.operands.size(); ++i) at.emplace(from.operands[i].name, i);
  calibration out = found;
  out.operands.clear();
  for (const calibrated_operand& o : to.operands) out.operands.push_back(found.operands[at.at(o.name)]);
  return out;
}

}  // namespace qlib::inline v0
