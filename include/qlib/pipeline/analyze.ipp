#pragma once
#include <qlib/core/parallel.hpp>
#include <qlib/core/stopwatch.hpp>
#include <qlib/model/activations.hpp>
#include <qlib/pipeline/analyze.hpp>
#include <qlib/pipeline/evaluate.ipp>
#include <qlib/pipeline/sensitivity_watch.ipp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

namespace qlib::inline v0 {

namespace detail {

/// The first `tokens` of the samples: the last one is cut, those behind it are left out.
inline std::vector<std::vector<std::int32_t>> first_tokens(std::span<const std::vector<std::int32_t>> samples, std::size_t tokens) {
  std::vector<std::vector<std::int32_t>> out;
  for (const std::vector<std::int32_t>& s : samples) {
    const std::size_t n = std::min(tokens, s.size());
    if (n == 0) continue;
    out.emplace_back(s.begin(), s.begin() + static_cast<std::ptrdiff_t>(n));
    tokens -= n;
  }
  return out;
}

/// KL from one row of logits to others, whose probabilities are computed once.
class token_divergence {
 public:
  /// room: lives as long.
  token_divergence(const float* p, std::size_t n, std::vector<double>& room) : p_{p}, weights_{room} {
    weights_.resize(n);
    const double most = *std::max_element(p, p + n);
    double sum = 0;
    for (std::size_t c = 0; c < n; ++c) sum += weights_[c] = std::exp(static_cast<double>(p[c]) - most);
    for (double& w : weights_) w /= sum;
    log_sum_ = most + std::log(sum);
  }

  double from(const float* q) const {
    const double log_sum = summarize_row(q, weights_.size()).log_sum;
    double kl = 0;
    for (std::size_t c = 0; c < weights_.size(); ++c)
      kl += weights_[c] * ((static_cast<double>(p_[c]) - log_sum_) - (static_cast<double>(q[c]) - log_sum));
    return kl;
  }

 private:
  const float* p_;
  std::vector<double>& weights_;
  double log_sum_ = 0;
};

/// One analysis: the float states, and runs that begin where something is quantized.
class sensitivity_run {
 public:
  sensitivity_run(const parameter_source& floats, const quantization_plan& plan, const calibration* found, const analyze_options& options)
      : floats_{floats},
        plan_{plan},
        found_{found},
        options_{options},
        partly_{floats, plan, inputs_, std::max<std::size_t>(1, options.forward.threads)} {}

  result<analysis> run(const model_description& description, std::span<const std::vector<std::int32_t>> samples) {
    if (status s = prepare(description, samples); !s) return s.error();
    if (status s = float_forward(); !s) return s.error();
    if (metric_ == sensitivity_metric::kl)
      if (status s = measure_groups(); !s) return s.error();
    rank();
    suggest();
    if (metric_ == sensitivity_metric::kl) {
      if (status s = measure_all(false, out_.kl_all); !s) return s.error();
      if (!out_.kept.empty())
        if (status s = measure_all(true, out_.kl_kept); !s) return s.error();
    }
    if (options_.on_progress) options_.on_progress({out_.layers.size(), out_.layers.size(), 1});
    return std::move(out_);
  }

 private:
  status prepare(const model_description& description, std::span<const std::vector<std::int32_t>> samples) {
    const std::vector<std::vector<std::int32_t>> used = first_tokens(samples, options_.tokens);
    for (const auto& s : used) {
      ids_.insert(ids_.end(), s.begin(), s.end());
      starts_.push_back(ids_.size());
    }
    if (ids_.empty()) return error{.where = "samples", .problem = "hold no token", .remedy = "give texts or ids to analyze with"};
    if (errors bad = decoder::create(description, partly_, options_.forward, model_); !bad.empty()) return bad.front();
    out_.samples = used.size();
    out_.tokens = ids_.size();
    out_.products = model_.gemm_name();
    std::vector<std::string> outside;
    for (fused_layers& g : fused_layers_of(plan_, model_.description(), outside))
      out_.layers.push_back({.layers = std::move(g), .mse = {}, .kl = {}});
    if (!outside.empty())
      out_.warnings.push_back(outside.front() + (outside.size() > 1 ? " and " + std::to_string(outside.size() - 1) + " more" : "") +
                              ": not analyzed, the decoder does not compute them");
    for (const work_item& item : plan_.items)
      if (item.operand && !item.encoding) {
        out_.warnings.push_back("attention that this recipe quantizes too (" + item.name + ", ...) stays float here");
        break;
      }
    choose_metric();
    if (metric_ != sensitivity_metric::range)
      if (errors bad = input_arithmetic(plan_, found_, inputs_); !bad.empty()) return bad.front();
    if (options_.max_memory > 0 && out_.cost.memory > options_.max_memory)
      return error{.where = "--max_memory",
                   .problem = "is too little to analyze this model with " + std::to_string(ids_.size()) + " tokens",
                   .remedy = "give at least " + std::to_string((out_.cost.memory >> 20) + 1) + "MiB, or fewer tokens"};
    return {};
  }

