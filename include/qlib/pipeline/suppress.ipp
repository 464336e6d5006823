#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/model/linear_group.hpp>
#include <qlib/pipeline/suppress.hpp>
#include <qlib/recipe/policy_options.hpp>
#include <qlib/suppressor/output_error.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace qlib::inline v0 {

/// The f32 weights of a sub-graph's readers.
struct suppression_pass::weights {
  std::vector<buffer> memory;
  std::vector<matrix_view<const float>> views;
  std::vector<float> absmax;  ///< [in_features], over all readers
};

namespace detail {

inline registry::suppressors::any suppressor_of(const planned_suppression& p) {
  return *make_policy<registry::suppressors>(p.suppressor, {}, "outlier suppressor");  // the plan has checked it
}

inline channel_map map_of(const subgraph& g) { return {g.repeats, g.repeat_width}; }

/// Whether an observer's range is the mean of its samples' extremes (minmax_options::running).
inline bool averages_samples(const policy_choice& observer) {
  const auto chosen = make_policy<registry::observers>(observer, {}, "observer");
  return chosen && std::holds_alternative<minmax_observer>(*chosen) && !std::get<minmax_observer>(*chosen).running();
}

/// Of dtypes that weights are stored in, a little inside for the rounding of what is divided or multiplied.
inline float largest_stored(dtype type) { return (type == dtype::f16 ? 65504.0f : type == dtype::bf16 ? 0x1.fep127f : 0x1.fffffep127f) * 0.999f; }
inline float smallest_stored(dtype type) { return type == dtype::f16 ? 0x1p-24f : 0x1p-126f; }

/// Where the outputs of a value projection are an operand of attention.
inline std::string value_operand(const subgraph& g) { return g.source.substr(0, g.source.rfind('.')) + ".value"; }

}  // namespace detail

QLIB_INLINE suppression_pass::suppression_pass(const quantization_plan& plan, const parameter_source& source, std::size_t tokens,
                                               const gemm& products, const suppress_options& options, model_folds& folds,
                                               std::vector<suppression_report>& reports)
    : plan_{plan}, source_{source, folds}, tokens_{tokens}, products_{products}, options_{options}, folds_{folds}, reports_{reports} {
  for (const planned_suppression& p : plan.suppressions) {
    if (p.graph.kind == subgraph_kind::query_key) continue;
    const needs wanted = std::visit([](const auto& s) { return s.needs; }, detail::suppressor_of(p));
    needs& all = watched_.try_emplace(p.graph.targets.front(), needs::nothing).first->second;
    all = all | wanted;
    if (!options.as_peers) all = all | needs::inputs;
  }
  for (std::size_t i = 0; i < plan.items.size(); ++i)
    if (plan.items[i].encoding) items_.emplace(plan.items[i].name, i);
}

QLIB_INLINE bool suppression_pass::has(std::size_t layer) const {
  return std::any_of(plan_.suppressions.begin(), plan_.suppressions.end(), [&](const auto& p) { return p.layer == layer; });
}

QLIB_INLINE void suppression_pass::observe(const linear_input& in, std::size_t i) {
  const auto at = watched_.find(in.modules[i]);
  if (at == watched_.end()) return;
  const std::size_t step = std::max<std::size_t>(1, tokens_ / std::max<std::size_t>(1, options_.search_tokens));
  auto& stats = statistics_.try_emplace(at->first, in.x.cols(), at->second, options_.search_tokens, step).first->second;
  const native_backend backend;
  for (std::size_t s = 0; s + 1 < in.rows_of_sample.size(); ++s)
    stats.observe(backend, in.x.strip(in.rows_of_sample[s], in.rows_of_sample[s + 1] - in.rows_of_sample[s]));
}

QLIB_INLINE void suppression_pass::observe_keys(std::size_t layer, matrix_view<const float> keys) {
  const bool asked = std::any_of(plan_.suppressions.begin(), plan_.suppressions.end(),
                                 [&](const auto& p) { return p.layer == layer && p.graph.kind == subgraph_kind::query_key; });
  if (!asked) return;
  keys_.resize(keys.cols(), 0.0f);
  native_backend{}.column_absmax(keys, std::span{keys_});
}

