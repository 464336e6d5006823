#pragma once
#include <qlib/linalg/elementary.hpp>
#include <qlib/model/activation_function.hpp>
#include <qlib/model/delta_net.hpp>
#include <qlib/model/norm.hpp>

#include <algorithm>
#include <cmath>

namespace qlib::inline v0 {

QLIB_INLINE status delta_net_block::load(const layer_context& context) {
  if (context.model.delta_net.split)
    for (const char* part : {"qkv", "z", "b", "a"}) inputs_.add(context.name(std::string("linear_attn.in_proj_") + part));
  else
    for (const char* part : {"qkvz", "ba"}) inputs_.add(context.name(std::string("linear_attn.in_proj_") + part));
  output_.add(context.name("linear_attn.out_proj"));
  if (status s = read_constants(context.source, context.name("linear_attn.conv1d.weight"), 0, kernel_); !s) return s;
  if (status s = read_constants(context.source, context.name("linear_attn.A_log"), 0, a_log_); !s) return s;
  if (status s = read_constants(context.source, context.name("linear_attn.dt_bias"), 0, dt_bias_); !s) return s;
  if (status s = read_constants(context.source, context.name("linear_attn.norm.weight"), 0, gain_); !s) return s;
  if (status s = inputs_.load(context.source); !s) return s;
  return output_.load(context.source);
}

/// qkv_ gets [q | k | v] rows, gate_ z, beta_ b and decay_ a, all as projected.
QLIB_INLINE status delta_net_block::project(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x) {
  const delta_net_description& g = context.model.delta_net;
  if (g.split) {
    if (status s = inputs_.apply(context, x, chunk, 0, qkv_); !s) return s;
    if (status s = inputs_.apply(context, x, chunk, 1, gate_); !s) return s;
    if (status s = inputs_.apply(context, x, chunk, 2, beta_); !s) return s;
    return inputs_.apply(context, x, chunk, 3, decay_);
  }
  const std::size_t group = g.value_heads / g.key_heads, keys = g.key_heads * g.key_dim, values = g.value_heads * g.value_dim;
  if (status s = inputs_.apply(context, x, chunk, 0, scratch_); !s) return s;
  if (status s = inputs_.apply(context, x, chunk, 1, scratch2_); !s) return s;
  if (status s = qkv_.reshape(x.rows(), 2 * keys + values); !s) return s;
  if (status s = gate_.reshape(x.rows(), values); !s) return s;
  if (status s = beta_.reshape(x.rows(), g.value_heads); !s) return s;
  if (status s = decay_.reshape(x.rows(), g.value_heads); !s) return s;
  for_rows(x.rows(), context.threads, [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      const float *from = scratch_.row(r), *ba = scratch2_.row(r);
      for (std::size_t h = 0; h < g.key_heads; ++h) {
        const std::size_t wide = group * g.value_dim;
        std::copy_n(from, g.key_dim, qkv_.row(r) + h * g.key_dim);
        std::copy_n(from + g.key_dim, g.key_dim, qkv_.row(r) + keys + h * g.key_dim);
        std::copy_n(from + 2 * g.key_dim, wide, qkv_.row(r) + 2 * keys + h * wide);
        std::copy_n(from + 2 * g.key_dim + wide, wide, gate_.row(r) + h * wide);
        from += 2 * (g.key_dim + wide);
        std::copy_n(ba, group, beta_.row(r) + h * group);
        std::copy_n(ba + group, group, decay_.row(r) + h * group);
        ba += 2 * group;
      }
    }
  });
  return {};
}

