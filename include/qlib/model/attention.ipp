#pragma once
#include <qlib/linalg/elementary.hpp>
#include <qlib/model/attention.hpp>
#include <qlib/model/norm.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

namespace qlib::inline v0 {

namespace detail {

/// Queries that are multiplied with their keys at once.
inline constexpr std::size_t query_block = 256;

/// Scores of one query into probabilities, in place. `sink` is one more score, -infinity for none.
inline void softmax_row(float* s, std::size_t n, float scale, float softcap, float sink) {
  if (softcap != 0)
    for (std::size_t i = 0; i < n; ++i) s[i] = elementary::tanh(s[i] * scale / softcap) * softcap;
  else
    for (std::size_t i = 0; i < n; ++i) s[i] *= scale;
  float top = sink;
  for (std::size_t i = 0; i < n; ++i) top = s[i] > top ? s[i] : top;
  for (std::size_t i = 0; i < n; ++i) s[i] = elementary::exp(s[i] - top);
  std::array<double, 8> lanes{};
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (std::size_t l = 0; l < 8; ++l) lanes[l] += static_cast<double>(s[i + l]);
  for (std::size_t l = 0; i < n; ++i, ++l) lanes[l] += static_cast<double>(s[i]);
  double sum = sink == -std::numeric_limits<float>::infinity() ? 0.0 : static_cast<double>(elementary::exp(sink - top));
  for (const double lane : lanes) sum += lane;
  const float inverse = static_cast<float>(1.0 / sum);
  for (std::size_t j = 0; j < n; ++j) s[j] *= inverse;
}

/// The first key that the query at position p sees.
inline std::size_t first_visible(const attention_rule& rule, std::size_t p) {
  std::size_t first = rule.window && p + 1 > rule.window ? p + 1 - rule.window : 0;
  if (rule.chunk) first = std::max(first, p / rule.chunk * rule.chunk);
  return first;
}

}  // namespace detail

QLIB_INLINE status attend(const layer_context& context, const attention_rule& rule, matrix_view<const float> q, matrix_view<const float> k,
                          matrix_view<const float> v, std::span<const std::size_t> rows_of_sample, matrix_view<float> out) {
  struct block {
    std::size_t base, first, last;  // first row of the sample, positions [first, last)
  };
  std::vector<block> blocks;
  for (std::size_t s = 0; s + 1 < rows_of_sample.size(); ++s)
    for (std::size_t length = rows_of_sample[s + 1] - rows_of_sample[s], at = 0; at < length; at += detail::query_block)
      blocks.push_back({rows_of_sample[s], at, std::min(at + detail::query_block, length)});
  std::size_t room = 0;
  for (const block& b : blocks) room = std::max(room, (b.last - b.first) * (b.last - detail::first_visible(rule, b.first)));

  // Products are x wᵀ: values are multiplied from a transposed copy.
  activations transposed, scratch;
  if (status s = transposed.reshape(v.cols(), v.rows()); !s) return s;
  const matrix_view<float> vt = transposed.view();
  for_rows(vt.rows(), context.threads, [&](std::size_t first, std::size_t count) {
    for (std::size_t r = 0; r < v.rows(); ++r)
      for (std::size_t c = first; c < first + count; ++c) vt(c, r) = v(r, c);
  });
  const std::size_t tasks = blocks.size() * rule.heads, workers = std::max<std::size_t>(1, std::min(context.threads, tasks));
  if (status s = scratch.reshape(workers, room); !s) return s;
  parallel_for(tasks, workers, [&](std::size_t worker, std::size_t task) {
    const block& b = blocks[task / rule.heads];
    const std::size_t head = task % rule.heads, kv = head / (rule.heads / rule.kv_heads);
    const std::size_t first_key = detail::first_visible(rule, b.first), keys = b.last - first_key, rows = b.last - b.first;
    const matrix_view<const float> queries{q.row(b.base + b.first) + head * rule.head_dim, rows, rule.head_dim, q.stride()};
    const matrix_view<const float> seen{k.row(b.base + first_key) + kv * rule.head_dim, keys, rule.head_dim, k.stride()};
    const matrix_view<float> scores{scratch.row(worker), rows, keys};
    context.one_thread(queries, seen, scores);
    const float sink = rule.sinks.empty() ? -std::numeric_limits<float>::infinity() : rule.sinks[head];
    for (std::size_t r = 0; r < rows; ++r) {
      const std::size_t p = b.first + r, begin = detail::first_visible(rule, p) - first_key, end = p + 1 - first_key;
      float* s = scores.row(r);
      detail::softmax_row(s + begin, end - begin, rule.scale, rule.softcap, sink);
      std::fill(s, s + begin, 0.0f);
      std::fill(s + end, s + keys, 0.0f);
    }
    const matrix_view<const float> values{vt.row(kv * rule.value_dim) + b.base + first_key, rule.value_dim, keys, vt.stride()};
    context.one_thread(matrix_view<const float>{scores}, values,
                       {out.row(b.base + b.first) + head * rule.value_dim, rows, rule.value_dim, out.stride()});
    return true;
  });
  return {};
}

QLIB_INLINE status attention_block::load(const layer_context& context) {
  const attention_description& a = context.model.attention;
  const auto gain = [&](const std::string& name, std::vector<float>& to) {
    return read_constants(context.source, context.name(name) + ".weight", 0, to);
  };
  if (a.latent) {
    const latent_attention& l = *a.latent;
    inputs_.add(context.name(l.query_rank ? "self_attn.q_a_proj" : "self_attn.q_proj"));
    inputs_.add(context.name("self_attn.kv_a_proj_with_mqa"));
    if (l.indexer) {
      inputs_.add(context.name("self_attn.indexer.wk"), false);
      inputs_.add(context.name("self_attn.indexer.weights_proj"), false);
    }
    if (l.query_rank) {
      second_.add(context.name("self_attn.q_b_proj"));
      if (l.indexer) second_.add(context.name("self_attn.indexer.wq_b"), false);
      if (status s = gain("self_attn.q_a_layernorm", query_rank_gain_); !s) return s;
    }
    third_.add(context.name("self_attn.kv_b_proj"));
    if (status s = gain("self_attn.kv_a_layernorm", kv_rank_gain_); !s) return s;
  } else if (!a.fused.empty()) {
    inputs_.add(context.name(a.fused));
  } else {
    for (const std::string* module : {&a.query, &a.key, &a.value}) inputs_.add(context.name(*module));
  }
  if (!a.gate.empty()) inputs_.add(context.name(a.gate));
  output_.add(context.name(a.output));
  if (a.norm == query_key_norm::l2) query_norm_ = key_norm_ = {.active = true, .eps = context.model.eps};
  else if (a.norm != query_key_norm::none) {
    if (status s = read_norm(context.model, context.source, context.name(a.query_norm), query_norm_); !s) return s;
    if (status s = read_norm(context.model, context.source, context.name(a.key_norm), key_norm_); !s) return s;
  }
  if (!a.sinks.empty())
    if (status s = read_constants(context.source, context.name(a.sinks), 0, sinks_); !s) return s;
  for (linear_group* group : {&inputs_, &second_, &third_, &output_})
    if (status s = group->load(context.source); !s) return s;
  if (!a.latent) return {};
  latent_ = context.hook.use_of_latent(module_of(context));
  return latent_ == latent_use::expanded ? status{} : absorb_weights(context);
}

QLIB_INLINE status attention_block::project(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x) {
  const attention_description& a = context.model.attention;
  if (a.latent) return project_latent(context, chunk, x);
  if (!a.fused.empty()) return project_fused(context, chunk, x);
  if (status s = inputs_.apply(context, x, chunk, 0, a.output_gate ? scratch_ : q_); !s) return s;
  if (status s = inputs_.apply(context, x, chunk, 1, k_); !s) return s;
  if (status s = inputs_.apply(context, x, chunk, 2, v_); !s) return s;
  if (!a.gate.empty()) return inputs_.apply(context, x, chunk, 3, gate_);
  if (!a.output_gate) return {};
  if (status s = q_.reshape(x.rows(), a.heads * a.head_dim); !s) return s;
  if (status s = gate_.reshape(x.rows(), a.heads * a.head_dim); !s) return s;
  split_gate(context);
  return {};
}

QLIB_INLINE void attention_block::split_gate(const layer_context& context) {
  const attention_description& a = context.model.attention;
  for_rows(q_.view().rows(), context.threads, [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r)
      for (std::size_t h = 0; h < a.heads; ++h) {
        const float* from = scratch_.row(r) + h * 2 * a.head_dim;
        std::copy_n(from, a.head_dim, q_.row(r) + h * a.head_dim);
        std::copy_n(from + a.head_dim, a.head_dim, gate_.row(r) + h * a.head_dim);
      }
  });
}

