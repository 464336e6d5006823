#pragma once
#include <qlib/recipe/ascii_case.hpp>
#include <qlib/recipe/match.hpp>
#include <qlib/recipe/yaml_tree.hpp>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <sstream>
#include <unordered_map>

namespace qlib::inline v0::detail {

/// Builds yaml_nodes from the parser's events: YAML::Node would hide duplicate keys and leave merge keys alone.
class yaml_builder final : public YAML::EventHandler {
 public:
  yaml_builder(std::string_view file, errors& found) : file_{file}, found_{found} {}
  yaml_pointer root;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { leaf(mark, anchor, yaml_type::null, {}, true); }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto at = anchors_.find(anchor);
    if (at != anchors_.end()) return add(at->second, line_of(mark));
    fail(line_of(mark), "*", "an alias inside of its own anchor has no end");
    leaf(mark, 0, yaml_type::null, {}, true);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, const std::string& value) override {
    static const std::string yaml_org = "tag:yaml.org,2002:";
    const bool plain = tag.empty() || tag == "?" || tag == yaml_org + "int" || tag == yaml_org + "bool" || tag == yaml_org + "float";
    if (!plain && tag != "!" && tag != yaml_org + "str") fail(line_of(mark), tag, "unknown tag", "remove it");
    leaf(mark, anchor, yaml_type::scalar, value, plain);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, yaml_type::sequence);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, yaml_type::map);
  }
  void OnMapEnd() override { close(); }

 private:
  struct frame {
    std::shared_ptr<yaml_node> node;
    YAML::anchor_t anchor = 0;
    int line = 0;  ///< where it was written
    bool has_key = false, merge = false;
    std::string key;
    int key_line = 0;
    std::unordered_map<std::string, int> lines;  ///< of the keys so far
    std::vector<std::pair<yaml_pointer, int>> merges;
  };

  static int line_of(const YAML::Mark& mark) { return mark.line + 1; }

  void fail(int line, std::string subject, std::string problem, std::string remedy = {}) {
    found_.push_back({error_kind::invalid_input, file_ + ":" + std::to_string(line), std::move(subject), std::move(problem), std::move(remedy)});
  }

  void leaf(const YAML::Mark& mark, YAML::anchor_t anchor, yaml_type type, std::string text, bool plain) {
    auto node = std::make_shared<yaml_node>();
    node->type = type;
    node->plain = plain;
    node->anchored = anchor != 0;
    node->line = line_of(mark);
    node->text = std::move(text);
    if (anchor != 0) anchors_[anchor] = node;
    const int line = node->line;
    add(std::move(node), line);
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, yaml_type type) {
    if (!tag.empty() && tag != "?" && tag != "!" && tag != "tag:yaml.org,2002:python/tuple" &&
        tag != (type == yaml_type::map ? "tag:yaml.org,2002:map" : "tag:yaml.org,2002:seq"))
      fail(line_of(mark), tag, "unknown tag", "remove it");
    frame f;
    f.node = std::make_shared<yaml_node>();
    f.node->type = type;
    f.node->anchored = anchor != 0;
    f.node->line = f.line = line_of(mark);
    f.anchor = anchor;
    frames_.push_back(std::move(f));
  }

  void close() {
    frame f = std::move(frames_.back());
    frames_.pop_back();
    for (const auto& [from, line] : f.merges)  // keys written out win over merged ones, earlier maps over later ones
      for (const yaml_entry& e : from->entries)
        if (f.lines.emplace(e.key, e.line).second) f.node->entries.push_back(e);
    if (f.anchor != 0) anchors_[f.anchor] = f.node;
    add(std::move(f.node), f.line);
  }

  void add(yaml_pointer node, int line) {
    if (frames_.empty()) {
      root = std::move(node);
      return;
    }
    frame& f = frames_.back();
    if (node->anchored) f.node->anchored = true;
    if (f.node->type == yaml_type::sequence) {
      f.node->items.push_back(std::move(node));
    } else if (!f.has_key) {
      f.has_key = true;
      f.key_line = line;
      f.key = node->text;
      f.merge = node->plain && node->type == yaml_type::scalar && f.key == "<<";
      if (node->type != yaml_type::scalar) fail(line, "?", "a key must be a string");
    } else {
      f.has_key = false;
      if (f.merge) return merge(f, std::move(node));
      const auto [first, is_new] = f.lines.emplace(f.key, f.key_line);
      if (!is_new) fail(f.key_line, f.key, "duplicate key; first written in line " + std::to_string(first->second), "remove one of them");
      if (is_new) f.node->entries.push_back({f.key, f.key_line, std::move(node)});
    }
  }

  void merge(frame& f, yaml_pointer node) {
    if (node->type == yaml_type::map) return f.merges.emplace_back(std::move(node), f.key_line), void();
    bool maps = node->type == yaml_type::sequence;
    for (const auto& item : node->items) maps = maps && item->type == yaml_type::map;
    if (!maps) return fail(f.key_line, "<<", "only a map or a list of maps can be merged");
    for (const auto& item : node->items) f.merges.emplace_back(item, f.key_line);
  }

  std::string file_;
  errors& found_;
  std::vector<frame> frames_;
  std::map<YAML::anchor_t, yaml_pointer> anchors_;
};

