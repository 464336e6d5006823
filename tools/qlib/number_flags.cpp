#include "number_flags.hpp"

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <qlib/recipe/ascii_case.hpp>

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

struct byte_size {
  double number = 0, unit = 1;
  bool has_unit = false;
};

/// Digits, perhaps with a fraction, and a unit.
std::optional<byte_size> size_of(std::string_view text) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  const auto number = number_of<double>(text.substr(0, digits));
  if (!number || !std::isfinite(*number)) return std::nullopt;
  text.remove_prefix(digits);
  while (text.starts_with(' ')) text.remove_prefix(1);
  std::string unit = detail::lower_case(text);
  const bool has_unit = !unit.empty();
  if (unit.ends_with('b')) unit.pop_back();
  double base = 1000;
  if (unit.size() == 2 && unit.ends_with('i')) unit.pop_back(), base = 1024;
  constexpr std::string_view letters = "kmgt";
  if (unit.empty()) return base == 1000 ? std::optional{byte_size{*number, 1, has_unit}} : std::nullopt;
  const std::size_t power = letters.find(unit);
  if (unit.size() != 1 || power == letters.npos) return std::nullopt;
  return byte_size{*number, std::pow(base, static_cast<double>(power + 1)), true};
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

CLI::Option* byte_number(CLI::Option* option, std::string otherwise) {
  option->type_name("SIZE");
  return option->transform([otherwise = std::move(otherwise)](const std::string& text) {
    const auto size = size_of(text);
    if (!size) throw CLI::ValidationError("'" + text + "' is no number of bytes: write a number and a unit, such as 8GiB or 19.5MB");
    const double bytes = std::round(size->number * size->unit);
    if (!(bytes < 0x1p64)) throw CLI::ValidationError("'" + text + "' is more than 64 bits can count");
    if (bytes < 1) throw CLI::ValidationError(text + " is less than 1 byte: " + otherwise);
    // Whole numbers of bytes need not be doubles.
    return size->unit == 1 && number_of<std::uint64_t>(text) ? text : std::to_string(static_cast<std::uint64_t>(bytes));
  });
}

CLI::Option* byte_or_gib_number(CLI::Option* option) {
  option->type_name("SIZE");
  return option->transform([](const std::string& text) {
    const auto size = size_of(text);
    const double gib = !size ? -1 : size->has_unit ? size->number * size->unit / 0x1p30 : size->number;
    if (!(gib >= 0 && gib <= 1e6))
      throw CLI::ValidationError("'" + text + "' is not in 0 to 1000000 GiB: write GiB, or a number and a unit, such as 500MB");
    return fmt::format("{}", gib);
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