/// Scales are rounded to powers of two, so that gains and biases of 16 bits hold both sides exactly.
QLIB_INLINE status suppression_pass::solve_keys(const planned_suppression& p, suppression_report& report) {
  const subgraph& g = p.graph;
  if (keys_.empty()) return {};
  const std::size_t n = g.channels.channels();
  std::vector<float> largest(n, 0.0f);  // over pairs, and over heads that share a gain
  for (std::size_t c = 0; c < keys_.size(); ++c) {
    const std::size_t head = c / g.head_dim, at = c % g.head_dim, partner = g.partner_of(at);
    for (const std::size_t k : {at, partner}) {
      float& to = largest[(head * g.head_dim + k) % n];
      to = std::max(to, keys_[c]);
    }
  }
  const smoothing_group group;
  transform t = std::visit([&](const auto& policy) { return policy.solve(group, {.column_absmax = largest}); }, detail::suppressor_of(p));
  if (t.scale.size() != n) return {};
  for (std::size_t c = 0; c < n; ++c) {
    report.dead += largest[c] == 0;
    if (!std::isfinite(t.scale[c]) || !(t.scale[c] > 0) || largest[c] == 0) t.scale[c] = 1.0f;
    if (!options_.as_peers) t.scale[c] = std::exp2(std::nearbyint(std::log2(t.scale[c])));
  }
  const auto scale_of_query = [&](std::size_t k) { return 1.0f / t.scale[(g.repeats == 1 ? k : g.channel_of_column(k)) % n]; };
  const auto divide = [&](const std::string& module, const row_runs& runs, auto&& divisor) -> status {
    if (!g.norms) {
      scaling rows;
      rows.rows.assign((*source_.shape(module + ".weight"))[0], 1.0f);
      for (std::size_t k = 0; k < runs.channels(); ++k) rows.rows[runs.row(k)] = divisor(k);
      folds_.matrices[module].push_back(std::move(rows));
    }
    const std::string name = module + (g.norms ? ".weight" : ".bias");
    if (!source_.contains(name)) return {};
    const float plus = g.norms && g.one_plus ? 1.0f : 0.0f;
    std::vector<float> values;
    if (status s = read_constants(source_, name, plus, values); !s) return s;
    for (std::size_t k = 0; k < runs.channels(); ++k) values[runs.row(k)] = values[runs.row(k)] / divisor(k);
    for (float& v : values) v -= plus;
    folds_.vectors[name] = std::move(values);
    return {};
  };
  if (status s = divide(g.source, g.channels, [&](std::size_t k) { return t.scale[k]; }); !s) return s;
  if (status s = divide(g.targets.front(), g.target_rows, scale_of_query); !s) return s;

  const std::string attention = g.source.substr(0, g.source.rfind('.'));
  transform of_keys, of_queries;
  for (std::size_t c = 0; c < keys_.size(); ++c) of_keys.scale.push_back(t.scale[c % n]);
  changes_[attention + ".key"].push_back(std::move(of_keys));
  for (const calibrated_operand& o : plan_.operands)
    if (o.name == attention + ".query") {
      // Query head h reads key head h / (heads / key heads).
      const channel_map map{o.channels / keys_.size(), g.head_dim};
      for (std::size_t c = 0; c < o.channels; ++c) of_queries.scale.push_back(1.0f / t.scale[map.channel_of(c) % n]);
      changes_[o.name].push_back(std::move(of_queries));
      break;
    }
  const auto [low, high] = std::minmax_element(t.scale.begin(), t.scale.end());
  report.smallest = *low;
  report.largest = *high;
  report.kept = true;
  return {};
}

QLIB_INLINE std::span<const transform> suppression_pass::changes(std::string_view operand) const {
  const auto at = changes_.find(operand);
  return at == changes_.end() ? std::span<const transform>{} : std::span<const transform>{at->second};
}

