#pragma once
#include <qlib/linalg/elementary.hpp>
#include <qlib/model/attention.hpp>
#include <qlib/model/decoder.hpp>
#include <qlib/model/delta_net.hpp>
#include <qlib/model/feed_forward.hpp>
#include <qlib/model/norm.hpp>
#include <qlib/model/parameter_check.hpp>

#include <algorithm>
#include <cmath>
#include <utility>

namespace qlib::inline v0 {

QLIB_INLINE errors decoder::create(model_description description, const parameter_source& source, const decoder_options& options, decoder& out) {
  adopt_names(source, description);
  errors found = check_parameters(description, source);
  if (!found.empty()) return found;
  out.model_ = std::move(description);
  out.source_ = &source;
  out.options_ = options;
  out.options_.threads = std::max<std::size_t>(1, options.threads);
  out.options_.gemm.threads = out.options_.threads;
  gemm_options single = out.options_.gemm;
  single.threads = 1;
  out.products_ = gemm{out.options_.gemm};
  out.one_thread_ = gemm{single};
  return {};
}

QLIB_INLINE status decoder::embed(std::span<const std::int32_t> ids, matrix_view<float> hidden, std::span<const std::size_t> rows_of_sample) const {
  const std::string name = model_.embedding + ".weight";
  float scale = static_cast<float>(model_.embedding_scale);
  // transformers rounds the factor to the dtype that the model runs in.
  if (options_.gemm.bf16_inputs) scale = round_to(source_->type(name).value_or(dtype::f32), scale);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::int32_t id = ids[i];
    if (id < 0 || static_cast<std::size_t>(id) >= model_.vocabulary)
      return error{.where = source_->where(),
                   .subject = "token " + std::to_string(i),
                   .problem = "id " + std::to_string(id) + " is not in the vocabulary of " + std::to_string(model_.vocabulary),
                   .remedy = "use the tokenizer of this model"};
    if (status s = source_->read(name, hidden.strip(i, 1), static_cast<std::size_t>(id)); !s) return s;
    if (scale != 1)
      for (std::size_t c = 0; c < hidden.cols(); ++c) hidden(i, c) *= scale;
  }
  if (model_.positions.empty()) return {};
  std::vector<float> row(hidden.cols());
  for (std::size_t i = 0, sample = 0, start = 0; i < ids.size(); ++i) {
    while (sample + 1 < rows_of_sample.size() && i >= rows_of_sample[sample + 1]) start = rows_of_sample[++sample];
    const std::size_t at = i - start + model_.first_position;
    if (status s = source_->read(model_.positions + ".weight", {row.data(), 1, row.size()}, at); !s) return s;
    for (std::size_t c = 0; c < row.size(); ++c) hidden(i, c) += row[c];
  }
  return {};
}

namespace detail {

/// y = norm of x, or a copy where the layer has none.
inline void normalize(matrix_view<const float> x, const norm_weights& norm, std::size_t threads, matrix_view<float> y) {
  for_rows(x.rows(), threads, [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r)
      if (norm.active) norm.apply(x.row(r), y.row(r), x.cols());
      else std::copy_n(x.row(r), x.cols(), y.row(r));
  });
}

/// x += scale * norm of y.
inline void add_branch(matrix_view<float> x, matrix_view<float> y, const norm_weights& norm, float scale, std::size_t threads) {
  for_rows(x.rows(), threads, [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      if (norm.active) norm.apply(y.row(r), y.row(r), y.cols());
      for (std::size_t c = 0; c < x.cols(); ++c) x(r, c) += scale == 1 ? y(r, c) : y(r, c) * scale;
    }
  });
}

}  // namespace detail

