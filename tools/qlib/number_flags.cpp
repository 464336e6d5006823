#include "number_flags.hpp"

#include <fmt/core.h>
#include <CLI/CLI.hpp>

#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>

namespace qlib::program {

namespace {

template <class T>
std::optional<T> number_of(std::string_view text) {
  T value{};
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// What is wrong with `text` as a number of `type`, CLI11's name of it; nothing if it is one.
std::string wrong_number(std::string_view type, const std::string& text) {
  if (type == "UINT" && text.starts_with('-')) return text + " is below zero";
  if (type == "UINT" && !number_of<std::uint64_t>(text)) return "'" + text + "' is no whole number of 64 bits";
  if (type == "INT" && !number_of<std::int64_t>(text)) return "'" + text + "' is no whole number of 64 bits";
  if (type == "FLOAT")
    if (const auto value = number_of<double>(text); !value || !std::isfinite(*value)) return "'" + text + "' is no finite number";
  return {};
}

}  // namespace

CLI::Option* whole_number(CLI::Option* option, std::int64_t first, std::int64_t last, std::string otherwise) {
  return option->check([=](const std::string& text) {
    const auto value = number_of<std::int64_t>(text);
    return value && *value >= first && *value <= last ? std::string{} : fmt::format("{} is not in {} to {}: {}", text, first, last, otherwise);
  });
}

CLI::Option* at_least_one(CLI::Option* option, std::string otherwise) {
  return option->check([=](const std::string& text) {
    const auto value = number_of<std::uint64_t>(text);
    return value && *value >= 1 ? std::string{} : fmt::format("{} is less than 1: {}", text, otherwise);
  });
}

CLI::Option* real_number(CLI::Option* option, double first, double last, std::string otherwise) {
  return option->check([=](const std::string& text) {
    const auto value = number_of<double>(text);
    return value && *value >= first && *value <= last ? std::string{} : fmt::format("{} is not in {} to {}: {}", text, first, last, otherwise);
  });
}

CLI::Option* byte_number(CLI::Option* option, bool powers_of_1000, std::string otherwise) {
  at_least_one(option, std::move(otherwise));
  option->transform(CLI::AsSizeValue(powers_of_1000));
  return option->transform([](std::string text) {  // before the unit is taken off
    const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    if (!number_of<std::uint64_t>(std::string_view{text}.substr(0, digits)))
      throw CLI::ValidationError("'" + text + "' is no number of bytes: write digits and a unit, such as 8GiB");
    return text;
  });
}

void check_numbers(CLI::App& command) {
  for (CLI::Option* option : command.get_options()) {
    const std::string type = option->get_type_name();
    // Ranges and units stand behind a colon; a number with a unit is checked by byte_number.
    const std::string kind = type.substr(0, type.find(':'));
    if (type.find("SIZE") != type.npos || (kind != "UINT" && kind != "INT" && kind != "FLOAT")) continue;
    option->transform([kind](std::string text) {
      if (const std::string wrong = wrong_number(kind, text); !wrong.empty()) throw CLI::ValidationError(wrong);
      return text;
    });
  }
}

}  // namespace qlib::program
