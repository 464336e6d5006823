#pragma once
#include <qlib/config.hpp>

namespace qlib::inline v0 {

/// Which portions of the data may be observed apart and merged to equal observing the whole, bit for bit. Whatever the law, `merge` is
/// associative, so a fixed cut gives the same result on any number of threads.
enum class merge_law {
  elements,  ///< any cut of the tokens, merged in any order
  samples,   ///< any cut between samples, merged in any order
  sequence,  ///< any cut between samples, merged in the order of the samples
  portions,  ///< the cut itself matters: portions are joined by a rule of their own
};

/// What an observer declares as `static constexpr merge_law law`, with its default options; those that say nothing observe sets of elements.
template <class O>
inline constexpr merge_law merge_law_of = [] {
  if constexpr (requires { O::law; }) return O::law;
  else return merge_law::elements;
}();

}  // namespace qlib::inline v0