QLIB_INLINE status decoder::run_layer(std::size_t layer, matrix_view<float> hidden, std::span<const std::size_t> rows_of_sample,
                                      forward_hook& hook) const {
  const layer_description& l = model_.layers[layer];
  const layer_context context{model_, l, layer, *source_, products_, one_thread_, options_.threads, hook};
  const std::vector<sample_chunk> chunks = cut_samples(rows_of_sample, options_.chunk_tokens);
  for (std::size_t s = 0; s + 1 < rows_of_sample.size(); ++s)
    if (const std::size_t n = rows_of_sample[s + 1] - rows_of_sample[s]; model_.longest_sample && n > model_.longest_sample)
      return error{.where = source_->where(),
                   .subject = "sample " + std::to_string(s),
                   .problem = "has " + std::to_string(n) + " tokens; beyond " + model_.longest_sample_key + " = " +
                              std::to_string(model_.longest_sample) + " the model attends differently, which is not computed",
                   .remedy = "cut samples to " + std::to_string(model_.longest_sample) + " tokens"};
  const float scale = static_cast<float>(model_.residual_scale);
  norm_weights before, after, ff_before, ff_after;
  const std::pair<const std::string*, norm_weights*> norms[] = {{&model_.input_norm, &before},
                                                                {&model_.attention_output_norm, &after},
                                                                {&model_.feed_forward_norm, &ff_before},
                                                                {&model_.feed_forward_output_norm, &ff_after}};
  for (const auto& [name, to] : norms)
    if (status s = read_norm(model_, *source_, name->empty() ? "" : l.prefix + *name, *to); !s) return s;

  activations normed, branch, second_branch, expert_sum;
  experts_block experts;
  {
    attention_block attention;
    delta_net_block delta_net;
    feed_forward_block dense;
    if (status s = l.delta_net ? delta_net.load(context) : attention.load(context); !s) return s;
    if (l.experts) {
      if (status s = experts.load(context, hidden.rows()); !s) return s;
      if (status s = expert_sum.reshape(hidden.rows(), hidden.cols()); !s) return s;
    } else if (status s = dense.load(context, model_.feed_forward, {}); !s) {
      return s;
    }
    for (const sample_chunk& chunk : chunks) {
      const matrix_view<float> x = hidden.strip(chunk.first_row, chunk.rows());
      if (x.rows() == 0) continue;
      if (status s = normed.reshape(x.rows(), x.cols()); !s) return s;
      if (status s = branch.reshape(x.rows(), x.cols()); !s) return s;
      detail::normalize(x, before, options_.threads, normed.view());
      if (status s =
              l.delta_net ? delta_net.run(context, chunk, normed.view(), branch.view()) : attention.run(context, chunk, normed.view(), branch.view());
          !s)
        return s;
      if (!model_.parallel) detail::add_branch(x, branch.view(), after, scale, options_.threads);
      // A parallel block without a norm of its own reads what attention read.
      if (!model_.parallel || ff_before.active) detail::normalize(x, ff_before, options_.threads, normed.view());
      if (l.experts) {
        const matrix_view<float> sum = expert_sum.view().strip(chunk.first_row, chunk.rows());
        if (status s = experts.route_chunk(context, chunk, normed.view(), sum); !s) return s;
        if (model_.parallel) detail::add_branch(sum, branch.view(), after, 1, options_.threads);
        continue;
      }
      if (!model_.parallel) {
        if (status s = dense.run(context, chunk, normed.view(), branch.view()); !s) return s;
        detail::add_branch(x, branch.view(), ff_after, scale, options_.threads);
        continue;
      }
      if (status s = second_branch.reshape(x.rows(), x.cols()); !s) return s;
      if (status s = dense.run(context, chunk, normed.view(), second_branch.view()); !s) return s;
      detail::add_branch(x, branch.view(), after, scale, options_.threads);
      detail::add_branch(x, second_branch.view(), ff_after, scale, options_.threads);
    }
  }
  if (l.experts) {
    experts.release_shared();
    const norm_weights& norm = model_.parallel && !ff_before.active ? before : ff_before;
    if (status s = experts.run_experts(context, rows_of_sample, options_.chunk_tokens, hidden, norm, expert_sum.view()); !s) return s;
    detail::add_branch(hidden, expert_sum.view(), ff_after, scale, options_.threads);
  }
  return hook.ok();
}

