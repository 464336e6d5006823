/// Typed access to the keys of a config.json; for the .ipp files that read one.
#pragma once
#include <qlib/core/status.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace qlib::inline v0::detail {

/// Keys that are absent or null have no value. One of the wrong type has none either, and is an error.
class config_reader {
 public:
  config_reader(const nlohmann::json& values, std::string where, errors& found, std::string path = {})
      : values_{&values}, where_{std::move(where)}, found_{&found}, path_{std::move(path)} {}

  /// Some rule has asked for this key.
  bool was_read(const std::string& key) const { return read_.contains(key); }

  const nlohmann::json& values() const { return *values_; }
  config_reader inside(const std::string& key, const nlohmann::json& values) const { return {values, where_, *found_, path_ + key + "."}; }

  void complain(const std::string& key, std::string problem, std::string remedy) {
    error e{.where = where_, .subject = path_ + key, .problem = std::move(problem), .remedy = std::move(remedy)};
    for (const error& known : *found_)
      if (known.text() == e.text()) return;  // a key that each layer asks for is wrong once
    found_->push_back(std::move(e));
  }

  bool has(const char* key) {
    read_.insert(key);
    const auto it = values_->find(key);
    return it != values_->end() && !it->is_null();
  }

  std::optional<double> number(const char* key) {
    const nlohmann::json* v = find(key);
    if (!v) return std::nullopt;
    if (v->is_number() && std::isfinite(v->get<double>())) return v->get<double>();
    complain(key, "is " + v->dump() + ", not a number", "correct config.json");
    return std::nullopt;
  }

  std::optional<bool> flag(const char* key) {
    const nlohmann::json* v = find(key);
    if (!v) return std::nullopt;
    if (v->is_boolean()) return v->get<bool>();
    if (v->is_number_integer()) return v->get<long long>() != 0;
    complain(key, "is " + v->dump() + ", not true or false", "correct config.json");
    return std::nullopt;
  }

  std::optional<std::string> text(const char* key) {
    const nlohmann::json* v = find(key);
    if (!v) return std::nullopt;
    if (v->is_string()) return v->get<std::string>();
    complain(key, "is " + v->dump() + ", not a string", "correct config.json");
    return std::nullopt;
  }

  /// A count; of a list with an entry a layer, all must be the same.
  std::optional<std::size_t> optional_count(const char* key) {
    const nlohmann::json* v = find(key);
    if (v && v->is_array() && !v->empty()) {
      const nlohmann::json* first = &v->front();
      for (const nlohmann::json& each : *v)
        if (each != *first) {
          complain(key, "differs between layers", "this decoder has one value for all layers");
          return std::nullopt;
        }
      v = first;
    }
    if (!v) return std::nullopt;
    if (v->is_number_integer() && v->get<long long>() >= 0 && v->get<long long>() <= (1ll << 32)) return v->get<std::size_t>();
    complain(key, "is " + v->dump() + ", not a count", "correct config.json");
    return std::nullopt;
  }

  /// A count that must be there and above zero; 0 and an error otherwise.
  std::size_t count(const char* key) { return first_count({key}); }

  /// The first of several names that is there.
  std::size_t first_count(std::initializer_list<const char*> keys) {
    for (const char* key : keys)
      if (has(key)) {
        const std::size_t n = optional_count(key).value_or(0);
        if (n == 0) complain(key, "must be above zero", "correct config.json");
        return n;
      }
    complain(*keys.begin(), "missing", "add it to config.json");
    return 0;
  }

  std::optional<double> first_number(std::initializer_list<const char*> keys) {
    for (const char* key : keys)
      if (has(key)) return number(key);
    return std::nullopt;
  }

  std::vector<double> numbers(const char* key) {
    std::vector<double> out;
    const nlohmann::json* v = find(key);
    if (!v) return out;
    for (const nlohmann::json& each : *v)
      if (each.is_number()) out.push_back(each.get<double>());
      else if (each.is_boolean()) out.push_back(each.get<bool>() ? 1 : 0);
    if (!v->is_array() || out.size() != v->size()) complain(key, "is not a list of numbers", "correct config.json");
    return out;
  }

  std::vector<std::string> texts(const char* key) {
    std::vector<std::string> out;
    const nlohmann::json* v = find(key);
    if (!v) return out;
    for (const nlohmann::json& each : *v)
      if (each.is_string()) out.push_back(each.get<std::string>());
    if (!v->is_array() || out.size() != v->size()) complain(key, "is not a list of strings", "correct config.json");
    return out;
  }

 private:
  const nlohmann::json* find(const char* key) {
    read_.insert(key);
    const auto it = values_->find(key);
    return it == values_->end() || it->is_null() ? nullptr : &*it;
  }

  const nlohmann::json* values_;
  std::string where_;
  errors* found_;
  std::string path_;
  std::set<std::string> read_;
};

}  // namespace qlib::inline v0::detail
