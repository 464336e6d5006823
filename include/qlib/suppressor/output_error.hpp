#pragma once
#include <qlib/core/buffer.hpp>
#include <qlib/core/stats.hpp>
#include <qlib/linalg/gemm.hpp>
#include <qlib/suppressor/fake_quantize.hpp>
#include <qlib/suppressor/fold.hpp>
#include <qlib/suppressor/smoothing_group.hpp>

#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

namespace qlib::inline v0 {

/// How far the outputs of a group of linears are from the float ones when weights and inputs are quantized behind a transform: what searches
/// minimize, and what a transform is judged by.
///
/// Inputs are `stats.inputs`; static ranges are those of all tokens. Products are f32, sums over them f64.
class output_error {
 public:
  /// What `group` and `stats` point to must outlive it. Without inputs every error is 0.
  output_error(const smoothing_group& group, const statistics_view& stats) : group_{group}, stats_{stats}, x_{stats.inputs} {
    if (!group_.products) {
      own_.emplace(gemm_options{.kind = gemm_kind::reproducible});
      group_.products = &*own_;
    }
    if (group_.weight_spec) weights_.emplace(*group_.weight_spec);
    if (group_.input_spec) inputs_.emplace(*group_.input_spec);
    for (const auto& w : group_.weights) {
      float_outputs_.emplace_back(x_.rows() * w.rows());
      const matrix_view<float> y{float_outputs_.back().data(), x_.rows(), w.rows()};
      if (y.size() > 0) (*group_.products)(x_, w, y);
      for (const float v : float_outputs_.back()) energy_ += static_cast<double>(v) * v;
    }
  }

  /// Sum of squared differences over the sum of squared outputs; infinity if the transform overflows.
  double of(const transform& t) {
    if (energy_ == 0) return 0;
    const std::vector<float> scale = t.scale.empty() ? std::vector<float>{} : group_.channels.expand(t.scale);
    const std::vector<float> shift = t.shift.empty() ? std::vector<float>{} : group_.channels.expand(t.shift);
    if (!quantize_inputs(scale, shift)) return std::numeric_limits<double>::infinity();
    double sum = 0;
    for (std::size_t i = 0; i < group_.weights.size(); ++i) {
      const matrix_view<const float> w = group_.weights[i];
      weight_.resize(w.size());
      const matrix_view<float> q{weight_.data(), w.rows(), w.cols()};
      for (std::size_t r = 0; r < w.rows(); ++r)
        for (std::size_t c = 0; c < w.cols(); ++c) q(r, c) = scale.empty() ? w(r, c) : w(r, c) * scale[c];
      if (weights_ && !(*weights_)(q)) return std::numeric_limits<double>::infinity();
      output_.resize(x_.rows() * w.rows());
      (*group_.products)(matrix_view<const float>{input_.data(), x_.rows(), x_.cols()}, matrix_view<const float>{q},
                         matrix_view<float>{output_.data(), x_.rows(), w.rows()});
      const std::vector<double> moved = outputs_of(shift, w);
      for (std::size_t n = 0; n < output_.size(); ++n) {
        const double d = output_[n] + (moved.empty() ? 0.0 : moved[n % w.rows()]) - static_cast<double>(float_outputs_[i][n]);
        sum += d * d;
      }
    }
    return sum / energy_;
  }

 private:
  /// (x - shift) / scale, quantized. False where a range is not finite.
  bool quantize_inputs(const std::vector<float>& scale, const std::vector<float>& shift) {
    input_.resize(x_.size());
    const matrix_view<float> x{input_.data(), x_.rows(), x_.cols()};
    const auto moved = [&](float v, std::size_t c) { return (shift.empty() ? v : v - shift[c]) / (scale.empty() ? 1.0f : scale[c]); };
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t c = 0; c < x.cols(); ++c) x(r, c) = moved(x_(r, c), c);
    if (!inputs_) return true;
    if (group_.input_spec->granularity.rows != 0) return (*inputs_)(x);
    range all = range::empty();
    for (std::size_t c = 0; c < x.cols(); ++c)
      if (!stats_.column_min.empty()) all = join(all, range{moved(stats_.column_min[c], c), moved(stats_.column_max[c], c)});
    if (stats_.column_min.empty())
      for (const float v : input_) all = join(all, range{v, v});
    if (!std::isfinite(all.min) || !std::isfinite(all.max)) return false;
    const scale_and_zero q = solve_qparams(all, *group_.input_spec);
    float s = q.scale;
    std::int32_t z = q.zero_point;
    inputs_->by(x, {{1, 1}, std::span{&s, 1}, std::span{&z, group_.input_spec->symmetric ? std::size_t{0} : std::size_t{1}}});
    return true;
  }

  static std::vector<double> outputs_of(const std::vector<float>& shift, matrix_view<const float> w) {
    std::vector<double> out(shift.empty() ? 0 : w.rows(), 0.0);
    for (std::size_t r = 0; r < out.size(); ++r)
      for (std::size_t c = 0; c < w.cols(); ++c) out[r] += static_cast<double>(w(r, c)) * static_cast<double>(shift[c]);
    return out;
  }

  smoothing_group group_;
  statistics_view stats_;
  matrix_view<const float> x_;
  std::optional<gemm> own_;
  std::optional<fake_quantizer> weights_, inputs_;
  std::vector<std::vector<float>> float_outputs_;
  std::vector<float> input_, weight_, output_;
  double energy_ = 0;
};

}  // namespace qlib::inline v0
