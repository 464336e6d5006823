// Every observer with every rounder, packer and backend, and every suppressor with every packer: what the concepts admit must compile and run.
// Suppressors meet the other stages in a transform alone; a product with all of them would compile for minutes.
#include "matrices.hpp"
#include "registered.hpp"

#include <qlib/quantize.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <type_traits>

namespace {

using namespace qlib;

const std::vector<quant_spec>& specs() {
  static const std::vector<quant_spec> all{int8_per_channel{},
                                           int8_per_channel{.rule = scale_rule::compressed_tensors, .symmetric = false},
                                           int4_per_channel{},
                                           int4_per_group{.group_size = 8},
                                           int4_per_group{.group_size = 8, .symmetric = false},
                                           fp8_per_channel{},
                                           quant_spec{.granularity = tile::per_tensor()},
                                           quant_spec{.granularity = tile::per_block(4, 8)},
                                           quant_spec{.num_bits = 4, .granularity = tile::per_block(3, 5)}};
  return all;
}

/// Statistics of independent inputs: enough for every policy.
struct independent_inputs {
  std::vector<float> absmax, low;
  law::matrix<float> gram, tokens;
  explicit independent_inputs(std::size_t channels)
      : absmax(channels, 1.0f), low(channels, -1.0f), gram{channels, channels}, tokens{law::gaussian<float>(4, channels, 9)} {
    for (std::size_t i = 0; i < channels; ++i) gram.view()(i, i) = 1;
  }
  statistics_view stats() const {
    return {.column_absmax = absmax,
            .column_min = low,
            .column_max = absmax,
            .column_mean = absmax,
            .inputs = tokens.view(),
            .gram = gram.view(),
            .tokens = 1};
  }
};

/// Runs all specs; the number of those that the packer stored.
template <class O, class S, class R, class P, class B, class T>
std::size_t run_all(const law::matrix<T>& w, const statistics_view& stats) {
  std::size_t stored = 0;
  for (const quant_spec& spec : specs()) {
    const auto q = quantize<O, R, P, S, B>(w.view(), spec, stats);
    const bool accepted = static_cast<bool>(P{}.accepts(spec, w.rows, w.cols));
    CHECK(static_cast<bool>(q) == accepted);
    if (!q) continue;
    ++stored;
    CHECK(q->bytes().size() == P{}.layout(spec, w.rows, w.cols).bytes());
    CHECK(q->scales().size() == grid_of(spec.granularity, w.rows, w.cols).tiles());
    CHECK(q->zero_points().size() == (spec.symmetric ? 0 : q->scales().size()));
    CHECK(std::ranges::all_of(q->scales(), [](float s) { return std::isfinite(s) && s > 0; }));
  }
  return stored;
}

}  // namespace

TEST_CASE("every combination of policies compiles, runs, and stores what its packer accepts") {
  const independent_inputs inputs{24};
  const auto run = [&]<class O, class S, class R, class P>(O, S, R, P) {
    CAPTURE(O::name);
    CAPTURE(S::name);
    CAPTURE(R::name);
    CAPTURE(P::name);
    CHECK(run_all<O, S, R, P, scalar_backend>(law::gaussian<float>(6, 24, 1), inputs.stats()) > 0);
    CHECK(run_all<O, S, R, P, native_backend>(law::gaussian<float>(6, 24, 2), inputs.stats()) > 0);
    CHECK(run_all<O, S, R, P, native_backend>(law::gaussian<bf16>(6, 24, 3), inputs.stats()) > 0);
    CHECK(run_all<O, S, R, P, native_backend>(law::gaussian<f16>(6, 24, 4), inputs.stats()) > 0);
  };
  law::for_each_policy<law::packers>([&](auto packer) {
    law::for_each_policy<law::observers>(
        [&](auto observer) { law::for_each_policy<law::rounders>([&](auto rounder) { run(observer, no_suppressor{}, rounder, packer); }); });
  });
  // A suppressor works on weights before the others see them: one of each is enough (the product of all is ten times the code).
  law::for_each_policy<law::suppressors>([&]<class S>(S) {
    CAPTURE(S::name);
    CHECK(run_all<minmax_observer, S, rtn_rounder, int8_packer, native_backend>(law::gaussian<float>(6, 24, 5), inputs.stats()) > 0);
  });
}

TEST_CASE("every registered policy is found by its name, and no other") {
  const auto check = []<class... Ts>(type_list<Ts...> list) {
    using list_type = decltype(list);
    CHECK(list_type::names().size() == sizeof...(Ts));
    const auto is_found = []<class P>(P) {
      const auto found = list_type::find(P::name);
      return found && std::holds_alternative<P>(*found);
    };
    CHECK((is_found(Ts{}) && ...));
    CHECK(!list_type::find(""));
    CHECK(!list_type::find("nothing"));
  };
  check(registry::observers{});
  check(registry::suppressors{});
  check(registry::rounders{});
  check(registry::packers{});
}

TEST_CASE("every option of a policy has a key and a help text") {
  const auto check = [](auto policy) {
    using options = typename decltype(policy)::options;
    for_each_field<options>([](const auto& f) {
      CHECK(!f.key.empty());
      CHECK(!f.help.empty());
    });
  };
  law::for_each_policy<law::observers>(check);
  law::for_each_policy<law::suppressors>(check);
  law::for_each_policy<law::rounders>(check);
  law::for_each_policy<law::packers>(check);
}
