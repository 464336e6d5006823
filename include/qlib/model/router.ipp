#pragma once
#include <qlib/linalg/elementary.hpp>
#include <qlib/model/router.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace qlib::inline v0 {

namespace detail {

/// Indices of the k largest values, the largest first, of equal ones the lowest index first.
inline void top_k(std::span<const float> values, std::size_t k, std::uint32_t* out) {
  std::vector<std::uint32_t> order(values.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::uint32_t>(i);
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k), order.end(),
                    [&](std::uint32_t a, std::uint32_t b) { return values[a] != values[b] ? values[a] > values[b] : a < b; });
  std::copy_n(order.begin(), k, out);
}

inline void softmax(std::span<float> x) {
  const float top = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (float& v : x) sum += static_cast<double>(v = elementary::exp(v - top));
  const float inverse = static_cast<float>(1.0 / sum);
  for (float& v : x) v *= inverse;
}

/// Scores of groups that lose become -infinity.
inline void keep_best_groups(const router_description& r, std::span<float> choice) {
  const std::size_t size = r.experts / r.groups;
  std::vector<float> by(r.groups);
  for (std::size_t g = 0; g < r.groups; ++g) {
    std::vector<float> members(choice.begin() + static_cast<std::ptrdiff_t>(g * size), choice.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
    std::sort(members.begin(), members.end(), std::greater<float>{});
    by[g] = members[0] + (r.by == group_score::two_largest && size > 1 ? members[1] : 0.0f);
  }
  std::vector<std::uint32_t> best(r.top_groups);
  top_k(by, r.top_groups, best.data());
  for (std::size_t g = 0; g < r.groups; ++g)
    if (std::find(best.begin(), best.end(), g) == best.end())
      std::fill_n(choice.begin() + static_cast<std::ptrdiff_t>(g * size), size, -std::numeric_limits<float>::infinity());
}

/// Two rounds: the largest logit, and its softmax among the logits close to it.
inline void mix_sparsely(const router_description& r, std::span<float> scores, std::uint32_t* chosen, float* weights) {
  std::vector<float> left(scores.begin(), scores.end()), near(scores.size());
  for (std::size_t round = 0; round < r.top_k; ++round) {
    const auto best = std::max_element(left.begin(), left.end());
    const float top = *best;
    for (std::size_t e = 0; e < near.size(); ++e) {
      const float by = std::max(std::abs(scores[e]), top);
      near[e] = (top - scores[e]) / by > 2 * r.jitter ? -std::numeric_limits<float>::infinity() : left[e];
    }
    softmax(near);
    chosen[round] = static_cast<std::uint32_t>(best - left.begin());
    weights[round] = near[chosen[round]];
    *best = -std::numeric_limits<float>::infinity();
  }
}

}  // namespace detail

QLIB_INLINE void route(const router_description& r, matrix_view<const float> logits, std::span<const float> bias, matrix_view<std::uint32_t> chosen,
                       matrix_view<float> weights) {
  std::vector<float> scores(r.experts), choice;
  for (std::size_t t = 0; t < logits.rows(); ++t) {
    std::copy_n(logits.row(t), r.experts, scores.begin());
    float* w = weights.row(t);
    // A NaN would make the order undefined: it never wins, and its token's weights stay NaN only if nothing else is left.
    for (float& v : scores) v = v == v ? v : -std::numeric_limits<float>::infinity();
    if (r.score == router_score::top_k_softmax || r.score == router_score::top_k_sigmoid) {
      detail::top_k(scores, r.top_k, chosen.row(t));
      for (std::size_t i = 0; i < r.top_k; ++i) w[i] = scores[chosen(t, i)];
      if (r.score == router_score::top_k_softmax) detail::softmax({w, r.top_k});
      else
        for (std::size_t i = 0; i < r.top_k; ++i) w[i] = elementary::sigmoid(w[i]);
      continue;
    }
    if (r.score == router_score::sparse_mixer) {
      detail::mix_sparsely(r, scores, chosen.row(t), w);
      continue;
    }
    if (r.score == router_score::softmax) detail::softmax(scores);
    for (float& v : scores) {
      if (r.score == router_score::sigmoid) v = elementary::sigmoid(v);
      if (r.score == router_score::sqrt_softplus) v = std::sqrt(elementary::softplus(v));
    }
    choice = scores;
    for (std::size_t e = 0; e < bias.size(); ++e) choice[e] += bias[e];
    if (r.groups > 1) detail::keep_best_groups(r, choice);
    detail::top_k(choice, r.top_k, chosen.row(t));
    float sum = 0;
    for (std::size_t i = 0; i < r.top_k; ++i) sum += w[i] = scores[chosen(t, i)];
    for (std::size_t i = 0; i < r.top_k; ++i) w[i] = (r.normalize ? w[i] / (sum + 1e-20f) : w[i]) * r.scale;
  }
}

}  // namespace qlib::inline v0