QLIB_INLINE yaml_pointer read_yaml(std::string_view text, std::string_view file_name, errors& found) {
  const std::string file{file_name};
  int line = 1;
  for (const char c : text) {  // yaml-cpp takes 0x04 for the end of the file
    line += c == '\n';
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\r' && c != '\t') {
      found.push_back({error_kind::invalid_input,
                       file + ":" + std::to_string(line),
                       {},
                       "control character " + std::to_string(static_cast<int>(c)),
                       "is this a text file?"});
      return nullptr;
    }
  }
  yaml_builder builder{file_name, found};
  try {
    std::istringstream stream{std::string{text}};
    YAML::Parser parser{stream};
    parser.HandleNextDocument(builder);
    const yaml_pointer first = builder.root;
    errors ignored;
    yaml_builder rest{file_name, ignored};
    if (parser.HandleNextDocument(rest))
      found.push_back({error_kind::invalid_input,
                       file + ":" + std::to_string(rest.root ? rest.root->line : line),
                       {},
                       "a second document",
                       "a recipe is one document: remove what follows '---'"});
    if (!first || first->type == yaml_type::null) {
      found.push_back({error_kind::invalid_input, file, {}, "the recipe is empty", {}});
      return nullptr;
    }
    return first;
  } catch (const YAML::Exception& e) {
    found.push_back({error_kind::invalid_input, e.mark.line < 0 ? file : file + ":" + std::to_string(e.mark.line + 1), {}, "not YAML: " + e.msg, {}});
  } catch (const std::exception& e) {
    found.push_back({error_kind::invalid_input, file, {}, std::string{"not YAML: "} + e.what(), {}});
  }
  return nullptr;
}

QLIB_INLINE std::string comma_list(std::span<const std::string_view> names) {
  std::string out;
  for (const std::string_view name : names) {
    if (!out.empty()) out += ", ";
    out += name;
  }
  return out;
}

QLIB_INLINE yaml_field field_of(const yaml_field& map, const yaml_entry& e) {
  return {e.value, e.line, map.path.empty() ? e.key : map.path + "." + e.key, e.key};
}

QLIB_INLINE std::string describe(const yaml_node& node) {
  switch (node.type) {
    case yaml_type::null:
      return "nothing";
    case yaml_type::sequence:
      return "a list";
    case yaml_type::map:
      return "a map";
    case yaml_type::scalar:
      break;
  }
  return "'" + node.text + "'";
}

QLIB_INLINE void yaml_reader::fail(const yaml_field& at, std::string problem, std::string remedy) const {
  found_.push_back({error_kind::invalid_input, where(at.line), at.path, std::move(problem), std::move(remedy)});
}

QLIB_INLINE bool yaml_reader::expect(const yaml_field& field, yaml_type type) const {
  if (field.is(type)) return true;
  const std::string_view wanted = type == yaml_type::map ? "a map" : type == yaml_type::sequence ? "a list" : "a value";
  fail(field, "expected " + std::string{wanted} + ", found " + describe(*field.node));
  return false;
}

QLIB_INLINE std::vector<yaml_field> yaml_reader::entries(const yaml_field& map) const {
  std::vector<yaml_field> out;
  if (!expect(map, yaml_type::map)) return out;
  for (const yaml_entry& e : map.node->entries) out.push_back(field_of(map, e));
  return out;
}