  /// Cost in operations, and by it the metric.
  void choose_metric() {
    const std::size_t layers = model_.layers();
    const model_description& d = model_.description();
    head_ = 2.0 * static_cast<double>(ids_.size()) * static_cast<double>(d.hidden_size) * static_cast<double>(d.vocabulary);
    behind_.assign(layers + 1, head_);  // from each layer to the logits
    for (std::size_t l = layers; l-- > 0;) behind_[l] = behind_[l + 1] + model_.flops(l, starts_);
    const double forward = behind_[0], blocks = forward - head_;
    // Every comparison has the float logits too. The float states go as far as the last group.
    double kl = (forward + head_) * (wants_suggestion() ? 2 : 1);
    if (!out_.layers.empty()) kl += behind_[0] - behind_[out_.layers.back().layers.layer];
    std::size_t most = 0, together = 0, last = layers + 1;
    for (const layer_sensitivity& g : out_.layers) {
      kl += behind_[g.layers.layer] + (g.layers.layer == last ? 0 : head_);
      together = g.layers.layer == last ? together + 1 : 1;
      last = g.layers.layer;
      most = std::max(most, together);
    }
    metric_ = options_.metric.value_or(kl <= options_.kl_operations ? sensitivity_metric::kl : sensitivity_metric::mse);
    analysis_cost& cost = out_.cost;
    cost.metric = metric_;
    cost.operations = blocks;
    if (metric_ != sensitivity_metric::range) cost.operations += 2 * blocks;
    if (metric_ == sensitivity_metric::kl) cost.operations += kl;
    cost.forwards = cost.operations / forward;
    cost.memory = forecast_memory(metric_ == sensitivity_metric::kl ? most + 2 : 1);
  }

  /// states: of all tokens, held at once.
  std::uint64_t forecast_memory(std::size_t states) const {
    const model_description& d = model_.description();
    const std::uint64_t tokens = ids_.size();
    std::size_t longest = 0;
    for (std::size_t s = 0; s + 1 < starts_.size(); ++s) longest = std::max(longest, starts_[s + 1] - starts_[s]);
    std::uint64_t layer = 0, products = 0;
    for (std::size_t l = 0; l < model_.layers(); ++l) layer = std::max(layer, model_.peak_bytes(l, tokens, longest));
    // Requantized weights are f32, and once more as products pack them: all of a layer where everything is quantized, but experts one by one.
    std::vector<std::uint64_t> weights(model_.layers() + 1);
    for (const layer_sensitivity& g : out_.layers)
      for (const std::size_t i : g.layers.items) {
        const work_item& item = plan_.items[i];
        const std::uint64_t size = std::uint64_t{item.rows} * item.cols;
        std::uint64_t& to = weights[g.layers.layer];
        to = g.layers.patterns.size() == g.layers.items.size() ? to + size : std::max(to, 3 * size);
        products = std::max(products, tokens * (2 * item.rows + item.cols));
      }
    const std::uint64_t weight = *std::max_element(weights.begin(), weights.end());
    const std::uint64_t logits = metric_ == sensitivity_metric::kl ? states * logit_rows(states - 1) * d.vocabulary : 0;
    const std::uint64_t compared = metric_ == sensitivity_metric::range ? 0 : products;
    const std::uint64_t vocabulary = std::uint64_t{d.vocabulary} * d.hidden_size * 4;  // mapped bf16 embedding and head
    constexpr std::uint64_t program = std::uint64_t{128} << 20;                        // libraries, and room of the threads
    return program + vocabulary + layer + (2 * weight + states * tokens * d.hidden_size + std::max(logits, compared)) * sizeof(float);
  }

  bool wants_suggestion() const { return options_.keep > 0 || options_.budget; }

  /// Rows whose logits, of the float model and of `models` others, take 256 MiB, or few.
  std::size_t logit_rows(std::size_t models) const {
    return std::clamp<std::size_t>((std::size_t{1} << 26) / (model_.description().vocabulary * (models + 1)), 16, 4096);
  }

