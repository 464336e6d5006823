/// From a policy's name and options in a recipe to the policy itself.
#pragma once
#include <qlib/core/field.hpp>
#include <qlib/core/status.hpp>
#include <qlib/recipe/recipe.hpp>

#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

namespace qlib::inline v0 {

namespace detail {

template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;

/// An optional's own words for "none": auto, none, null.
template <class T>
std::optional<T> value_of(std::string_view text) {
  if constexpr (is_optional<T>) {
    if (text == "auto" || text == "none" || text == "None" || text == "null") return T{};
    if (auto value = value_of<typename T::value_type>(text)) return T{*value};
    return std::nullopt;
  } else if constexpr (std::is_same_v<T, bool>) {
    if (text == "true" || text == "True" || text == "1") return true;
    if (text == "false" || text == "False" || text == "0") return false;
    return std::nullopt;
  } else if constexpr (std::is_arithmetic_v<T>) {
    T value{};
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failure != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    if constexpr (std::is_floating_point_v<T>)
      if (!std::isfinite(value)) return std::nullopt;  // from_chars reads nan and inf
    return value;
  } else {
    return T{text};
  }
}

template <class Options>
std::optional<error> set_options(Options& out, const policy_choice& choice, const std::string& where) {
  for (const auto& option : choice.options) {
    const std::string &key = option.first, &text = option.second;
    bool known = false, good = false;
    std::string keys;
    for_each_field<Options>([&](const auto& f) {
      keys += (keys.empty() ? "" : ", ") + std::string{f.key};
      if (f.key != key) return;
      known = true;
      if (auto value = value_of<std::remove_reference_t<decltype(out.*f.member)>>(text)) {
        out.*f.member = *value;
        good = true;
      }
    });
    if (!known)
      return error{.where = where,
                   .subject = choice.name,
                   .problem = "has no option '" + key + "'",
                   .remedy = keys.empty() ? "it has none" : "known options: " + keys};
    if (!good)
      return error{.where = where,
                   .subject = choice.name + "." + key,
                   .problem = "'" + text + "' is no value of it",
                   .remedy = "write a value of its kind, as the default is"};
  }
  return std::nullopt;
}

}  // namespace detail

/// The policy of `List` (registry.hpp) that `choice` names, with its options. `kind` is what errors call it: "observer". Errors: no such policy or
/// option, a value that is none, and what a policy's own `check(options)` finds.
template <class List>
result<typename List::any> make_policy(const policy_choice& choice, const std::string& where, std::string_view kind) {
  auto found = List::find(choice.name);
  if (!found) {
    std::string known;
    for (std::string_view name : List::names()) known += (known.empty() ? "" : ", ") + std::string{name};
    return error{.where = where, .subject = std::string{kind} + " " + choice.name, .problem = "is not known", .remedy = "use one of " + known};
  }
  std::optional<error> bad;
  std::visit(
      [&](auto& policy) {
        using P = std::remove_reference_t<decltype(policy)>;
        typename P::options options{};
        bad = detail::set_options(options, choice, where);
        if constexpr (requires { P::check(options); })
          if (!bad)
            if (auto wrong = P::check(options))
              bad = error{.where = where, .subject = choice.name, .problem = *std::move(wrong), .remedy = "change the option, or leave it out"};
        if (!bad) policy = P{options};
      },
      *found);
  if (bad) return *std::move(bad);
  return *std::move(found);
}

}  // namespace qlib::inline v0
