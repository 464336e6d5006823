// Whether two functions are the same to the calling convention: each type is reduced to void, pointer, bool, or a size of integer or float.
#pragma once
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/functions.hpp>

#include <type_traits>

namespace abi {

enum class kind { empty, pointer, boolean, integer1, integer2, integer4, integer8, float4, float8, other };

template <class T>
constexpr kind kind_of() {
  if constexpr (std::is_void_v<T>) return kind::empty;
  else if constexpr (std::is_pointer_v<T>) return kind::pointer;
  else if constexpr (std::is_same_v<std::remove_cv_t<T>, bool>) return kind::boolean;
  else if constexpr (std::is_integral_v<T> || std::is_enum_v<T>)
    return sizeof(T) == 1 ? kind::integer1 : sizeof(T) == 2 ? kind::integer2 : sizeof(T) == 4 ? kind::integer4 : kind::integer8;
  else if constexpr (std::is_floating_point_v<T>) return sizeof(T) == 4 ? kind::float4 : kind::float8;
  else return kind::other;
}

/// A function type without what does not reach the calling convention.
template <class F>
struct bare {
  using type = F;
};
template <class R, class... P>
struct bare<R (*)(P...) noexcept> {
  using type = R (*)(P...);
};

template <class A, class B>
inline constexpr bool same_types = false;

template <class R, class... P, class S, class... Q>
inline constexpr bool same_types<R (*)(P...), S (*)(Q...)> = [] {
  if constexpr (sizeof...(P) != sizeof...(Q)) return false;
  else return kind_of<R>() == kind_of<S>() && ((kind_of<P>() == kind_of<Q>()) && ... && true);
}();

template <class A, class B>
inline constexpr bool same_signature = same_types<typename bare<A>::type, typename bare<B>::type>;

/// Never defined: the compiler's complaint about it shows both types.
template <class Theirs, class Ours>
struct show;
template <long long Value>
struct number;

}  // namespace abi
