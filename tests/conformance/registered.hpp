// The registry's lists in the form that doctest takes: a policy is tested by being registered.
#pragma once
#include <qlib/registry.hpp>

#include <tuple>

namespace law {

template <class List>
struct tuple_of;
template <class... Ts>
struct tuple_of<qlib::type_list<Ts...>> {
  using type = std::tuple<Ts...>;
};

using observers = tuple_of<qlib::registry::observers>::type;
using suppressors = tuple_of<qlib::registry::suppressors>::type;
using rounders = tuple_of<qlib::registry::rounders>::type;
using packers = tuple_of<qlib::registry::packers>::type;

/// Calls visit(Policy{}) for each policy of a tuple.
template <class Tuple, class Visitor>
void for_each_policy(Visitor visit) {
  std::apply([&](auto... policy) { (visit(policy), ...); }, Tuple{});
}

}  // namespace law
