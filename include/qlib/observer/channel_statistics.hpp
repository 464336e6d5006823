#pragma once
#include <qlib/core/range.hpp>
#include <qlib/core/stats.hpp>
#include <qlib/core/view.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace qlib::inline v0 {

/// What outlier suppressors want to know about the channels of an input, collected sample by sample.
///
/// `merge` is associative: of parts that are whole samples, in their order. Means and deviations are sums in f64.
class channel_statistics {
 public:
  channel_statistics() = default;
  /// `what` decides what is kept; at most `most_inputs` tokens are, the first of every `token_step`.
  channel_statistics(std::size_t channels, needs what, std::size_t most_inputs, std::size_t token_step = 1)
      : channels_{channels}, what_{what}, most_inputs_{most_inputs}, token_step_{std::max<std::size_t>(1, token_step)} {
    low_.assign(channels, std::numeric_limits<float>::infinity());
    high_.assign(channels, -std::numeric_limits<float>::infinity());
    if (includes(what, needs::column_mean)) sum_magnitude_.assign(channels, 0.0);
  }

  std::size_t channels() const { return channels_; }
  std::size_t tokens() const { return tokens_; }
  /// Of each sample that was seen, the smallest and the largest value of each channel: rows 2 i and 2 i + 1.
  std::span<const float> extremes() const { return extremes_; }

  /// x: [tokens, channels], finite; one sample.
  template <class B>
  void observe(const B& backend, matrix_view<const float> x) {
    if (x.rows() == 0) return;
    seen_.assign(channels_, range::empty());
    backend.ranges(x, tile{0, 1}, std::span{seen_});
    const std::size_t at = extremes_.size();
    extremes_.resize(at + 2 * channels_);
    for (std::size_t c = 0; c < channels_; ++c) {
      extremes_[at + c] = seen_[c].min;
      extremes_[at + channels_ + c] = seen_[c].max;
      low_[c] = std::min(low_[c], seen_[c].min);
      high_[c] = std::max(high_[c], seen_[c].max);
    }
    if (!sum_magnitude_.empty())
      for (std::size_t r = 0; r < x.rows(); ++r) {
        const float* row = x.row(r);
        for (std::size_t c = 0; c < channels_; ++c) sum_magnitude_[c] += std::fabs(static_cast<double>(row[c]));
      }
    if (includes(what_, needs::column_deviation)) observe_moments(x);
    if (includes(what_, needs::inputs)) {
      kept_.reserve(most_inputs_ * channels_);  // untouched room takes no memory, and a copy while it grows would
      for (std::size_t r = 0; r < x.rows() && kept_.size() < most_inputs_ * channels_; ++r)
        if ((tokens_ + r) % token_step_ == 0) kept_.insert(kept_.end(), x.row(r), x.row(r) + channels_);
    }
    if (tokens_ == 0 && channels_ > 0) first_kept_ = kept_.size() / channels_;
    tokens_ += x.rows();
  }

  /// Whatever `later` saw, after what this one did.
  void merge(const channel_statistics& later) {
    for (std::size_t c = 0; c < channels_; ++c) {
      low_[c] = std::min(low_[c], later.low_[c]);
      high_[c] = std::max(high_[c], later.high_[c]);
    }
    for (std::size_t c = 0; c < sum_magnitude_.size(); ++c) sum_magnitude_[c] += later.sum_magnitude_[c];
    extremes_.insert(extremes_.end(), later.extremes_.begin(), later.extremes_.end());
    moments_.insert(moments_.end(), later.moments_.begin(), later.moments_.end());
    sample_tokens_.insert(sample_tokens_.end(), later.sample_tokens_.begin(), later.sample_tokens_.end());
    const std::size_t room = most_inputs_ * channels_ - std::min(kept_.size(), most_inputs_ * channels_);
    kept_.insert(kept_.end(), later.kept_.begin(), later.kept_.begin() + static_cast<std::ptrdiff_t>(std::min(room, later.kept_.size())));
    if (tokens_ == 0) first_kept_ = later.first_kept_;
    tokens_ += later.tokens_;
  }

  /// The input as it is after its channels were divided: owns what statistics_view points to.
  struct divided {
    std::vector<float> absmax, low, high, mean, sample_ranges, inputs;
    statistics_view view;
  };