  status float_forward() {
    const stopwatch start;
    if (status s = reference_.reshape(ids_.size(), model_.description().hidden_size); !s) return s;
    if (status s = model_.embed(ids_, reference_.view(), starts_); !s) return s;
    sensitivity_watch watch{floats_, plan_, inputs_, options_.forward, metric_ != sensitivity_metric::range};
    double seconds = 0;
    for (std::size_t l = 0; l < model_.layers(); ++l) {
      if (status s = model_.run_layer(l, reference_.view(), starts_, watch); !s) return s;
      add_work((behind_[l] - behind_[l + 1]) * (metric_ == sensitivity_metric::range ? 1 : 3), 0);
    }
    if (status s = finite(reference_.view()); !s) return s;
    seconds = start.seconds();
    for (layer_sensitivity& g : out_.layers) {
      g.range_score = watch.range_score(g.layers);
      if (metric_ != sensitivity_metric::range) g.mse = watch.relative_error(g.layers);
      if (!found_) continue;
      double of_operands = 0;
      bool all = true;
      for (const std::size_t i : g.layers.items) {
        all = all && plan_.items[i].operand;
        if (plan_.items[i].operand) of_operands = std::max(of_operands, found_->operands[*plan_.items[i].operand].range_score);
      }
      if (all) g.range_score = of_operands;
    }
    if (work_done_ > 0) out_.cost.seconds = seconds * (out_.cost.operations - work_done_) / work_done_;
    if (options_.on_start) options_.on_start(out_.cost);
    return {};
  }

  status finite(matrix_view<const float> x) const {
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t c = 0; c < x.cols(); ++c)
        if (!std::isfinite(x(r, c)))
          return error{.where = floats_.where(),
                       .subject = "token " + std::to_string(r),
                       .problem = "its hidden state is not finite",
                       .remedy = "the checkpoint overflows on these samples: check its weights, or use other samples"};
    return {};
  }

  /// Groups layer by layer: the float states go on by one layer after each.
  status measure_groups() {
    activations floats;
    std::vector<activations> states;
    if (status s = floats.reshape(ids_.size(), model_.description().hidden_size); !s) return s;
    if (status s = model_.embed(ids_, floats.view(), starts_); !s) return s;
    std::size_t group = 0;
    for (std::size_t l = 0; l <= model_.layers(); ++l) {
      const std::size_t first = group;
      for (; group < out_.layers.size() && out_.layers[group].layers.layer == l; ++group) {
        if (states.size() <= group - first) states.emplace_back();
        activations& state = states[group - first];
        if (status s = state.reshape(floats.view().rows(), floats.view().cols()); !s) return s;
        std::copy_n(floats.view().data(), floats.view().size(), state.view().data());
        partly_.choose(out_.layers[group].layers.items);
        if (status s = run_from(l, state.view()); !s) return s;
        add_work(behind_[l] - head_, group + 1);
      }
      std::vector<std::optional<double>*> to;
      std::vector<std::span<const std::size_t>> chosen;
      for (std::size_t g = first; g < group; ++g) {
        to.push_back(&out_.layers[g].kl);
        chosen.emplace_back(out_.layers[g].layers.items);
      }
      if (status s = compare_logits(states, chosen, to); !s) return s;
      partly_.choose_none();
      if (l == model_.layers() || group == out_.layers.size()) continue;
      if (status s = model_.run_layer(l, floats.view(), starts_, partly_); !s) return s;
      add_work(behind_[l] - behind_[l + 1], group);
    }
    return {};
  }

  /// The chosen items are quantized in the first of these layers, or in all that follow.
  status run_from(std::size_t layer, matrix_view<float> state) {
    for (; layer < model_.layers(); ++layer)
      if (status s = model_.run_layer(layer, state, starts_, partly_); !s) return s;
    return {};
  }

  /// KL of the logits of each state, made with these items quantized, to those of the float states; a few rows of the vocabulary at a time.
  status compare_logits(const std::vector<activations>& states, const std::vector<std::span<const std::size_t>>& chosen,
                        const std::vector<std::optional<double>*>& to) {
    if (to.empty()) return {};
    const std::size_t vocabulary = model_.description().vocabulary, step = logit_rows(to.size());
    const std::size_t threads = std::max<std::size_t>(1, options_.forward.threads);
    std::vector<double> sums(to.size());
    std::vector<double> scores;
    activations p;
    std::vector<activations> q(to.size());
    std::vector<std::vector<double>> room(threads);
    for (std::size_t first = 0; first < ids_.size(); first += step) {
      const std::size_t n = std::min(step, ids_.size() - first);
      if (status s = p.reshape(n, vocabulary); !s) return s;
      partly_.choose_none();
      if (status s = model_.logits(reference_.view().strip(first, n), p.view(), partly_); !s) return s;
      for (std::size_t g = 0; g < to.size(); ++g) {
        if (status s = q[g].reshape(n, vocabulary); !s) return s;
        partly_.choose(chosen[g]);
        if (status s = model_.logits(states[g].view().strip(first, n), q[g].view(), partly_); !s) return s;
      }
      scores.assign(n * to.size(), {});
      parallel_for(n, threads, [&](std::size_t worker, std::size_t r) {
        const token_divergence d{p.row(r), vocabulary, room[worker]};
        for (std::size_t g = 0; g < to.size(); ++g) scores[r * to.size() + g] = d.from(q[g].row(r));
        return true;
      });
      for (std::size_t i = 0; i < scores.size(); ++i) {
        if (!std::isfinite(scores[i]))
          return error{.where = floats_.where(),
                       .subject = plan_.items[chosen[i % to.size()].front()].name,
                       .problem = "with it quantized a logit is not finite",
                       .remedy = "check its weights, or keep it float with --disable_names"};
        sums[i % to.size()] += scores[i];
      }
    }
    for (std::size_t g = 0; g < to.size(); ++g) *to[g] = sums[g] / static_cast<double>(ids_.size());
    add_work(head_ * static_cast<double>(1 + to.size()), work_groups_);
    return {};
  }

