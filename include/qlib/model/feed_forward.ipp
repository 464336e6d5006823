#pragma once
#include <qlib/linalg/elementary.hpp>
#include <qlib/model/feed_forward.hpp>
#include <qlib/model/norm.hpp>

#include <algorithm>

namespace qlib::inline v0 {

QLIB_INLINE status feed_forward_block::load(const layer_context& context, const feed_forward_description& f, const std::string& prefix,
                                            const std::vector<std::string>& others) {
  inputs_ = {};
  down_ = {};
  activation_ = f.activation;
  fused_ = !f.fused.empty();
  gated_ = f.gated();
  others_ = others.size();
  const auto name = [&](const std::string& below) { return context.name(prefix + below); };
  for (const std::string& module : others) inputs_.add(module);
  if (fused_) {
    inputs_.add(name(f.fused));
  } else {
    if (gated_) inputs_.add(name(f.gate));
    inputs_.add(name(f.up));
  }
  down_.add(name(f.down));
  if (!f.activation_constants.empty()) {
    std::vector<float> positive, negative;
    if (status s = read_constants(context.source, name(f.activation_constants) + "alpha_p", 0, positive); !s) return s;
    if (status s = read_constants(context.source, name(f.activation_constants) + "alpha_n", 0, negative); !s) return s;
    xielu_ = xielu_constants::from_stored(positive[0], negative[0]);
  }
  if (status s = inputs_.load(context.source); !s) return s;
  return down_.load(context.source);
}

QLIB_INLINE status feed_forward_block::other(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x, std::size_t i,
                                             activations& y) {
  return inputs_.apply(context, x, chunk, i, y);
}

QLIB_INLINE status feed_forward_block::run(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x,
                                           matrix_view<float> out) {
  if (status s = inputs_.apply(context, x, chunk, others_, gate_); !s) return s;
  const bool two = gated_ && !fused_;
  if (two)
    if (status s = inputs_.apply(context, x, chunk, others_ + 1, up_); !s) return s;
  const std::size_t width = fused_ ? gate_.view().cols() / 2 : gate_.view().cols();
  for_rows(x.rows(), context.threads, [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      if (!gated_) activate_alone(activation_, xielu_, gate_.row(r), width);
      else activate(activation_, gate_.row(r), two ? up_.row(r) : gate_.row(r) + width, gate_.row(r), width);
    }
  });
  const matrix_view<const float> joined{gate_.row(0), x.rows(), width, gate_.view().stride()};
  return down_.apply(context, joined, chunk.starts, chunk.first_sample, 0, out);
}

QLIB_INLINE status experts_block::load(const layer_context& context, std::size_t tokens) {
  const experts_description& e = context.model.experts;
  if (!e.correction_bias.empty())
    if (status s = read_constants(context.source, context.name(e.correction_bias), 0, bias_); !s) return s;
  chosen_.resize(tokens * e.routing.top_k);
  weights_.resize(tokens * e.routing.top_k);
  std::vector<std::string> others{context.name(e.router)};
  if (!e.shared_gate.empty()) others.push_back(context.name(e.shared_gate));
  if (e.shared.empty()) {
    for (std::string& module : others) alone_.add(std::move(module));
    return alone_.load(context.source);
  }
  return shared_.load(context, e.shared_block, e.shared, others);
}

QLIB_INLINE void experts_block::release_shared() {
  shared_ = {};
  alone_.release();
}

QLIB_INLINE status experts_block::route_chunk(const layer_context& context, const sample_chunk& chunk, matrix_view<const float> x,
                                              matrix_view<float> out) {
  const experts_description& e = context.model.experts;
  const std::size_t k = e.routing.top_k;
  if (status s = e.shared.empty() ? alone_.apply(context, x, chunk, 0, logits_) : shared_.other(context, chunk, x, 0, logits_); !s) return s;
  for_rows(x.rows(), context.threads, [&](std::size_t first, std::size_t count) {
    const std::size_t at = (chunk.first_row + first) * k;
    route(e.routing, logits_.view().strip(first, count), bias_, {chosen_.data() + at, count, k}, {weights_.data() + at, count, k});
  });
  if (e.shared.empty()) {
    for (std::size_t r = 0; r < out.rows(); ++r) std::fill_n(out.row(r), out.cols(), 0.0f);
    return {};
  }
  if (!e.shared_gate.empty())
    if (status s = shared_.other(context, chunk, x, 1, gate_); !s) return s;
  if (status s = shared_.run(context, chunk, x, out); !s) return s;
  if (!e.shared_gate.empty())
    for (std::size_t r = 0; r < out.rows(); ++r) {
      const float scale = elementary::sigmoid(*gate_.row(r));
      for (std::size_t c = 0; c < out.cols(); ++c) out(r, c) *= scale;
    }
  return {};
}

QLIB_INLINE status experts_block::run_experts(const layer_context& context, std::span<const std::size_t> rows_of_sample, std::size_t chunk_tokens,
                                              matrix_view<const float> hidden, const norm_weights& norm, matrix_view<float> out) {
  const experts_description& e = context.model.experts;
  const std::size_t k = e.routing.top_k, samples = rows_of_sample.size() - 1;
  for (std::size_t expert = 0; expert < e.routing.experts; ++expert) {
    struct visit {
      std::size_t row;
      float weight;
    };
    std::vector<visit> visits;
    std::vector<std::size_t> first_visit(samples + 1);
    for (std::size_t s = 0; s < samples; ++s) {
      for (std::size_t at = rows_of_sample[s] * k; at < rows_of_sample[s + 1] * k; ++at)
        if (chosen_[at] == expert) visits.push_back({at / k, weights_[at]});
      first_visit[s + 1] = visits.size();
    }
    if (visits.empty()) continue;
    feed_forward_block block;
    if (status s = block.load(context, e.block, numbered(e.expert, expert)); !s) return s;
    for (const sample_chunk& chunk : cut_samples(first_visit, chunk_tokens)) {
      if (chunk.rows() == 0) continue;
      if (status s = rows_.reshape(chunk.rows(), hidden.cols()); !s) return s;
      if (status s = results_.reshape(chunk.rows(), hidden.cols()); !s) return s;
      const visit* here = visits.data() + chunk.first_row;
      for_rows(chunk.rows(), context.threads, [&](std::size_t first, std::size_t count) {
        for (std::size_t r = first; r < first + count; ++r) {
          float* x = rows_.row(r);
          if (norm.active) norm.apply(hidden.row(here[r].row), x, hidden.cols());
          else std::copy_n(hidden.row(here[r].row), hidden.cols(), x);
          if (e.scale_input)
            for (std::size_t c = 0; c < hidden.cols(); ++c) x[c] *= here[r].weight;
        }
      });
      if (status s = block.run(context, chunk, rows_.view(), results_.view()); !s) return s;
      for_rows(chunk.rows(), context.threads, [&](std::size_t first, std::size_t count) {
        for (std::size_t r = first; r < first + count; ++r) {
          const float* y = results_.row(r);
          float* to = out.row(here[r].row);
          const float weight = e.scale_input ? 1.0f : here[r].weight;
          for (std::size_t c = 0; c < out.cols(); ++c) to[c] += weight * y[c];
        }
      });
    }
  }
  return {};
}

}  // namespace qlib::inline v0