QLIB_INLINE status suppression_pass::load(const subgraph& g, weights& out) const {
  std::uint64_t held = 0;
  for (const std::string& module : g.targets) {
    auto w = source_.linear(module);
    if (!w) return std::move(w).error();
    buffer memory{w->rows() * w->cols() * sizeof(float)};
    if (memory.data() == nullptr) return error{.kind = error_kind::run_failed, .subject = module, .problem = "out of memory", .remedy = {}};
    const matrix_view<float> copy{reinterpret_cast<float*>(memory.data()), w->rows(), w->cols()};
    out.absmax.resize(w->cols(), 0.0f);
    const native_backend backend;
    std::visit([&](auto v) { backend.to_float(v, copy); }, w->weight());
    backend.column_absmax(matrix_view<const float>{copy}, std::span{out.absmax});
    for (std::size_t c = 0; c < out.absmax.size(); ++c)
      if (std::isnan(out.absmax[c]))
        return error{.where = source_.where(),
                     .subject = module + ".weight",
                     .problem = "column " + std::to_string(c) + " holds a NaN or an infinity",
                     .remedy = "the checkpoint is damaged or was trained to overflow; a weight must be finite"};
    const std::uint64_t bytes = std::uint64_t{copy.size()} * sizeof(float);
    if (!out.views.empty() && held + bytes > options_.weight_bytes) continue;
    if (!items_.contains(module) && g.targets.size() > 1) continue;  // a router: its outputs are not what quantization changes
    held += bytes;
    out.views.push_back(copy);
    out.memory.push_back(std::move(memory));
  }
  return {};
}

/// Dead and constant channels, and scales that are not finite: 1.
QLIB_INLINE void suppression_pass::limit(const planned_suppression& p, transform& t, const channel_statistics::divided& x,
                                         suppression_report& report) const {
  if (t.scale.empty()) return;
  const channel_map map = detail::map_of(p.graph);
  const std::vector<float> low = map.smallest(x.low), high = map.largest(x.high);
  for (std::size_t c = 0; c < t.scale.size(); ++c) {
    const bool dead = low[c] == high[c];
    report.dead += dead;
    if (dead || !std::isfinite(t.scale[c]) || !(t.scale[c] > 0)) t.scale[c] = 1.0f;
  }
}

/// Scales are clamped so that what is stored divided by them (gains, rows and biases of the source) or multiplied (columns of the readers) stays
/// finite in its dtype, and no gain vanishes.
QLIB_INLINE status suppression_pass::keep_in_storage(const planned_suppression& p, std::span<const float> reader_absmax, transform& t,
                                                     suppression_report& report) const {
  if (t.scale.empty()) return {};
  const subgraph& g = p.graph;
  std::vector<float> least(t.scale.size(), 0.0f), most(t.scale.size(), std::numeric_limits<float>::max());
  const auto divided = [&](std::size_t c, float value, dtype type) {
    least[c] = std::max(least[c], std::fabs(value) / detail::largest_stored(type));
  };
  const auto type_of = [&](const std::string& name) { return source_.type(name).value_or(dtype::f32); };
  const auto constants = [&](const std::string& name, float plus, bool may_vanish) -> status {
    if (!source_.contains(name)) return {};
    std::vector<float> values;
    if (status s = read_constants(source_, name, plus, values); !s) return s;
    for (std::size_t c = 0; c < t.scale.size(); ++c) {
      const float value = values[g.kind == subgraph_kind::norm_linear ? c : g.channels.row(c)];
      divided(c, value, type_of(name));
      if (value != 0 && !may_vanish) most[c] = std::min(most[c], std::fabs(value) / detail::smallest_stored(type_of(name)));
    }
    return {};
  };
  if (status s = constants(g.source + ".bias", 0, true); !s) return s;
  if (g.kind == subgraph_kind::norm_linear) {
    if (status s = constants(g.source + ".weight", g.one_plus ? 1.0f : 0.0f, false); !s) return s;
  } else {
    const auto w = source_.linear(g.source);
    if (!w) return w.error();
    std::vector<range> rows(w->rows(), range::empty());
    std::visit([&](auto v) { native_backend{}.ranges(v, tile::per_channel(), std::span{rows}); }, w->weight());
    for (std::size_t c = 0; c < t.scale.size(); ++c) {
      const range& row = rows[g.channels.row(c)];
      if (row.defined()) divided(c, std::max(-row.min, row.max), type_of(g.source + ".weight"));
    }
  }
  float reader = detail::largest_stored(dtype::f32);
  for (const std::string& module : g.targets) reader = std::min(reader, detail::largest_stored(type_of(module + ".weight")));
  const std::vector<float> columns = detail::map_of(g).largest(reader_absmax);
  for (std::size_t c = 0; c < t.scale.size(); ++c) {
    if (columns[c] > 0) most[c] = std::min(most[c], reader / columns[c]);
    const float kept = least[c] <= most[c] ? std::clamp(t.scale[c], least[c], most[c]) : 1.0f;
    if (kept == t.scale[c]) continue;
    t.scale[c] = kept;
    if (report.limited++ < 8) report.limited_channels.push_back(c);
  }
  return {};
}