/// mixed_ = hidden_act of the causal depthwise convolution; queries and keys to length 1, queries over sqrt(key_dim); beta_ and decay_ to
/// their factors.
QLIB_INLINE void delta_net_block::convolve(const layer_context& context, const sample_chunk& chunk) {
  const delta_net_description& g = context.model.delta_net;
  const std::size_t channels = qkv_.view().cols(), taps = g.kernel, keys = g.key_heads * g.key_dim;
  // A tap's weights side by side, so that the loop over channels is contiguous.
  std::vector<float> by_tap(taps * channels);
  for (std::size_t c = 0; c < channels; ++c)
    for (std::size_t t = 0; t < taps; ++t) by_tap[t * channels + c] = kernel_[c * taps + t];
  std::vector<float> rate(g.value_heads);
  for (std::size_t h = 0; h < g.value_heads; ++h) rate[h] = -elementary::exp(a_log_[h]);
  const float query_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(g.key_dim)));
  for (std::size_t s = 0; s < chunk.samples(); ++s) {
    const std::size_t begin = chunk.starts[s], length = chunk.starts[s + 1] - begin;
    for_rows(length, context.threads, [&](std::size_t first, std::size_t count) {
      for (std::size_t p = first; p < first + count; ++p) {
        float* y = mixed_.row(begin + p);
        std::fill_n(y, channels, 0.0f);
        for (std::size_t t = 0; t < taps; ++t) {
          if (p + t + 1 < taps) continue;  // zeros stand before the sample
          const float *x = qkv_.row(begin + p + t + 1 - taps), *w = by_tap.data() + t * channels;
          for (std::size_t c = 0; c < channels; ++c) y[c] += x[c] * w[c];
        }
        activate_alone(g.activation, {}, y, channels);
        for (std::size_t h = 0; h < 2 * g.key_heads; ++h) {
          float* head = y + h * g.key_dim;
          float scale = static_cast<float>(1.0 / std::sqrt(sum_of_squares(head, g.key_dim) + 1e-6));
          if (h * g.key_dim < keys) scale *= query_scale;
          for (std::size_t c = 0; c < g.key_dim; ++c) head[c] *= scale;
        }
        float *beta = beta_.row(begin + p), *decay = decay_.row(begin + p);
        for (std::size_t h = 0; h < g.value_heads; ++h) {
          beta[h] = elementary::sigmoid(beta[h]);
          decay[h] = elementary::exp(rate[h] * elementary::softplus(decay[h] + dt_bias_[h]));
        }
      }
    });
  }
}

/// The value channels of mixed_ become the output: S = decay S + k (beta (v - Sᵀ k))ᵀ, o = Sᵀ q, normed and gated.
QLIB_INLINE void delta_net_block::recur(const layer_context& context, const sample_chunk& chunk) {
  const delta_net_description& g = context.model.delta_net;
  const std::size_t group = g.value_heads / g.key_heads, keys = g.key_heads * g.key_dim, n = g.value_dim;
  parallel_for(chunk.samples() * g.value_heads, context.threads, [&](std::size_t, std::size_t task) {
    const std::size_t sample = task / g.value_heads, head = task % g.value_heads, key_head = head / group;
    std::vector<float> state(g.key_dim * n), known(n), change(n);
    for (std::size_t r = chunk.starts[sample]; r < chunk.starts[sample + 1]; ++r) {
      const float *q = mixed_.row(r) + key_head * g.key_dim, *k = q + keys;
      float* v = mixed_.row(r) + 2 * keys + head * n;
      const float decay = decay_.row(r)[head], beta = beta_.row(r)[head];
      std::fill(known.begin(), known.end(), 0.0f);
      for (std::size_t i = 0; i < g.key_dim; ++i) {
        float* row = state.data() + i * n;
        const float ki = k[i];
        for (std::size_t c = 0; c < n; ++c) {
          row[c] *= decay;
          known[c] += row[c] * ki;
        }
      }
      for (std::size_t c = 0; c < n; ++c) change[c] = (v[c] - known[c]) * beta;
      std::fill_n(v, n, 0.0f);
      for (std::size_t i = 0; i < g.key_dim; ++i) {
        float* row = state.data() + i * n;
        const float ki = k[i], qi = q[i];
        for (std::size_t c = 0; c < n; ++c) {
          row[c] += ki * change[c];
          v[c] += row[c] * qi;
        }
      }
      rms_norm(v, gain_, context.model.eps, v, n);
      const float* z = gate_.row(r) + head * n;
      for (std::size_t c = 0; c < n; ++c) v[c] *= elementary::silu(z[c]);
    }
    return true;
  });
}

QLIB_INLINE status delta_net_block::run(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x, matrix_view<float> out) {
  if (status s = project(context, chunk, x); !s) return s;
  if (status s = mixed_.reshape(qkv_.view().rows(), qkv_.view().cols()); !s) return s;
  convolve(context, chunk);
  recur(context, chunk);
  const delta_net_description& g = context.model.delta_net;
  const std::size_t values = g.value_heads * g.value_dim, first = 2 * g.key_heads * g.key_dim;
  const matrix_view<const float> result{mixed_.row(0) + first, x.rows(), values, mixed_.view().stride()};
  return output_.apply(context, result, chunk.starts, chunk.first_sample, 0, out);
}

}  // namespace qlib::inline v0