QLIB_INLINE status attention_block::project_fused(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x) {
  const attention_description& a = context.model.attention;
  const std::size_t d = a.head_dim, group = a.heads / a.kv_heads;
  if (status s = inputs_.apply(context, x, chunk, 0, scratch_); !s) return s;
  if (status s = q_.reshape(x.rows(), a.heads * d); !s) return s;
  if (status s = k_.reshape(x.rows(), a.kv_heads * d); !s) return s;
  if (status s = v_.reshape(x.rows(), a.kv_heads * d); !s) return s;
  for_rows(x.rows(), context.threads, [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      const float* from = scratch_.row(r);
      if (a.rows == fused_rows::concatenated) {
        std::copy_n(from, a.heads * d, q_.row(r));
        std::copy_n(from + a.heads * d, a.kv_heads * d, k_.row(r));
        std::copy_n(from + (a.heads + a.kv_heads) * d, a.kv_heads * d, v_.row(r));
        continue;
      }
      for (std::size_t kv = 0; kv < a.kv_heads; ++kv, from += (group + 2) * d) {
        std::copy_n(from, group * d, q_.row(r) + kv * group * d);
        std::copy_n(from + group * d, d, k_.row(r) + kv * d);
        std::copy_n(from + (group + 1) * d, d, v_.row(r) + kv * d);
      }
    }
  });
  return {};
}