/// The stored gain, or bias, decides the scale: gain / stored gain, so that rounding it to its dtype changes nothing that the model computes.
QLIB_INLINE status suppression_pass::round_to_source(const planned_suppression& p, transform& t) {
  if (t.identity()) return {};
  if (p.graph.kind != subgraph_kind::norm_linear) {
    const std::string name = p.graph.source + ".bias";
    if (options_.as_peers || !source_.contains(name)) return {};
    std::vector<float> bias;
    if (status s = read_constants(source_, name, 0, bias); !s) return s;
    const dtype type = source_.type(name).value_or(dtype::f32);
    for (std::size_t c = 0; c < t.scale.size(); ++c) {
      const float before = bias[p.graph.channels.row(c)], after = round_to(type, before / t.scale[c]), scale = before / after;
      if (before != 0.0f && after != 0.0f && std::isfinite(after) && std::isfinite(scale)) t.scale[c] = scale;
    }
    return {};
  }
  const std::size_t n = p.graph.channels.channels();
  const std::string name = p.graph.source + ".weight";
  const dtype type = source_.type(name).value_or(dtype::f32);
  const float plus = p.graph.one_plus ? 1.0f : 0.0f;
  std::vector<float> gain, bias(t.shift.empty() ? 0 : n, 0.0f);
  if (status s = read_constants(source_, name, 0, gain); !s) return s;
  if (!t.shift.empty() && source_.contains(p.graph.source + ".bias"))
    if (status s = read_constants(source_, p.graph.source + ".bias", 0, bias); !s) return s;
  if (t.scale.empty()) t.scale.assign(n, 1.0f);
  for (std::size_t c = 0; c < n; ++c) {
    const float before = gain[c] + plus;
    const float stored = round_to(type, before / t.scale[c] - plus), after = stored + plus;
    const bool holds = before == 0.0f || (std::isfinite(after) && after != 0.0f && std::isfinite(before / after));
    if (!holds) {
      t.scale[c] = 1.0f;
      continue;
    }
    if (before != 0.0f && !options_.as_peers) t.scale[c] = before / after;
    gain[c] = stored;
  }
  for (std::size_t c = 0; c < bias.size(); ++c) {
    const float stored = round_to(type, (bias[c] - t.shift[c]) / t.scale[c]);
    if (!options_.as_peers) t.shift[c] = bias[c] - stored * t.scale[c];
    bias[c] = stored;
  }
  folds_.vectors[name] = std::move(gain);
  if (!bias.empty()) folds_.vectors[p.graph.source + ".bias"] = std::move(bias);
  return {};
}

QLIB_INLINE status suppression_pass::apply(const planned_suppression& p, const transform& t) {
  const subgraph& g = p.graph;
  const channel_map map = detail::map_of(g);
  if (g.kind == subgraph_kind::norm_linear) {
    // Biases of the norm that are there already are divided with it; a shift has made its own.
    if (t.shift.empty() && source_.contains(g.source + ".bias")) {
      std::vector<float> bias;
      if (status s = read_constants(source_, g.source + ".bias", 0, bias); !s) return s;
      for (std::size_t c = 0; c < bias.size(); ++c) bias[c] /= t.scale[c];
      folds_.vectors[g.source + ".bias"] = std::move(bias);
    }
  } else {
    const auto shape = source_.shape(g.source + ".weight");
    scaling rows;
    rows.rows.assign((*shape)[0], 1.0f);
    for (std::size_t c = 0; c < t.scale.size(); ++c) rows.rows[g.channels.row(c)] = t.scale[c];
    const std::string name = g.source + ".bias";
    if (source_.contains(name)) {
      std::vector<float> bias;
      if (status s = read_constants(source_, name, 0, bias); !s) return s;
      const dtype type = source_.type(name).value_or(dtype::f32);
      for (std::size_t r = 0; r < bias.size(); ++r) bias[r] = round_to(type, bias[r] / rows.rows[r]);
      folds_.vectors[name] = std::move(bias);
    }
    folds_.matrices[g.source].push_back(std::move(rows));
    if (g.kind == subgraph_kind::ov && !g.latent) changes_[detail::value_operand(g)].push_back(t);
  }
  if (g.kind == subgraph_kind::norm_linear && g.latent) change_latent(g.targets.front(), t);
  const std::vector<float> scale = map.expand(t.scale), shift = map.expand(t.shift);
  for (const std::string& module : g.targets) {
    if (!shift.empty()) {
      auto w = source_.linear(module);
      if (!w) return std::move(w).error();
      // Rounded where it is stored: what kernels add to their sums is made of this.
      std::vector<float> bias = w->bias.empty() ? std::vector<float>(w->rows(), 0.0f) : w->bias;
      std::visit([&](auto view) { fold_shift(shift, view, std::span{bias}); }, w->weight());
      folds_.vectors[module + ".bias"] = std::move(bias);
    }
    folds_.matrices[module].push_back(scaling{scale, {}});
    changes_[module].push_back({scale, shift});
  }
  return {};
}

