/// Latent attention in absorbed form: scores = (q_nope W_UK) . latent + q_rope . k_rope, output = (probabilities latent) W_UV, where W_UK and
/// W_UV are a head's key and value rows of kv_b_proj. The same function as on expanded heads, on what engines cache.
#pragma once
#include <qlib/model/attention.ipp>

#include <algorithm>
#include <variant>

namespace qlib::inline v0 {

namespace detail {

/// Tasks of (head, rows [first, first + count)), so that neither heads nor rows decide how many threads work.
template <class Work>
void for_heads(std::size_t rows, std::size_t heads, std::size_t threads, Work&& work) {
  const std::size_t blocks = (rows + query_block - 1) / query_block;
  parallel_for(blocks * heads, threads, [&](std::size_t, std::size_t task) {
    const std::size_t first = task / heads * query_block;
    work(task % heads, first, std::min(query_block, rows - first));
    return true;
  });
}

}  // namespace detail

QLIB_INLINE status attention_block::absorb_weights(const layer_context& context) {
  const attention_description& a = context.model.attention;
  const latent_attention& l = *a.latent;
  if (status s = key_weights_.reshape(a.heads * l.kv_rank, l.nope_dim); !s) return s;
  std::visit(
      [&](auto w) {
        parallel_for(a.heads, context.threads, [&](std::size_t, std::size_t h) {
          for (std::size_t d = 0; d < l.nope_dim; ++d)
            for (std::size_t c = 0; c < l.kv_rank; ++c) key_weights_.row(h * l.kv_rank + c)[d] = to_float(w(h * (l.nope_dim + a.value_dim) + d, c));
          return true;
        });
      },
      third_.weight(0).weight());
  return {};
}

/// Instead of expanded keys and values: the compressed vector as kv_b_proj reads it, and one head of keys whose rotary channels alone are used.
QLIB_INLINE status attention_block::keep_latent(const layer_context& context, const sample_chunk& chunk) {
  const attention_description& a = context.model.attention;
  const latent_attention& l = *a.latent;
  const std::size_t rows = chunk.rows(), rope_dim = a.head_dim - l.nope_dim;
  for (activations* to : {&cached_keys_, &cached_values_})
    if (status s = to->reshape(rows, l.kv_rank); !s) return s;
  if (status s = k_.reshape(rows, a.head_dim); !s) return s;
  const matrix_view<const float> latent = third_.show(context, compressed_.view(), chunk, 0);
  for_rows(rows, context.threads, [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      std::copy_n(latent.row(r), l.kv_rank, cached_keys_.row(r));
      std::copy_n(latent.row(r), l.kv_rank, cached_values_.row(r));
      std::fill_n(k_.row(r), l.nope_dim, 0.0f);
      std::copy_n(scratch_.row(r) + l.kv_rank, rope_dim, k_.row(r) + l.nope_dim);
    }
  });
  return {};
}

QLIB_INLINE status attention_block::show_latent(const layer_context& context, const sample_chunk& chunk) {
  const attention_description& a = context.model.attention;
  const latent_attention& l = *a.latent;
  const matrix_view<const float> q = q_.view();
  if (status s = absorbed_.reshape(q.rows(), a.heads * l.kv_rank); !s) return s;
  const matrix_view<float> queries = absorbed_.view();
  const matrix_view<const float> weights = key_weights_.view();
  detail::for_heads(q.rows(), a.heads, context.threads, [&](std::size_t h, std::size_t first, std::size_t count) {
    context.one_thread(matrix_view<const float>{q.row(first) + h * a.head_dim, count, l.nope_dim, q.stride()},
                       weights.strip(h * l.kv_rank, l.kv_rank), {queries.row(first) + h * l.kv_rank, count, l.kv_rank, queries.stride()});
  });
  const bool own = latent_ == latent_use::absorbed;
  context.hook.latent_input(module_of(context), {.query = queries,
                                                 .key = (own ? cached_keys_ : compressed_).view(),
                                                 .value = (own ? cached_values_ : compressed_).view(),
                                                 .rows_of_sample = chunk.starts,
                                                 .first_sample = chunk.first_sample});
  return {};
}

/// mixed_: [tokens, heads * value_dim]. A bias of the key rows adds the same to all scores of a query, which softmax does not see.
QLIB_INLINE status attention_block::attend_latent(const layer_context& context, const sample_chunk& chunk) {
  const attention_description& a = context.model.attention;
  const latent_attention& l = *a.latent;
  const std::size_t rows = chunk.rows(), rope_dim = a.head_dim - l.nope_dim, width = l.kv_rank + rope_dim;
  if (status s = joined_.reshape(rows, a.heads * width); !s) return s;
  activations keys;
  if (status s = keys.reshape(rows, width); !s) return s;
  for_rows(rows, context.threads, [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      for (std::size_t h = 0; h < a.heads; ++h) {
        float* to = std::copy_n(absorbed_.row(r) + h * l.kv_rank, l.kv_rank, joined_.row(r) + h * width);
        std::copy_n(q_.row(r) + h * a.head_dim + l.nope_dim, rope_dim, to);
      }
      float* to = std::copy_n(cached_keys_.row(r), l.kv_rank, keys.row(r));
      std::copy_n(k_.row(r) + l.nope_dim, rope_dim, to);
    }
  });
  attention_rule rule = rule_of(context);
  rule.kv_heads = 1;
  rule.head_dim = width;
  rule.value_dim = l.kv_rank;
  // The queries are copied: their memory takes what the probabilities make of the cache.
  const matrix_view<float> sums = absorbed_.view();
  if (status s = attend(context, rule, joined_.view(), keys.view(), cached_values_.view(), chunk.starts, sums); !s) return s;
  const std::vector<float>& bias = third_.weight(0).bias;
  std::visit(
      [&](auto w) {
        detail::for_heads(rows, a.heads, context.threads, [&](std::size_t h, std::size_t first, std::size_t count) {
          const std::size_t row = h * (l.nope_dim + a.value_dim) + l.nope_dim;
          const matrix_view<float> out{mixed_.row(first) + h * a.value_dim, count, a.value_dim, mixed_.view().stride()};
          context.one_thread(matrix_view<const float>{sums.row(first) + h * l.kv_rank, count, l.kv_rank, sums.stride()}, w.strip(row, a.value_dim),
                             out);
          if (bias.empty()) return;
          for (std::size_t r = 0; r < count; ++r)
            for (std::size_t c = 0; c < a.value_dim; ++c) out(r, c) += bias[row + c];
        });
      },
      third_.weight(0).weight());
  return {};
}

}  // namespace qlib::inline v0