QLIB_INLINE status attention_block::project_latent(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x) {
  const attention_description& a = context.model.attention;
  const latent_attention& l = *a.latent;
  const std::size_t rope_dim = a.head_dim - l.nope_dim;
  if (l.query_rank) {
    if (status s = inputs_.apply(context, x, chunk, 0, compressed_); !s) return s;
  } else if (status s = inputs_.apply(context, x, chunk, 0, q_); !s) {
    return s;
  }
  if (status s = inputs_.apply(context, x, chunk, 1, scratch_); !s) return s;
  for (std::size_t i = 2; i < inputs_.size(); ++i) (void)inputs_.show(context, x, chunk, i);
  if (l.query_rank) {
    rms_norm_runs(compressed_.view(), l.query_rank, query_rank_gain_, l.eps);
    if (status s = second_.apply(context, compressed_.view(), chunk, 0, q_); !s) return s;
    if (l.indexer) (void)second_.show(context, compressed_.view(), chunk, 1);
  }
  // The compressed keys and values, then the rotated channels that all heads share.
  if (status s = compressed_.reshape(x.rows(), l.kv_rank); !s) return s;
  for (std::size_t r = 0; r < x.rows(); ++r) rms_norm(scratch_.row(r), kv_rank_gain_, l.eps, compressed_.row(r), l.kv_rank);
  if (latent_ == latent_use::absorbed) return keep_latent(context, chunk);
  if (status s = third_.apply(context, compressed_.view(), chunk, 0, mixed_); !s) return s;
  if (status s = k_.reshape(x.rows(), a.heads * a.head_dim); !s) return s;
  if (status s = v_.reshape(x.rows(), a.heads * a.value_dim); !s) return s;
  for_rows(x.rows(), context.threads, [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r)
      for (std::size_t h = 0; h < a.heads; ++h) {
        const float* from = mixed_.row(r) + h * (l.nope_dim + a.value_dim);
        std::copy_n(from, l.nope_dim, k_.row(r) + h * a.head_dim);
        std::copy_n(scratch_.row(r) + l.kv_rank, rope_dim, k_.row(r) + h * a.head_dim + l.nope_dim);
        std::copy_n(from + l.nope_dim, a.value_dim, v_.row(r) + h * a.value_dim);
      }
  });
  return {};
}

QLIB_INLINE void attention_block::norm_heads(const layer_context& context) {
  const attention_description& a = context.model.attention;
  for_rows(q_.view().rows(), context.threads, [&](std::size_t first, std::size_t count) {
    const bool whole = a.norm == query_key_norm::whole;
    query_norm_.apply_runs(q_.view().strip(first, count), whole ? q_.view().cols() : a.head_dim);
    key_norm_.apply_runs(k_.view().strip(first, count), whole ? k_.view().cols() : a.head_dim);
  });
}

