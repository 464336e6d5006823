/// How long solving for outlier suppression takes. Part of forecast_time.ipp.
#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/buffer.hpp>
#include <qlib/core/stopwatch.hpp>
#include <qlib/observer/channel_statistics.hpp>
#include <qlib/pipeline/forecast_time.hpp>
#include <qlib/pipeline/suppress.ipp>
#include <qlib/pipeline/synthetic_parameters.hpp>
#include <qlib/suppressor/output_error.hpp>
#include <qlib/suppressor/search_cost.hpp>
#include <qlib/suppressor/weight_clip.hpp>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qlib::inline v0::detail {

class search_forecast {
 public:
  explicit search_forecast(const forecast_request& request) : request_{request} {
    for (std::size_t i = 0; i < request.plan.items.size(); ++i)
      if (request.plan.items[i].encoding) items_.emplace(request.plan.items[i].name, i);
    std::size_t tokens = 0;
    for (const auto& s : request.calibrate.suppress_samples.empty() ? request.samples : request.calibrate.suppress_samples) tokens += s.size();
    tokens_ = std::min(tokens, request.calibrate.suppress.search_tokens);
  }

  /// Of all sub-graphs. Equal ones are probed once.
  double seconds() {
    double sum = 0;
    std::vector<std::pair<group_kind, double>> known;
    for (const planned_suppression& p : request_.plan.suppressions) {
      if (p.graph.kind == subgraph_kind::query_key) continue;
      const group_kind kind = kind_of(p);
      auto at = std::find_if(known.begin(), known.end(), [&](const auto& k) { return k.first == kind; });
      if (at == known.end()) at = known.emplace(known.end(), kind, probe(p, kind));
      sum += at->second;
    }
    return sum;
  }

 private:
  struct group_kind {
    policy_choice suppressor = {};
    std::size_t cols = 0, all_rows = 0, linears = 0;
    std::vector<std::size_t> rows = {};  ///< of the linears that the search sees
    std::optional<quant_spec> weight = {}, input = {};
    std::size_t clipped = 0;  ///< rows of weights that are clipped
    friend bool operator==(const group_kind&, const group_kind&) = default;
  };

  group_kind kind_of(const planned_suppression& p) const {
    group_kind k{.suppressor = p.suppressor};
    std::uint64_t held = 0;
    for (const std::string& module : p.graph.targets) {
      const auto shape = request_.parameters.shape(module + ".weight");
      if (!shape || shape->size() != 2) continue;
      const std::size_t rows = (*shape)[0], cols = (*shape)[1];
      const std::uint64_t bytes = std::uint64_t{rows} * cols * sizeof(float);
      const auto at = items_.find(module);
      k.cols = cols;
      if (std::find(p.clipped.begin(), p.clipped.end(), module) != p.clipped.end()) k.clipped += rows;
      k.all_rows += rows;
      ++k.linears;
      if (at != items_.end() && !k.weight) {
        k.weight = request_.plan.items[at->second].encoding->spec;
        k.input = request_.plan.items[at->second].input;
      }
      if (!k.rows.empty() && held + bytes > request_.calibrate.suppress.weight_bytes) continue;
      if (at == items_.end() && p.graph.targets.size() > 1) continue;
      held += bytes;
      k.rows.push_back(rows);
    }
    return k;
  }

  template <class Work>
  static double timed(const Work& work) {
    const stopwatch start;
    work();
    return start.seconds();
  }