QLIB_INLINE std::vector<yaml_field> yaml_reader::items(const yaml_field& list) const {
  if (list.is(yaml_type::scalar)) return {list};
  std::vector<yaml_field> out;
  if (!expect(list, yaml_type::sequence)) return out;
  for (std::size_t i = 0; i < list.node->items.size(); ++i)
    out.push_back({list.node->items[i], list.node->items[i]->line, list.path + "[" + std::to_string(i) + "]", {}});
  return out;
}

QLIB_INLINE std::optional<yaml_field> yaml_reader::get(const yaml_field& map, std::string_view key) const {
  for (const yaml_entry& e : map.node->entries)
    if (e.key == key) return field_of(map, e);
  return std::nullopt;
}

QLIB_INLINE std::optional<yaml_field> yaml_reader::get_set(const yaml_field& map, std::string_view key) const {
  auto field = get(map, key);
  if (field && field->is(yaml_type::null)) field.reset();
  return field;
}

QLIB_INLINE void yaml_reader::only_keys(const yaml_field& map, std::span<const std::string_view> known) const {
  for (const yaml_entry& e : map.node->entries)
    if (std::find(known.begin(), known.end(), e.key) == known.end())
      fail(field_of(map, e), "unknown key '" + e.key + "'", "known keys: " + comma_list(known));
}

QLIB_INLINE std::optional<std::string> yaml_reader::text(const yaml_field& field) const {
  if (!expect(field, yaml_type::scalar)) return std::nullopt;
  return field.node->text;
}

QLIB_INLINE std::optional<bool> yaml_reader::boolean(const yaml_field& field) const {
  if (field.is(yaml_type::scalar) && field.node->plain) {
    const std::string lower = lower_case(field.node->text);
    if (lower == "true" || lower == "yes" || lower == "on") return true;
    if (lower == "false" || lower == "no" || lower == "off") return false;
  }
  fail(field, "expected true or false, found " + describe(*field.node));
  return std::nullopt;
}

QLIB_INLINE std::optional<std::int64_t> yaml_reader::integer(const yaml_field& field, std::int64_t smallest, std::int64_t largest) const {
  if (field.is(yaml_type::scalar) && field.node->plain) {
    const std::string& digits = field.node->text;
    std::int64_t value = 0;
    const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (failure == std::errc{} && end == digits.data() + digits.size() && value >= smallest && value <= largest) return value;
  }
  fail(field, "expected an integer from " + std::to_string(smallest) + " to " + std::to_string(largest) + ", found " + describe(*field.node));
  return std::nullopt;
}

QLIB_INLINE std::optional<std::string> yaml_reader::one_of(const yaml_field& field, const yaml_choice& choice) const {
  const auto value = text(field);
  return value ? one_of(field, *value, choice) : std::nullopt;
}

QLIB_INLINE std::optional<std::string> yaml_reader::one_of(const yaml_field& at, std::string_view value, const yaml_choice& choice) const {
  const std::string lower = lower_case(value), quoted = " '" + std::string{value} + "'";
  for (const std::string_view name : choice.built)
    if (lower_case(name) == lower) return std::string{name};
  const bool exists = std::any_of(choice.unbuilt.begin(), choice.unbuilt.end(), [&](std::string_view name) { return lower_case(name) == lower; });
  const std::string what{choice.what}, known = "known: " + comma_list(choice.built);
  if (exists) fail(at, what + quoted + " is " + std::string{choice.reason}, known);
  else fail(at, "unknown " + what + quoted, choice.unbuilt.empty() ? known : known + "; not yet: " + comma_list(choice.unbuilt));
  return std::nullopt;
}

QLIB_INLINE void yaml_reader::expect_empty(const yaml_field& field, std::string_view reason) const {
  if (field.is(yaml_type::null) || (field.is(yaml_type::map) && field.node->entries.empty())) return;
  fail(field, std::string{reason}, "remove it");
}

QLIB_INLINE std::vector<std::string> yaml_reader::patterns(const yaml_field& field, pattern_syntax syntax) const {
  std::vector<std::string> out;
  for (const yaml_field& item : items(field)) {
    auto pattern = text(item);
    if (!pattern) continue;
    const auto compiled = pattern_set::compile(std::span{&*pattern, 1}, syntax, where(item.line));
    if (!compiled) {
      error e = compiled.error();
      e.subject = e.subject.empty() ? item.path : item.path + ": " + e.subject;
      fail(std::move(e));
    }
    out.push_back(*std::move(pattern));
  }
  return out;
}

}  // namespace qlib::inline v0::detail