QLIB_INLINE const rope_table& attention_block::table_for(const layer_context& context, std::size_t tokens) {
  const rope_description& rope = context.model.attention.ropes[*context.layer.rope];
  if (tokens > table_length_ || rope_depends_on_length(rope, tokens, table_length_)) {
    table_ = make_rope_table(rope, tokens);
    table_length_ = tokens;
  }
  return table_;
}

QLIB_INLINE void attention_block::encode_positions(const layer_context& context, const sample_chunk& chunk) {
  const attention_description& a = context.model.attention;
  for (std::size_t s = 0; s < chunk.samples(); ++s) {
    const std::size_t begin = chunk.starts[s], length = chunk.starts[s + 1] - begin;
    if (length == 0) continue;
    const std::size_t nope = a.latent ? a.latent->nope_dim : 0;
    const rope_table* table = context.layer.rope ? &table_for(context, length) : nullptr;
    for_rows(length, context.threads, [&](std::size_t first, std::size_t count) {
      for (const auto& x : {q_.view(), k_.view()}) {
        if (table) apply_rope(*table, a.style, {x.row(begin + first) + nope, count, x.cols() - nope, x.stride()}, a.head_dim, first);
      }
      if (a.floor_scale == 0 || (table && !a.scale_all_layers)) return;
      for (std::size_t r = first; r < first + count; ++r) {
        const float step = std::floor((static_cast<float>(r) + a.floor_offset) / a.floor_scale);
        const float scale = static_cast<float>(std::log1p(static_cast<double>(step))) * a.attn_scale + 1.0f;
        for (std::size_t c = 0; c < q_.view().cols(); ++c) q_.row(begin + r)[c] *= scale;
      }
    });
  }
}

QLIB_INLINE std::string attention_block::module_of(const layer_context& context) {
  const std::string output = context.name(context.model.attention.output);
  return output.substr(0, output.rfind('.'));
}

QLIB_INLINE attention_rule attention_block::rule_of(const layer_context& context) const {
  const attention_description& a = context.model.attention;
  return {.heads = a.heads,
          .kv_heads = a.kv_heads,
          .head_dim = a.head_dim,
          .value_dim = a.value_dim,
          .scale = a.scale,
          .softcap = a.softcap,
          .window = context.layer.window,
          .chunk = context.layer.chunk,
          .sinks = sinks_};
}

QLIB_INLINE status attention_block::run(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x, matrix_view<float> out) {
  const attention_description& a = context.model.attention;
  if (status s = project(context, chunk, x); !s) return s;
  const bool normed = a.norm != query_key_norm::none;
  if (normed && !a.norm_after_rope) norm_heads(context);
  if (a.clip != 0)
    for (const auto& part : {q_.view(), k_.view(), v_.view()})
      for (std::size_t r = 0; r < part.rows(); ++r)
        for (std::size_t c = 0; c < part.cols(); ++c) part(r, c) = std::clamp(part(r, c), -a.clip, a.clip);
  encode_positions(context, chunk);
  // Llama 4 norms only what it rotated.
  if (normed && a.norm_after_rope && (context.layer.rope || a.norm == query_key_norm::per_head)) norm_heads(context);
  if (latent_ != latent_use::expanded) {
    if (status s = show_latent(context, chunk); !s) return s;
  } else {
    context.hook.attention_input(context.index, module_of(context), q_.view(), k_.view(), v_.view(), chunk.starts, chunk.first_sample);
  }
  if (status s = mixed_.reshape(x.rows(), a.heads * a.value_dim); !s) return s;
  if (status s = latent_ == latent_use::absorbed ? attend_latent(context, chunk)
                                                 : attend(context, rule_of(context), q_.view(), k_.view(), v_.view(), chunk.starts, mixed_.view());
      !s)
    return s;
  if (a.output_gate || !a.gate.empty())
    for_rows(x.rows(), context.threads, [&](std::size_t first, std::size_t count) {
      for (std::size_t r = first; r < first + count; ++r)
        for (std::size_t c = 0; c < mixed_.view().cols(); ++c) mixed_.row(r)[c] *= elementary::sigmoid(gate_.row(r)[c]);
    });
  return output_.apply(context, mixed_.view(), chunk.starts, chunk.first_sample, 0, out);
}

}  // namespace qlib::inline v0