  /// Everything quantized, or everything that is not kept.
  status measure_all(bool without_kept, std::optional<double>& to) {
    std::vector<std::size_t> items;
    for (std::size_t g = 0; g < out_.layers.size(); ++g)
      if (!without_kept || !std::binary_search(out_.kept.begin(), out_.kept.end(), g))
        items.insert(items.end(), out_.layers[g].layers.items.begin(), out_.layers[g].layers.items.end());
    if (items.empty()) {
      to = 0;
      return {};
    }
    std::vector<activations> state(1);
    if (status s = state[0].reshape(ids_.size(), model_.description().hidden_size); !s) return s;
    if (status s = model_.embed(ids_, state[0].view(), starts_); !s) return s;
    partly_.choose(items);
    if (status s = run_from(0, state[0].view()); !s) return s;
    add_work(behind_[0] - head_, work_groups_);
    return compare_logits(state, {items}, {&to});
  }

  void rank() {
    std::stable_sort(out_.layers.begin(), out_.layers.end(),
                     [&](const layer_sensitivity& a, const layer_sensitivity& b) { return out_.score(a) > out_.score(b); });
  }

  void suggest() {
    std::vector<std::size_t> order(out_.layers.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto add = [&](std::size_t g) {
      out_.kept.push_back(g);
      out_.added_bytes += out_.layers[g].layers.added_bytes();
    };
    if (options_.budget) {
      const auto gain = [&](std::size_t g) {
        return out_.score(out_.layers[g]) / static_cast<double>(std::max<std::uint64_t>(1, out_.layers[g].layers.added_bytes()));
      };
      std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return gain(a) > gain(b); });
      for (const std::size_t g : order)
        if ((options_.keep == 0 || out_.kept.size() < options_.keep) && out_.added_bytes + out_.layers[g].layers.added_bytes() <= *options_.budget)
          add(g);
    } else {
      for (std::size_t g = 0; g < std::min(options_.keep, order.size()); ++g) add(g);
    }
    std::sort(out_.kept.begin(), out_.kept.end());
  }

  void add_work(double operations, std::size_t groups) {
    work_done_ += operations;
    work_groups_ = groups;
    if (options_.on_progress) options_.on_progress({groups, out_.layers.size(), std::min(1.0, work_done_ / out_.cost.operations)});
  }

  const parameter_source& floats_;
  const quantization_plan& plan_;
  const calibration* found_;
  const analyze_options& options_;
  std::vector<activation_arithmetic> inputs_;
  partly_quantized partly_;
  decoder model_;
  sensitivity_metric metric_ = sensitivity_metric::kl;
  std::vector<std::int32_t> ids_;
  std::vector<std::size_t> starts_{0};
  std::vector<double> behind_;  // operations from each layer to the logits
  double head_ = 0, work_done_ = 0;
  std::size_t work_groups_ = 0;
  activations reference_;  // what the float model gives to the final norm
  analysis out_;
};

}  // namespace detail

QLIB_INLINE double analysis::score(const layer_sensitivity& l) const {
  switch (cost.metric) {
    case sensitivity_metric::range:
      return std::isnan(l.range_score) ? std::numeric_limits<double>::infinity() : l.range_score;
    case sensitivity_metric::mse:
      return l.mse.value_or(0);
    default:
      return l.kl.value_or(0);
  }
}

QLIB_INLINE std::vector<std::string> analysis::disable_names() const {
  std::vector<std::pair<std::size_t, const fused_layers*>> order;
  for (const std::size_t k : kept) order.emplace_back(layers[k].layers.items.front(), &layers[k].layers);
  std::sort(order.begin(), order.end());
  std::vector<std::string> names;
  for (const auto& [item, g] : order) names.insert(names.end(), g->patterns.begin(), g->patterns.end());
  return names;
}

QLIB_INLINE result<analysis> analyze(const model_description& description, const parameter_source& floats, const quantization_plan& plan,
                                     const calibration* found, std::span<const std::vector<std::int32_t>> samples, const analyze_options& options) {
  return detail::sensitivity_run{floats, plan, found, options}.run(description, samples);
}

}  // namespace qlib::inline v0
