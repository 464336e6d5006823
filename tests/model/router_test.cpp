#include <qlib/model/router.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace {

struct routed {
  std::vector<std::uint32_t> chosen;
  std::vector<float> weights;
};

routed route(const qlib::router_description& r, std::vector<float> logits, std::vector<float> bias = {}) {
  routed out{std::vector<std::uint32_t>(r.top_k), std::vector<float>(r.top_k)};
  qlib::route(r, {logits.data(), 1, logits.size()}, bias, {out.chosen.data(), 1, r.top_k}, {out.weights.data(), 1, r.top_k});
  return out;
}

using chosen = std::vector<std::uint32_t>;

}  // namespace

TEST_CASE("the router takes the best experts, of equal ones the lowest index") {
  const routed r = route({.experts = 5, .top_k = 3}, {1, 2, 2, 0, 2});
  CHECK(r.chosen == chosen{1, 2, 4});
  for (const float w : r.weights) CHECK(w == doctest::Approx(1.0 / 3));
}

TEST_CASE("weights of softmax routers are normalized only when the model says so") {
  const routed r = route({.experts = 3, .top_k = 1, .normalize = false, .scale = 2}, {0, 0, std::log(2.0f)});
  CHECK(r.chosen == chosen{2});
  CHECK(r.weights[0] == doctest::Approx(1.0));
  CHECK(route({.experts = 3, .top_k = 1}, {0, 0, 1}).weights[0] == doctest::Approx(1.0));
}

TEST_CASE("a correction bias decides what is chosen and not what it weighs") {
  const qlib::router_description sigmoid{.experts = 3, .top_k = 1, .score = qlib::router_score::sigmoid, .normalize = false};
  const routed r = route(sigmoid, {2, 0, -2}, {0, 0, 5});
  CHECK(r.chosen == chosen{2});
  CHECK(r.weights[0] == doctest::Approx(1 / (1 + std::exp(2.0))));
}

TEST_CASE("only experts of the best groups are chosen, by the largest member or by the two largest") {
  qlib::router_description r{.experts = 6, .top_k = 2, .score = qlib::router_score::sigmoid, .groups = 3, .top_groups = 1};
  const std::vector<float> logits{4, -9, 3, 3, 0, 0};
  CHECK(route(r, logits).chosen == chosen{2, 3});
  r.by = qlib::group_score::largest;
  CHECK(route(r, logits).chosen == chosen{0, 1});
  // Biased scores below zero: experts of other groups still never win.
  CHECK(route(r, logits, {-3, -9, -9, -9, -9, -9}).chosen == chosen{0, 1});
}

TEST_CASE("top-k routers weigh the chosen logits alone") {
  const routed softmax = route({.experts = 4, .top_k = 2, .score = qlib::router_score::top_k_softmax}, {9, 0, 9, 0});
  CHECK(softmax.chosen == chosen{0, 2});
  CHECK(softmax.weights[0] == doctest::Approx(0.5));
  CHECK(route({.experts = 2, .top_k = 1, .score = qlib::router_score::top_k_sigmoid}, {-1, 0}).weights[0] == doctest::Approx(0.5));
  const routed root = route({.experts = 2, .top_k = 1, .score = qlib::router_score::sqrt_softplus, .normalize = false}, {-1, 0});
  CHECK(root.weights[0] == doctest::Approx(std::sqrt(std::log(2.0))));
}

TEST_CASE("a NaN logit never wins while there are others") {
  CHECK(route({.experts = 3, .top_k = 2, .score = qlib::router_score::top_k_softmax}, {std::nanf(""), 1, 2}).chosen == chosen{2, 1});
}
