#pragma once
#include <qlib/config.hpp>

#include <string_view>
#include <tuple>

namespace qlib::inline v0 {

/// One option of a policy: its key in recipes, the member that holds it, and its help text. YAML, `--help`, docs and the report
/// are made from these.
template <class Options, class Value>
struct field {
  std::string_view key;
  Value Options::*member;
  std::string_view help;
};
template <class Options, class Value>
field(std::string_view, Value Options::*, std::string_view) -> field<Options, Value>;

/// Options of a policy that has none.
struct no_options {
  static constexpr auto fields() { return std::tuple<>{}; }
};

template <class Options, class Visitor>
constexpr void for_each_field(Visitor&& visit) {
  std::apply([&](const auto&... f) { (visit(f), ...); }, Options::fields());
}

}  // namespace qlib::inline v0
