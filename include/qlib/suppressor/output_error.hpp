#pragma once
#include <qlib/core/parallel.hpp>
#include <qlib/core/stats.hpp>
#include <qlib/linalg/gemm.hpp>
#include <qlib/linalg/int8_gemm.hpp>
#include <qlib/suppressor/fake_quantize.hpp>
#include <qlib/suppressor/smoothing_group.hpp>
#include <qlib/suppressor/transform.hpp>

#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace qlib::inline v0 {

/// How far the outputs of a group of linears are from the float ones when weights and inputs are quantized behind a transform: what searches
/// minimize, and what a transform is judged by.
///
/// Inputs are `stats.inputs`; static ranges are those of all tokens. Products are f32 (of int8 codes, exact, where both sides are quant_spec{}
/// and nothing is shifted), sums over them f64 in an order that does not depend on the number of threads.
class output_error {
 public:
  /// What `group` and `stats` point to must outlive it. Without inputs every error is 0.
  output_error(const smoothing_group& group, const statistics_view& stats) : group_{group}, stats_{stats}, x_{stats.inputs} {
    if (!group_.products) {
      own_ = std::make_unique<gemm>(gemm_options{.kind = gemm_kind::reproducible});
      group_.products = own_.get();
    }
    if (group_.weight_spec == quant_spec{} && group_.input_spec == quant_spec{} && x_.cols() < std::size_t{1} << 17) codes_.emplace(group_.products->options().kind, threads());
    if (group_.weight_spec) weights_.emplace(*group_.weight_spec, threads());
    if (group_.input_spec) inputs_.emplace(*group_.input_spec);
    for (const auto& w : group_.weights) {
      float_outputs_.emplace_back(x_.rows() * w.rows());
      const matrix_view<float> y{float_outputs_.back().data(), x_.rows(), w.rows()};
      if (y.size() > 0) (*group_.products)(x_, w, y);
      energy_ += sum_of_squares(y, {}, {});
    }
  }

  /// Sum of squared differences over the sum of squared outputs; infinity if the transform overflows.
  double of(const transform& t) {
    if (energy_ == 0) return 0;
    const std::vector<float> scale = t.scale.empty() ? std::vector<float>{} : group_.channels.expand(t.scale);
    const std::vector<float> shift = t.shift.empty() ? std::vector<float>{} : group_.channels.expand(t.shift);
    const bool of_codes = codes_ && shift.empty();
    if (!(of_codes ? codes_->quantize_inputs(x_, scale, threads()) : quantize_inputs(scale, shift))) return std::numeric_limits<double>::infinity();
    double sum = 0;
    for (std::size_t i = 0; i < group_.weights.size(); ++i) {
      output_.resize(float_outputs_[i].size());
      const matrix_view<float> y{output_.data(), x_.rows(), group_.weights[i].rows()};
      if (!(of_codes ? codes_->outputs(group_.weights[i], scale, threads(), y) : outputs(i, scale, y)))
        return std::numeric_limits<double>::infinity();
      sum += sum_of_squares(y, {float_outputs_[i].data(), y.rows(), y.cols()}, outputs_of(shift, group_.weights[i]));
    }
    return std::isfinite(sum) ? sum / energy_ : std::numeric_limits<double>::infinity();
  }

 private:
  /// Both sides as int8 codes, as an engine of W8A8 computes: an eighth of the time of f32 products.
  struct int8_codes {
    int8_gemm products;
    int8_rows x, w;
    std::vector<float> inverse;

    int8_codes(gemm_kind kind, std::size_t threads) : products{kind, threads} {}
    bool quantize_inputs(matrix_view<const float> inputs, const std::vector<float>& scale, std::size_t threads) {
      inverse.resize(scale.size());
      for (std::size_t c = 0; c < scale.size(); ++c) inverse[c] = 1.0f / scale[c];
      return x.quantize(inputs, inverse, threads);
    }
    bool outputs(matrix_view<const float> weight, const std::vector<float>& scale, std::size_t threads, matrix_view<float> y) {
      if (!w.quantize(weight, scale, threads)) return false;
      products(x, w, y);
      return true;
    }
  };

  std::size_t threads() const { return group_.products->options().threads; }

  /// What linear i makes of the inputs that quantize_inputs left: input_ holds them times `scale`, weights are quantized times and divided by it.
  bool outputs(std::size_t i, const std::vector<float>& scale, matrix_view<float> y) {
    const matrix_view<const float> x = input_.empty() ? x_ : matrix_view<const float>{input_.data(), x_.rows(), x_.cols()};
    matrix_view<const float> w = group_.weights[i];
    if (weights_) {
      if (weight_.size() < w.size()) weight_.resize(w.size());
      const matrix_view<float> q{weight_.data(), w.rows(), w.cols()};
      if (!weights_->scaled(w, scale, q)) return false;
      w = q;
    }
    (*group_.products)(x, w, y);
    return true;
  }