  /// Some rows of one linear stand for all rows of all.
  double probe(const planned_suppression& p, const group_kind& kind) const {
    if (kind.cols == 0 || kind.rows.empty() || tokens_ == 0) return 0;
    const auto policy = suppressor_of(p);
    std::size_t all = 0;
    for (const std::size_t rows : kind.rows) all += rows;
    // Products of 10 ms or so, which all threads have a part of.
    const std::size_t most = (std::size_t{1} << 30) / (tokens_ * kind.cols), threads = std::clamp<std::size_t>(request_.threads, 1, 4);
    const std::size_t rows = std::min(all, std::clamp<std::size_t>(most / 64 * 64, 64, 512 * threads));
    std::vector<float> x(tokens_ * kind.cols), w(rows * kind.cols);
    fill_like_activations(x);
    fill_like_activations(w);
    const native_backend backend;
    channel_statistics statistics{kind.cols, needs::inputs | needs::column_mean | needs::column_absmax | needs::column_range, tokens_};
    statistics.observe(backend, matrix_view<const float>{x.data(), tokens_, kind.cols});
    const channel_statistics::divided seen = statistics.after({});
    const matrix_view<const float> weights[] = {{w.data(), rows, kind.cols}};
    smoothing_group group{.weights = weights, .weight_spec = kind.weight, .input_spec = kind.input, .products = &request_.model->products()};
    const transform t{std::vector<float>(kind.cols, 1.25f), {}};
    const double scale = static_cast<double>(all) / static_cast<double>(rows);

    // The group as it is given, or as the search sees it: seconds of preparing an error and of one error.
    const auto measure = [&](const smoothing_group& g, double share, double& prepare, double& once) {
      prepare = once = 0;
      if (g.weights.empty()) return;
      std::optional<output_error> error;
      prepare = timed([&] { error.emplace(g, seen.view); }) * scale * share;
      error->of(t);
      const double whole = timed([&] { error->of(t); });
      if (rows == all) {
        once = whole * share;
        return;
      }
      // What every error does to the inputs does not grow with the rows.
      smoothing_group row = g;
      const matrix_view<const float> one[] = {weights[0].strip(0, 1)};
      row.weights = one;
      output_error of_inputs{row, seen.view};
      of_inputs.of(t);
      const double inputs = std::min(whole, timed([&] { of_inputs.of(t); }));
      once = inputs + (whole - inputs) * scale * share;
    };
    double sum = 0;
    std::optional<std::pair<double, double>> known;  // of the whole group
    const std::size_t tried = std::visit([](const auto& s) { return tried_by(s); }, policy);
    if (tried > 0) {
      // How much of all rows the search sees: the group's linears are told apart by their number alone.
      std::vector<matrix_view<const float>> views(kind.rows.size(), weights[0]);
      smoothing_group counted = group;
      counted.weights = views;
      smoothing_group searched = std::visit([&](const auto& s) { return searched_by(s, counted); }, policy);
      std::size_t seen_rows = 0;
      for (std::size_t i = 0; i < searched.weights.size(); ++i) seen_rows += kind.rows[i];
      searched.weights = weights;
      double prepare = 0, once = 0;
      measure(searched, static_cast<double>(seen_rows) / static_cast<double>(all), prepare, once);
      sum += prepare + static_cast<double>(tried) * once;
      if (seen_rows == all && searched.weight_spec == group.weight_spec && searched.input_spec == group.input_spec) known = {prepare, once};
    }
    if (!request_.calibrate.suppress.as_peers) {  // whether the result is kept
      if (!known) {
        known.emplace();
        measure(group, 1, known->first, known->second);
      }
      sum += known->first + 2 * known->second;
    }
    if (kind.clipped > 0 && kind.weight && can_be_clipped(*kind.weight)) {
      const std::size_t tried_rows = std::min(rows, 64 * threads);  // of ten products
      const double of_one = timed([&] { search_clips(weights[0].strip(0, 1), *kind.weight, seen.view.inputs, *group.products); });
      const double of_all = timed([&] { search_clips(weights[0].strip(0, tried_rows), *kind.weight, seen.view.inputs, *group.products); });
      const double of_a_row = std::max(0.0, of_all - of_one) / static_cast<double>(std::max<std::size_t>(1, tried_rows - 1));
      sum += of_one * static_cast<double>(kind.linears) + of_a_row * static_cast<double>(kind.clipped);
    }
    // All weights are widened, and looked at once.
    std::vector<float> absmax(kind.cols);
    const double loaded = timed([&] {
      const buffer copy{w.size() * sizeof(float)};
      if (copy.data()) std::memcpy(copy.data(), w.data(), copy.size());
      backend.column_absmax(weights[0], std::span{absmax});
    });
    return sum + loaded * static_cast<double>(kind.all_rows) / static_cast<double>(rows);
  }

  const forecast_request& request_;
  std::map<std::string, std::size_t, std::less<>> items_;
  std::size_t tokens_ = 0;
};

}  // namespace qlib::inline v0::detail
