#pragma once
#include <qlib/model/rope.hpp>

#include <algorithm>
#include <cmath>

namespace qlib::inline v0 {

namespace detail {

inline constexpr double pi = 3.14159265358979323846;

/// The pair that turns `rotations` times within the original length.
inline double yarn_pair(const rope_description& rope, double rotations) {
  return static_cast<double>(rope.dim) * std::log(rope.original_length / (rotations * 2 * pi)) / (2 * std::log(rope.theta));
}

inline void scale_llama3(const rope_description& rope, std::vector<double>& inverse) {
  for (double& f : inverse) {
    const double wave = 2 * pi / f;
    const double smooth = (rope.original_length / wave - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
    if (wave > rope.original_length / rope.low_freq_factor) f /= rope.factor;
    else if (wave >= rope.original_length / rope.high_freq_factor) f = (1 - smooth) * f / rope.factor + smooth * f;
  }
}

inline void scale_yarn(const rope_description& rope, std::vector<double>& inverse) {
  double low = yarn_pair(rope, rope.beta_fast), high = yarn_pair(rope, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(rope.dim) - 1);
  if (low == high) high += 0.001;
  for (std::size_t j = 0; j < inverse.size(); ++j) {
    const double ramp = std::clamp((static_cast<double>(j) - low) / (high - low), 0.0, 1.0);
    inverse[j] = inverse[j] / rope.factor * ramp + inverse[j] * (1 - ramp);
  }
}

}  // namespace detail

QLIB_INLINE std::vector<float> rope_frequencies(const rope_description& rope, std::size_t tokens) {
  const double dim = static_cast<double>(rope.dim), length = static_cast<double>(tokens);
  double theta = rope.theta;
  if (rope.kind == rope_kind::ntk_alpha) theta *= std::pow(rope.alpha, dim / (dim - 2));
  if (rope.kind == rope_kind::dynamic && length > rope.longest)
    theta *= std::pow(rope.factor * length / rope.longest - (rope.factor - 1), dim / (dim - 2));
  std::vector<double> inverse(rope.dim / 2);
  for (std::size_t j = 0; j < inverse.size(); ++j) inverse[j] = std::pow(theta, -2.0 * static_cast<double>(j) / dim);
  switch (rope.kind) {
    case rope_kind::linear:
      for (double& f : inverse) f /= rope.factor;
      break;
    case rope_kind::llama3:
      detail::scale_llama3(rope, inverse);
      break;
    case rope_kind::yarn:
      detail::scale_yarn(rope, inverse);
      break;
    case rope_kind::longrope: {
      const std::vector<double>& by = length > rope.original_length ? rope.long_factor : rope.short_factor;
      for (std::size_t j = 0; j < inverse.size(); ++j) inverse[j] /= by[j];
      break;
    }
    default:
      break;
  }
  return {inverse.begin(), inverse.end()};
}

QLIB_INLINE bool rope_depends_on_length(const rope_description& rope, std::size_t a, std::size_t b) {
  const double x = static_cast<double>(std::min(a, b)), y = static_cast<double>(std::max(a, b));
  if (x == y) return false;
  if (rope.kind == rope_kind::dynamic) return y > rope.longest;
  return rope.kind == rope_kind::longrope && (x > rope.original_length) != (y > rope.original_length);
}

QLIB_INLINE rope_table make_rope_table(const rope_description& rope, std::size_t tokens) {
  const std::vector<float> inverse = rope_frequencies(rope, tokens);
  const bool is_long = rope.kind == rope_kind::longrope && static_cast<double>(tokens) > rope.original_length;
  const float factor = static_cast<float>(is_long ? rope.long_attention_factor : rope.attention_factor);
  rope_table table{inverse.size(), {}, {}};
  table.cos.resize(tokens * inverse.size());
  table.sin.resize(tokens * inverse.size());
  for (std::size_t p = 0; p < tokens; ++p)
    for (std::size_t j = 0; j < inverse.size(); ++j) {
      const float angle = static_cast<float>(p) * inverse[j];  // in f32, as transformers computes it
      table.cos[p * inverse.size() + j] = static_cast<float>(std::cos(static_cast<double>(angle))) * factor;
      table.sin[p * inverse.size() + j] = static_cast<float>(std::sin(static_cast<double>(angle))) * factor;
    }
  return table;
}

QLIB_INLINE void apply_rope(const rope_table& table, rope_style style, matrix_view<float> x, std::size_t head_dim, std::size_t first_position) {
  const std::size_t pairs = table.pairs;
  const std::size_t second = style == rope_style::half ? pairs : 1, step = style == rope_style::half ? 1 : 2;
  for (std::size_t r = 0; r < x.rows(); ++r) {
    const float* c = table.cos.data() + (first_position + r) * pairs;
    const float* s = table.sin.data() + (first_position + r) * pairs;
    for (std::size_t at = 0; at < x.cols(); at += head_dim) {
      float* head = x.row(r) + at;
      for (std::size_t j = 0; j < pairs; ++j) {
        const float u = head[j * step], v = head[j * step + second];
        head[j * step] = u * c[j] - v * s[j];
        head[j * step + second] = v * c[j] + u * s[j];
      }
    }
  }
}

}  // namespace qlib::inline v0