  /// ((x - shift) / scale, quantized) * scale; nothing where inputs stay as they are. False where a range is not finite.
  bool quantize_inputs(const std::vector<float>& scale, const std::vector<float>& shift) {
    input_.clear();
    if (!inputs_ && shift.empty()) return true;
    input_.resize(x_.size());
    const matrix_view<float> x{input_.data(), x_.rows(), x_.cols()};
    const auto moved = [&](float v, std::size_t c) { return (shift.empty() ? v : v - shift[c]) / (scale.empty() ? 1.0f : scale[c]); };
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t c = 0; c < x.cols(); ++c) x(r, c) = moved(x_(r, c), c);
    if (inputs_) {
      if (group_.input_spec->granularity.rows != 0) {
        if (!(*inputs_)(x)) return false;
      } else {
        const range all = static_range(moved);
        if (!std::isfinite(all.min) || !std::isfinite(all.max)) return false;
        const scale_and_zero q = solve_qparams(all, *group_.input_spec);
        float s = q.scale;
        std::int32_t z = q.zero_point;
        inputs_->by(x, {{1, 1}, std::span{&s, 1}, std::span{&z, group_.input_spec->symmetric ? std::size_t{0} : std::size_t{1}}});
      }
    }
    if (!scale.empty())
      for (std::size_t r = 0; r < x.rows(); ++r)
        for (std::size_t c = 0; c < x.cols(); ++c) x(r, c) *= scale[c];
    return true;
  }

  /// The range of all inputs after `moved`: of the samples' extremes their mean, if the group says so; without them the tokens that are here.
  template <class Moved>
  range static_range(const Moved& moved) const {
    const auto of = [&](const float* low, const float* high) {
      range all = range::empty();
      for (std::size_t c = 0; c < x_.cols(); ++c) all = join(all, range{moved(low[c], c), moved(high[c], c)});
      return all;
    };
    const matrix_view<const float> samples = stats_.sample_ranges;
    if (group_.mean_ranges && samples.rows() >= 2) {
      double low = 0, high = 0;
      for (std::size_t s = 0; s + 1 < samples.rows(); s += 2) {
        const range one = of(samples.row(s), samples.row(s + 1));
        low += one.min;
        high += one.max;
      }
      const std::size_t pairs = samples.rows() / 2;
      const double n = static_cast<double>(pairs);
      return {static_cast<float>(low / n), static_cast<float>(high / n)};
    }
    if (!stats_.column_min.empty()) return of(stats_.column_min.data(), stats_.column_max.data());
    range all = range::empty();
    for (std::size_t r = 0; r < x_.rows(); ++r)
      for (std::size_t c = 0; c < x_.cols(); ++c) all = join(all, range{moved(x_(r, c), c), moved(x_(r, c), c)});
    return all;
  }

  static std::vector<double> outputs_of(const std::vector<float>& shift, matrix_view<const float> w) {
    std::vector<double> out(shift.empty() ? 0 : w.rows(), 0.0);
    for (std::size_t r = 0; r < out.size(); ++r)
      for (std::size_t c = 0; c < w.cols(); ++c) out[r] += static_cast<double>(w(r, c)) * static_cast<double>(shift[c]);
    return out;
  }

  /// Of y + moved - exact; both may be empty. A row is summed in eight lanes, the rows in order.
  double sum_of_squares(matrix_view<const float> y, matrix_view<const float> exact, const std::vector<double>& moved) {
    constexpr std::size_t lanes = 8;
    row_sums_.assign(y.rows(), 0.0);
    parallel_for(y.rows(), y.size() < std::size_t{1} << 18 ? 1 : threads(), [&](std::size_t, std::size_t r) {
      const float *a = y.row(r), *b = exact.size() ? exact.row(r) : nullptr;
      const auto difference = [&](std::size_t c) {
        double d = b ? static_cast<double>(a[c]) - static_cast<double>(b[c]) : a[c];
        if (!moved.empty()) d += moved[c];
        return d * d;
      };
      std::array<double, lanes> sums{};
      std::size_t c = 0;
      for (; c + lanes <= y.cols(); c += lanes)
        for (std::size_t l = 0; l < lanes; ++l) sums[l] += difference(c + l);
      for (; c < y.cols(); ++c) sums[0] += difference(c);
      for (const double s : sums) row_sums_[r] += s;
      return true;
    });
    double sum = 0;
    for (const double s : row_sums_) sum += s;
    return sum;
  }

  smoothing_group group_;
  statistics_view stats_;
  matrix_view<const float> x_;
  std::unique_ptr<gemm> own_;  // on the heap: group_ points to it, also after a move
  std::optional<fake_quantizer> weights_, inputs_;
  std::optional<int8_codes> codes_;
  std::vector<std::vector<float>> float_outputs_;
  std::vector<float> input_, weight_, output_;
  std::vector<double> row_sums_;
  double energy_ = 0;
};

}  // namespace qlib::inline v0