QLIB_INLINE status decoder::logits(matrix_view<const float> hidden, matrix_view<float> out, forward_hook& hook) const {
  const layer_description none;
  const layer_context context{model_, none, model_.layers.size(), *source_, products_, one_thread_, options_.threads, hook};
  norm_weights norm;
  if (status s = read_norm(model_, *source_, model_.final_norm, norm); !s) return s;
  linear_group head;
  head.add(model_.tied ? model_.embedding : model_.head);
  if (status s = head.load(*source_); !s) return s;
  activations normed;
  for (std::size_t first = 0; first < hidden.rows(); first += options_.chunk_tokens) {
    const std::size_t count = std::min(options_.chunk_tokens, hidden.rows() - first);
    if (status s = normed.reshape(count, hidden.cols()); !s) return s;
    detail::normalize(hidden.strip(first, count), norm, options_.threads, normed.view());
    const matrix_view<float> y = out.strip(first, count);
    const std::size_t rows[] = {0, count};
    if (status s = head.apply(context, normed.view(), rows, 0, 0, y); !s) return s;
    if (model_.logit_scale == 1 && model_.final_softcap == 0) continue;
    for_rows(count, options_.threads, [&](std::size_t from, std::size_t n) {
      for (std::size_t r = from; r < from + n; ++r)
        for (std::size_t c = 0; c < y.cols(); ++c) {
          y(r, c) *= model_.logit_scale;
          if (model_.final_softcap != 0) y(r, c) = elementary::tanh(y(r, c) / model_.final_softcap) * model_.final_softcap;
        }
    });
  }
  return hook.ok();
}

QLIB_INLINE std::uint64_t decoder::peak_bytes(std::size_t layer, std::size_t tokens, std::size_t longest_sample, latent_use use) const {
  const layer_description& l = model_.layers[layer];
  const layer_sizes sizes = sizes_of_layer(model_, layer, *source_);
  const std::uint64_t rows = std::max<std::uint64_t>(std::min<std::uint64_t>(tokens, options_.chunk_tokens), longest_sample);
  const std::uint64_t keys = l.window && l.window < longest_sample ? std::min<std::uint64_t>(longest_sample, l.window + 256) : longest_sample;
  std::uint64_t activation = rows * sizes.activation_columns;
  if (!l.delta_net) activation += options_.threads * std::min<std::uint64_t>(256, longest_sample) * keys;
  if (const attention_description& a = model_.attention; a.latent && use != latent_use::expanded) {
    activation += a.heads * a.latent->kv_rank * (rows + a.latent->nope_dim);  // absorbed queries, and the weights that make them
    if (use == latent_use::absorbed) activation += rows * (a.heads + 4) * (a.latent->kv_rank + a.head_dim);
  }
  std::uint64_t routed = 0;
  if (l.experts) routed = std::uint64_t{tokens} * (model_.hidden_size + 2 * model_.experts.routing.top_k);
  return std::max(sizes.resident_bytes, sizes.expert_bytes) + (activation + routed) * sizeof(float);
}

QLIB_INLINE double decoder::flops(std::size_t layer, std::span<const std::size_t> rows_of_sample) const {
  const layer_description& l = model_.layers[layer];
  const layer_sizes sizes = sizes_of_layer(model_, layer, *source_);
  const attention_description& a = model_.attention;
  const delta_net_description& g = model_.delta_net;
  double sum = 0;
  for (std::size_t s = 0; s + 1 < rows_of_sample.size(); ++s) {
    const double n = static_cast<double>(rows_of_sample[s + 1] - rows_of_sample[s]);
    const double span = static_cast<double>(std::max(l.window, l.chunk));
    const double seen = span > 0 && span < n ? n * span : n * (n + 1) / 2;  // pairs of query and key
    sum += 2 * n * (static_cast<double>(sizes.dense_weights) + static_cast<double>(sizes.expert_weights));
    if (l.delta_net) sum += n * 7 * static_cast<double>(g.value_heads * g.key_dim * g.value_dim);
    else sum += 2 * seen * static_cast<double>(a.heads * (a.head_dim + a.value_dim));
  }
  return sum;
}

}  // namespace qlib::inline v0
