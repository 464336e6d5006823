/// What one float forward tells of every group. Part of analyze.ipp.
#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/linalg/gemm.hpp>
#include <qlib/model/activations.hpp>
#include <qlib/observer/range_score.hpp>
#include <qlib/pipeline/fused_layers.hpp>
#include <qlib/pipeline/partly_quantized.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

namespace qlib::inline v0::detail {

/// Range scores of the inputs, and, if asked for, the error of each linear's own output on float inputs.
class sensitivity_watch final : public forward_hook {
 public:
  sensitivity_watch(const parameter_source& floats, const quantization_plan& plan, const std::vector<activation_arithmetic>& inputs,
                    const decoder_options& how, bool errors)
      : floats_{floats}, plan_{plan}, inputs_{inputs}, threads_{std::max<std::size_t>(1, how.threads)}, errors_{errors} {
    gemm_options products = how.gemm;
    products.threads = threads_;
    products_ = gemm{products};
    seen_.resize(plan.items.size());
    for (std::size_t i = 0; i < plan.items.size(); ++i)
      if (plan.items[i].encoding) index_.emplace(plan.items[i].name, i);
  }

  matrix_view<const float> input(const linear_input& in, std::size_t i) override {
    const auto at = index_.find(in.modules[i]);
    if (at == index_.end() || failed_ || in.x.rows() == 0) return in.x;
    bool scored = false;
    for (std::size_t before = 0; before < i && !scored; ++before)
      if (const auto sibling = index_.find(in.modules[before]); sibling != index_.end()) {
        same_input_[at->second] = sibling->second;
        scored = true;
      }
    if (!scored)
      for (std::size_t s = 0; s + 1 < in.rows_of_sample.size(); ++s) {
        const std::size_t first = in.rows_of_sample[s];
        seen_[at->second].range.observe(backend_, in.x.strip(first, in.rows_of_sample[s + 1] - first));
      }
    if (errors_)
      if (status s = compare(at->second, in.x); !s) failed_ = s.error();
    return in.x;
  }

  status ok() override { return failed_ ? status{*failed_} : status{}; }

  double range_score(const fused_layers& g) const {
    double most = 0;
    for (const std::size_t i : g.items) {
      const auto same = same_input_.find(i);
      const double score = seen_[same == same_input_.end() ? i : same->second].range.score();
      if (!(score <= most)) most = score;  // a NaN stays
    }
    return most;
  }

  std::optional<double> relative_error(const fused_layers& g) const {
    double sum = 0, rows = 0;
    for (const std::size_t i : g.items) {
      const linear_errors& e = seen_[i];
      if (e.squares > 0) sum += e.rows * (e.difference / e.squares);
      rows += e.rows;
    }
    if (rows == 0) return std::nullopt;
    return sum / rows;
  }

 private:
  struct linear_errors {
    qlib::range_score range;
    double rows = 0, difference = 0, squares = 0;
  };

  status compare(std::size_t item, matrix_view<const float> x) {
    const auto w = floats_.linear(plan_.items[item].name);
    if (!w) return w.error();
    const auto codes = requantized(plan_.items[item], inputs_[item], *w, threads_);
    if (!codes) return codes.error();
    if (status s = y_.reshape(x.rows(), w->rows()); !s) return s;
    if (status s = quantized_y_.reshape(x.rows(), w->rows()); !s) return s;
    std::visit([&](auto v) { products_(x, v, y_.view()); }, w->weight());
    const std::vector<float>&bias = w->bias, &quantized_bias = codes->bias;
    matrix_view<const float> used = x;
    if (!inputs_[item].identity()) {
      if (status s = quantized_x_.reshape(x.rows(), x.cols()); !s) return s;
      inputs_[item].apply(x, quantized_x_.view(), threads_);
      used = quantized_x_.view();
    }
    std::visit([&](auto v) { products_(used, v, quantized_y_.view()); }, codes->weight());
    std::vector<double> difference(x.rows()), squares(x.rows());  // a place a row: sums do not depend on threads
    for_rows(x.rows(), threads_, [&](std::size_t first, std::size_t count) {
      for (std::size_t r = first; r < first + count; ++r)
        for (std::size_t c = 0; c < y_.view().cols(); ++c) {
          double a = static_cast<double>(y_.view()(r, c)), b = static_cast<double>(quantized_y_.view()(r, c));
          if (!bias.empty()) a += static_cast<double>(bias[c]), b += static_cast<double>(quantized_bias[c]);
          const double d = b - a;
          difference[r] += d * d;
          squares[r] += a * a;
        }
    });
    linear_errors& to = seen_[item];
    to.rows += static_cast<double>(x.rows());
    for (std::size_t r = 0; r < x.rows(); ++r) to.difference += difference[r], to.squares += squares[r];
    if (std::isfinite(to.difference) && std::isfinite(to.squares)) return {};
    return error{.where = floats_.where(),
                 .subject = plan_.items[item].name,
                 .problem = "its output is not finite",
                 .remedy = "the checkpoint overflows on these samples: check its weights, or use other samples"};
  }

  const parameter_source& floats_;
  const quantization_plan& plan_;
  const std::vector<activation_arithmetic>& inputs_;
  std::size_t threads_;
  bool errors_;
  gemm products_;
  native_backend backend_;
  std::map<std::string_view, std::size_t> index_;
  std::map<std::size_t, std::size_t> same_input_;  // item -> the item that scored its input
  std::vector<linear_errors> seen_;
  activations y_, quantized_y_, quantized_x_;
  std::optional<error> failed_;
};

}  // namespace qlib::inline v0::detail
