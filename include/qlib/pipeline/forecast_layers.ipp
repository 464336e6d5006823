/// How long the forward passes of calibration take. Part of forecast_time.ipp.
#pragma once
#include <qlib/core/buffer.hpp>
#include <qlib/core/stopwatch.hpp>
#include <qlib/model/parameter_check.hpp>
#include <qlib/pipeline/calibrate.ipp>
#include <qlib/pipeline/forecast_time.hpp>
#include <qlib/pipeline/operand_watch.ipp>
#include <qlib/pipeline/rotate.hpp>
#include <qlib/pipeline/suppress.hpp>
#include <qlib/pipeline/synthetic_parameters.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace qlib::inline v0::detail {

/// One decoder layer alone, with weights of the right shapes, fewer tokens and, in their proportion, fewer experts.
class layer_miniature {
 public:
  struct timing {
    double first = 0;       ///< more seconds than later runs: code that is generated, memory that is touched for the first time
    double watched = 0;     ///< of a run that operands are observed in
    double settled = 0;     ///< of what follows it, whatever the tokens
    double suppressed = 0;  ///< of a run that suppressors alone see
    double flops = 0;       ///< of either, without settling
  };

  /// All must outlive it. `rotated`: by the plan's rotation.
  layer_miniature(const forecast_request& request, const model_folds& rotated, std::size_t layer, bool rescaled, bool one_pass)
      : request_{request}, rotated_{rotated}, layer_{layer}, rescaled_{rescaled}, one_pass_{one_pass} {
    const std::string& prefix = request.model->description().layers[layer].prefix;
    const quantization_plan& all = request.plan;
    plan_.follow = all.follow;
    for (const calibrated_operand& o : all.operands)
      if (o.name.starts_with(prefix)) plan_.operands.push_back(o);
    for (const planned_suppression& p : all.suppressions)
      if (p.layer == layer) {
        plan_.suppressions.push_back(p);
        plan_.suppressions.back().layer = 0;
      }
  }

  /// At most `seconds` a run, about.
  timing measure(double seconds) {
    timing out;
    double took = 0;
    if (!run(64, out, took)) return out;  // how fast are products at all?
    const double first_took = took, rate = out.flops / std::max(took, 1e-6);
    const double wanted = rate * seconds / std::max(1.0, out.flops / 64);
    std::size_t tokens = static_cast<std::size_t>(std::clamp(wanted, 64.0, static_cast<double>(request_.model->options().chunk_tokens)));
    timing cold, warm;
    double cold_took = 0, warm_took = 0;
    if (!run(tokens, cold, cold_took)) return out;
    // Small products are generated code in the first run: it was slow for that.
    if (const double more = cold.flops / std::max(cold_took, 1e-6); more > 2 * rate && tokens < request_.model->options().chunk_tokens)
      tokens = static_cast<std::size_t>(
          std::clamp(static_cast<double>(tokens) * std::min(8.0, more / rate), 64.0, static_cast<double>(request_.model->options().chunk_tokens)));
    if (!run(tokens, cold, cold_took) || !run(tokens, warm, warm_took)) return out;
    warm.first = std::max(0.0, first_took - warm_took * 64 / static_cast<double>(tokens));
    return warm;
  }

 private:
  /// Runs the layer as calibration will.
  bool run(std::size_t tokens, timing& out, double& took) {
    const std::vector<std::vector<std::int32_t>> samples = some_samples(tokens);
    const std::vector<std::size_t> rows = rows_of(samples);
    std::size_t all = 0;
    for (const auto& s : request_.samples) all += s.size();

    model_description description = request_.model->description();
    description.layers = {description.layers[layer_]};
    description.positions.clear();
    router_description& routing = description.experts.routing;
    if (description.layers[0].experts) {  // each expert sees as many tokens as it will
      const std::size_t groups = std::max<std::size_t>(1, routing.groups), full = routing.experts;
      const auto share = static_cast<std::size_t>(std::ceil(static_cast<double>(full) * static_cast<double>(rows.back()) / static_cast<double>(all)));
      const std::size_t least = std::max(routing.top_k, 2 * groups);
      routing.experts = std::min(full, (std::max(share, least) + groups - 1) / groups * groups);
    }
    const std::string& prefix = description.layers[0].prefix;
    const synthetic_parameters weights{request_.parameters, description.layers[0].experts ? prefix + description.experts.router : "",
                                       prefix + description.experts.correction_bias, routing.experts};
    const folded_parameters folded{weights, rotated_};
    const decoder model = request_.model->with(description, rotated_.empty() ? static_cast<const parameter_source&>(weights) : folded);

    const buffer memory{rows.back() * description.hidden_size * sizeof(float)};
    if (!memory.data()) return false;
    const matrix_view<float> hidden{reinterpret_cast<float*>(memory.data()), rows.back(), description.hidden_size};
    const auto fill = [&] { fill_like_activations(std::span{hidden.data(), hidden.size()}); };
    calibration found;
    found.operands.resize(plan_.operands.size());
    suppression_pass suppression{plan_, model.source(), rows.back(), model.products(), request_.calibrate.suppress, found.folds, found.suppressions};
    operand_watch watch{plan_, request_.calibrate.histograms, request_.calibrate.range_scores, found};
    suppression_watch only{suppression};
    const auto timed = [&](const auto& work) {
      const stopwatch start;
      const bool good = work();
      return good ? start.seconds() : -1;
    };
    watch.beside(rescaled_ && one_pass_ ? &suppression : nullptr);
    watch.before(rescaled_ ? &suppression : nullptr, one_pass_);
    fill();
    out.watched = timed([&] { return static_cast<bool>(model.run_layer(0, hidden, rows, watch)); });
    if (out.watched < 0) return false;
    out.settled = timed([&] { return static_cast<bool>(watch.settle_layer()); });
    took = out.watched;
    if (rescaled_ && !one_pass_) {
      fill();
      out.suppressed = timed([&] { return static_cast<bool>(model.run_layer(0, hidden, rows, only)); });
    }
    out.flops = request_.model->flops(layer_, rows);
    return true;
  }