/// The norm's output is cached; the columns of kv_b_proj that absorbed queries are made of are multiplied instead.
QLIB_INLINE void suppression_pass::change_latent(const std::string& module, const transform& t) {
  const std::string attention = module.substr(0, module.rfind('.'));
  changes_[attention + ".key"].push_back(t);
  changes_[attention + ".value"].push_back(t);
  for (const calibrated_operand& o : plan_.operands)
    if (o.name == attention + ".query" && !t.scale.empty()) {
      transform of_queries;
      for (std::size_t c = 0; c < o.channels; ++c) of_queries.scale.push_back(1.0f / t.scale[c % t.scale.size()]);
      changes_[o.name].push_back(std::move(of_queries));
    }
}

QLIB_INLINE status suppression_pass::solve(std::size_t layer) {
  for (const planned_suppression& p : plan_.suppressions) {
    if (p.layer != layer) continue;
    suppression_report report{.source = p.graph.source, .kind = std::string{name_of(p.graph.kind)}, .suppressor = p.suppressor.name};
    if (p.graph.kind == subgraph_kind::query_key) {
      if (status s = solve_keys(p, report); !s) return s;
      reports_.push_back(std::move(report));
      continue;
    }
    const auto seen = statistics_.find(p.graph.targets.front());
    if (seen == statistics_.end() || seen->second.tokens() < 2) {  // one token has no ranges: every channel would be constant
      report.unseen = true;
      reports_.push_back(std::move(report));
      continue;
    }
    const channel_statistics::divided x = seen->second.after(folds_.column_scale(p.graph.targets.front()));
    weights w;
    if (status s = load(p.graph, w); !s) return s;
    smoothing_group group{
        .weights = w.views, .all_absmax = w.absmax, .channels = detail::map_of(p.graph), .may_shift = p.shift, .products = &products_};
    for (const std::string& module : p.graph.targets)
      if (const auto at = items_.find(module); at != items_.end()) {
        group.weight_spec = plan_.items[at->second].encoding->spec;
        group.input_spec = plan_.items[at->second].input;
        if (const auto operand = plan_.items[at->second].operand) group.mean_ranges = detail::averages_samples(plan_.operands[*operand].observer);
        break;
      }
    transform t = std::visit([&](const auto& policy) { return policy.solve(group, x.view); }, detail::suppressor_of(p));
    limit(p, t, x, report);
    if (status s = keep_in_storage(p, w.absmax, t, report); !s) return s;
    report.kept = !t.identity();
    if (report.kept && !options_.as_peers) {
      output_error error{group, x.view};
      report.error_before = error.of({});
      report.error_after = error.of(t);
      report.kept = report.error_after <= report.error_before;
    }
    if (report.kept) {
      if (status s = round_to_source(p, t); !s) return s;
      const auto [low, high] = std::minmax_element(t.scale.begin(), t.scale.end());
      report.smallest = *low;
      report.largest = *high;
      if (status s = apply(p, t); !s) return s;
    }
    if (!p.clipped.empty()) {
      w = {};
      if (status s = clip(p, seen->second, report); !s) return s;
    }
    reports_.push_back(std::move(report));
  }
  statistics_.clear();
  keys_.clear();
  return {};
}

}  // namespace qlib::inline v0
