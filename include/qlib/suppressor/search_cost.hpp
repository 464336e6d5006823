/// What a suppressor's search computes, for forecasts.
#pragma once
#include <qlib/suppressor/smoothing_group.hpp>

#include <cstddef>

namespace qlib::inline v0 {

/// A policy that searches says how many transforms it computes the output_error of, the identity among them, in `tried()`: each costs a product with
/// every linear of `searched(group)`, which is the group itself where a policy does not have it.
template <class S>
std::size_t tried_by(const S& policy) {
  if constexpr (requires { policy.tried(); }) return policy.tried();
  else return 0;
}
template <class S>
smoothing_group searched_by(const S& policy, const smoothing_group& group) {
  if constexpr (requires { policy.searched(group); }) return policy.searched(group);
  else return group;
}

}  // namespace qlib::inline v0
