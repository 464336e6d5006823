/// A YAML document with line numbers, and the questions that a recipe asks of it. No YAML library shows in this header.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/recipe/recipe.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlib::inline v0::detail {

enum class yaml_type { null, scalar, sequence, map };

struct yaml_node;
using yaml_pointer = std::shared_ptr<const yaml_node>;

struct yaml_entry {
  std::string key;
  int line = 0;
  yaml_pointer value;
};

/// One node. Aliases share the node of their anchor; merge keys (`<<`) are resolved; every key of a map occurs once.
struct yaml_node {
  yaml_type type = yaml_type::null;
  bool plain = false;     ///< a scalar without quotes: only it can be a number or a boolean
  bool anchored = false;  ///< it, or a node below it, has an anchor
  int line = 0;           ///< from 1
  std::string text;       ///< of a scalar
  std::vector<yaml_pointer> items;
  std::vector<yaml_entry> entries;
};

/// Reads one document. Errors: syntax, more than one document, duplicate keys, keys that are no scalars, aliases inside of their own
/// anchor, tags other than YAML's own and `!!python/tuple`, control characters. Null pointer if the text is no YAML at all.
yaml_pointer read_yaml(std::string_view text, std::string_view file_name, errors& found);

/// A node with the line and the dotted path at which it was written.
struct yaml_field {
  yaml_pointer node;
  int line = 0;
  std::string path;  ///< "QuantizationModifier.config_groups.group_0.targets[1]"
  std::string key;   ///< its last key; empty for the item of a list
  bool is(yaml_type t) const { return node->type == t; }
};

/// Values of one key that a recipe may have: those that work, and those that exist but are not built yet.
struct yaml_choice {
  std::string_view what;  ///< "modifier", for messages
  std::span<const std::string_view> built;
  std::span<const std::string_view> unbuilt = {};
  std::string_view reason = "not built yet in this version";  ///< why the second list is refused
};

/// Typed access to fields; everything that is wrong is appended to one list of errors, and the answer is then empty.
class yaml_reader {
 public:
  yaml_reader(std::string file_name, errors& found) : file_{std::move(file_name)}, found_{found} {}

  std::string where(int line) const { return file_ + ":" + std::to_string(line); }
  void fail(const yaml_field& at, std::string problem, std::string remedy = {}) const;
  void fail(error e) const { found_.push_back(std::move(e)); }
  std::size_t failures() const { return found_.size(); }

  bool expect(const yaml_field& field, yaml_type type) const;
  /// The entries of a map, or nothing and an error.
  std::vector<yaml_field> entries(const yaml_field& map) const;
  /// The items of a list, or nothing and an error. A scalar counts as a list of one.
  std::vector<yaml_field> items(const yaml_field& list) const;
  /// The value of a key, null included. Not an error if it is missing.
  std::optional<yaml_field> get(const yaml_field& map, std::string_view key) const;
  /// The value of a key unless it is missing or null.
  std::optional<yaml_field> get_set(const yaml_field& map, std::string_view key) const;
  /// Every other key of the map is an error.
  void only_keys(const yaml_field& map, std::span<const std::string_view> known) const;

  std::optional<std::string> text(const yaml_field& field) const;
  std::optional<bool> boolean(const yaml_field& field) const;
  std::optional<std::int64_t> integer(const yaml_field& field, std::int64_t smallest, std::int64_t largest) const;
  /// A scalar out of `choice.built`, in any case, as it is spelled there.
  std::optional<std::string> one_of(const yaml_field& field, const yaml_choice& choice) const;
  /// The same for a name that stands elsewhere than in a value; `at` is only for the message.
  std::optional<std::string> one_of(const yaml_field& at, std::string_view name, const yaml_choice& choice) const;
  /// Null or an empty map.
  void expect_empty(const yaml_field& field, std::string_view reason) const;
  /// A list of module patterns, each compiled once to see whether it is right.
  std::vector<std::string> patterns(const yaml_field& field, pattern_syntax syntax) const;

 private:
  std::string file_;
  errors& found_;
};

/// "a, b, c"
std::string comma_list(std::span<const std::string_view> names);

}  // namespace qlib::inline v0::detail

#if !defined(QLIB_COMPILED)
#include <qlib/recipe/yaml_tree.ipp>
#endif