  /// `scale`: what the channels are divided by, or empty.
  divided after(std::span<const float> scale) const {
    divided out;
    const auto by = [&](std::size_t c) { return scale.empty() ? 1.0f : scale[c]; };
    out.absmax.resize(channels_);
    out.low.resize(channels_);
    out.high.resize(channels_);
    for (std::size_t c = 0; c < channels_; ++c) {
      out.low[c] = tokens_ ? low_[c] / by(c) : 0.0f;
      out.high[c] = tokens_ ? high_[c] / by(c) : 0.0f;
      out.absmax[c] = std::max(std::fabs(out.low[c]), std::fabs(out.high[c]));
    }
    out.mean.resize(sum_magnitude_.size());
    for (std::size_t c = 0; c < out.mean.size(); ++c)
      out.mean[c] = static_cast<float>(sum_magnitude_[c] / static_cast<double>(std::max<std::size_t>(1, tokens_)) / static_cast<double>(by(c)));
    out.inputs = kept_;
    out.sample_ranges = extremes_;
    if (!scale.empty())
      for (std::vector<float>* rows : {&out.inputs, &out.sample_ranges})
        for (std::size_t i = 0; i < rows->size(); ++i) (*rows)[i] /= scale[i % channels_];
    out.view = {.column_absmax = out.absmax,
                .column_min = out.low,
                .column_max = out.high,
                .column_mean = out.mean,
                .sample_ranges = {out.sample_ranges.data(), channels_ ? out.sample_ranges.size() / channels_ : 0, channels_},
                .deviation = deviation(scale),
                .inputs = {out.inputs.data(), channels_ ? out.inputs.size() / channels_ : 0, channels_},
                .first_inputs = first_kept_,
                .gram = {},
                .tokens = tokens_};
    return out;
  }

 private:
  void observe_moments(matrix_view<const float> x) {
    const std::size_t at = moments_.size();
    moments_.resize(at + 2 * channels_, 0.0);
    double *sum = moments_.data() + at, *square = sum + channels_;
    for (std::size_t r = 0; r < x.rows(); ++r) {
      const float* row = x.row(r);
      for (std::size_t c = 0; c < channels_; ++c) {
        const double v = row[c];
        sum[c] += v;
        square[c] += v * v;
      }
    }
    sample_tokens_.push_back(x.rows());
  }

  /// Sample by sample: the (unbiased) standard deviation of (x / scale - middle) over all tokens and channels, with the middles of what was seen
  /// until then.
  float deviation(std::span<const float> scale) const {
    double largest = 0;
    std::vector<float> low(channels_, std::numeric_limits<float>::infinity()), high(channels_, -std::numeric_limits<float>::infinity());
    for (std::size_t s = 0; s < sample_tokens_.size(); ++s) {
      const double *sum = moments_.data() + 2 * channels_ * s, *square = sum + channels_, n = static_cast<double>(sample_tokens_[s]);
      const float* seen = extremes_.data() + 2 * channels_ * s;
      double first = 0, second = 0;
      for (std::size_t c = 0; c < channels_; ++c) {
        low[c] = std::min(low[c], seen[c]);
        high[c] = std::max(high[c], seen[channels_ + c]);
        const double by = scale.empty() ? 1.0 : scale[c], middle = (static_cast<double>(low[c]) + high[c]) / 2 / by, total = sum[c] / by;
        first += total - n * middle;
        second += square[c] / (by * by) - 2 * middle * total + n * middle * middle;
      }
      const double count = n * static_cast<double>(channels_);
      if (count > 1) largest = std::max(largest, (second - first * first / count) / (count - 1));
    }
    return static_cast<float>(std::sqrt(largest));
  }

  std::size_t channels_ = 0;
  needs what_ = needs::nothing;
  std::size_t most_inputs_ = 0, token_step_ = 1, tokens_ = 0, first_kept_ = 0;
  std::vector<float> low_, high_, extremes_, kept_;
  std::vector<double> sum_magnitude_, moments_;  // moments: of each sample the sums, then the sums of squares
  std::vector<std::size_t> sample_tokens_;
  std::vector<range> seen_;
};

}  // namespace qlib::inline v0
