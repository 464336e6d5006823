/// The timing loop of the rows in bench/: a bound and a case in turn, so that both meet the same clock and neighbours.
#pragma once
#include "bound.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <vector>

namespace bench {

/// Medians of the rounds, in seconds.
struct turns {
  double bound = 0, work = 0;
  double fastest = 0;  ///< of the work
};

/// Each iteration of `state` times the bound and then the work, which are called without arguments and return seconds. Sets the counters
/// share_of_bound (median of rounds), share_at_best (fastest bound by fastest work) and bound_ms.
template <class Bound, class Work>
turns in_turn(benchmark::State& state, Bound bound, Work work) {
  std::vector<double> shares, bounds, times;
  for (auto _ : state) {
    bounds.push_back(bound());
    times.push_back(work());
    shares.push_back(bounds.back() / times.back());
    state.SetIterationTime(times.back());
  }
  const turns found{median(bounds), median(times), *std::min_element(times.begin(), times.end())};
  state.counters["share_of_bound"] = median(shares);
  state.counters["share_at_best"] = *std::min_element(bounds.begin(), bounds.end()) / found.fastest;
  state.counters["bound_ms"] = 1e3 * found.bound;
  return found;
}

}  // namespace bench