  /// Whole samples, or a part of one.
  std::vector<std::vector<std::int32_t>> some_samples(std::size_t tokens) const {
    std::vector<std::vector<std::int32_t>> out;
    for (std::size_t i = 0, room = tokens; i < request_.samples.size() && room > 0; ++i) {
      std::vector<std::int32_t> s = request_.samples[i];
      if (s.empty()) continue;
      if (s.size() > room) {
        if (!out.empty()) break;
        s.resize(room);
      }
      room -= s.size();
      out.push_back(std::move(s));
    }
    return out;
  }

  const forecast_request& request_;
  const model_folds& rotated_;
  std::size_t layer_;
  bool rescaled_, one_pass_;
  quantization_plan plan_;
};

class layers_forecast {
 public:
  layers_forecast(const forecast_request& request, const read_speed& source) : request_{request}, source_{source} {}

  double seconds() {
    const decoder& model = *request_.model;
    const std::vector<std::size_t> rows = rows_of(request_.samples), others = rows_of(request_.calibrate.suppress_samples);
    const bool apart = !request_.plan.suppressions.empty() && others.back() > 0;
    calibration unused;
    unused.operands.resize(request_.plan.operands.size());
    const operand_watch watch{request_.plan, request_.calibrate.histograms, request_.calibrate.range_scores, unused};
    const layer_roles roles{model, request_.plan};
    model_folds rotated;
    if (request_.plan.rotation && !rotate(*request_.plan.rotation, request_.parameters, rotated)) return 0;
    double sum = 0;
    std::vector<std::pair<layer_kind, layer_miniature::timing>> known;
    for (std::size_t l = 0; l < roles.layers; ++l) {
      const layer_sizes sizes = sizes_of_layer(model.description(), l, model.source());
      const layer_description& about = model.description().layers[l];
      const bool one_pass = !roles.rescaled[l] || (!apart && watch.extremes_suffice(about.prefix));
      const layer_kind kind{about.delta_net,       about.experts, roles.rescaled[l] != 0,
                            roles.watched[l] != 0, one_pass,      sizes.dense_weights,
                            sizes.expert_weights,  about.window,  about.chunk};
      auto at = std::find_if(known.begin(), known.end(), [&](const auto& k) { return k.first == kind; });
      if (at == known.end()) {
        if (known.size() < most_kinds) {
          at = known.emplace(
              known.end(), kind,
              layer_miniature{request_, rotated, l, kind.rescaled, one_pass}.measure(budget / (1.0 + static_cast<double>(known.size()))));
          sum += at->second.first;
        } else {
          at = known.end() - 1;  // one more kind of many: by its operations
        }
      }
      const layer_miniature::timing& t = at->second;
      if (t.flops <= 0) continue;
      const double whole = model.flops(l, rows) / t.flops, aside = apart ? model.flops(l, others) / t.flops : whole;
      const bool second = (apart && l < roles.rescaled_layers) || (!one_pass && !apart);
      sum += t.watched * whole + t.settled + (second ? (t.suppressed > 0 ? t.suppressed : t.watched) * aside : 0);
      const double bytes = static_cast<double>(layer_bytes(l));
      sum += bytes * source_.cached_seconds * (second ? 2 : 1);
    }
    return sum;
  }

 private:
  static constexpr std::size_t most_kinds = 4;
  static constexpr double budget = 0.15;  // seconds a run of a miniature

  struct layer_kind {
    bool delta_net, experts, rescaled, watched, one_pass;
    std::uint64_t dense, routed;
    std::size_t window, chunk;
    friend bool operator==(const layer_kind&, const layer_kind&) = default;
  };

  std::uint64_t layer_bytes(std::size_t layer) const {
    std::uint64_t bytes = 0;
    for (const required_tensor& t : required_tensors(request_.model->description(), layer, request_.parameters))
      if (const auto shape = request_.parameters.shape(t.name); shape && shape->size() == 2)
        bytes += (*shape)[0] * (*shape)[1] * (request_.parameters.type(t.name) == dtype::f32 ? 4 : 2);
    return bytes;
  }

  const forecast_request& request_;
  const read_speed& source_;
};

}  // namespace qlib::inline v0::detail
