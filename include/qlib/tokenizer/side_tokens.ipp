/// Tokens that files beside tokenizer.json define. Part of tokenizer_config.ipp.
#pragma once
#include <qlib/tokenizer/tokenizer_reading.ipp>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace qlib::inline v0 {
namespace text {
namespace detail {

/// Keys of the special tokens that every class has, in the order in which transformers adds them, with the defaults of the Llama classes.
inline constexpr std::pair<const char*, const char*> named_tokens[] = {
    {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}, {"sep_token", ""}, {"pad_token", ""}, {"cls_token", ""}, {"mask_token", ""}};

inline bool same_flags(const added_token& a, const added_token& b) {
  return a.single_word == b.single_word && a.lstrip == b.lstrip && a.rstrip == b.rstrip && a.normalized == b.normalized && a.special == b.special;
}

/// A token written as an object; one that is special is not normalized unless it says so.
inline added_token written_token(const json& j, bool special) {
  return {no_token,
          text_of(j, "content"),
          flag_of(j, "single_word", false),
          flag_of(j, "lstrip", false),
          flag_of(j, "rstrip", false),
          flag_of(j, "normalized", !special),
          special};
}

/// A token of a list of special ones: its text, or an object.
inline added_token special_token(const json& j) {
  if (j.is_object()) return written_token(j, flag_of(j, "special", false));
  return {.content = j.is_string() ? j.get<std::string>() : std::string{}, .special = true};
}

/// Collects tokens in the order of transformers 5.17 (as of 4.57), and adds them to a tokenizer: those of `added_tokens_decoder`, or, where it is
/// missing, of added_tokens.json, whose flags replace those of tokenizer.json; then special tokens that nobody has added.
class side_tokens {
 public:
  side_tokens(tokenizer_parts& parts, std::string where) : parts_{parts}, where_{std::move(where)} {
    for (std::size_t i = 0; i < parts.added.size(); ++i) places_.emplace(parts.added[i].content, i);
  }

  /// `added_tokens_decoder`: {"id": {"content": ..., "special": ..., ...}}.
  status take_decoder(const json& decoder) {
    std::vector<std::pair<std::int64_t, added_token>> tokens;
    for (const auto& [number, j] : decoder.items()) {
      std::int64_t id = 0;
      const auto [end, failure] = std::from_chars(number.data(), number.data() + number.size(), id);
      if (failure != std::errc{} || end != number.data() + number.size() || !j.is_object())
        return error{error_kind::invalid_input, where_, "added_tokens_decoder." + number, "is no id with a token", "download the file again"};
      tokens.emplace_back(id, written_token(j, flag_of(j, "special", false)));
    }
    take_sorted(std::move(tokens));
    return {};
  }

  /// added_tokens.json: {"token": id}. `special`: contents of special tokens. Ids of tokens that tokenizer.json has are those tokens.
  status take_added(const json& added, const std::vector<std::string>& special, const std::string& file) {
    std::vector<std::pair<std::int64_t, added_token>> tokens;
    for (const auto& [content, id] : added.items()) {
      if (!id.is_number_integer()) return error{error_kind::invalid_input, file, content, "has no id", "download the file again"};
      const bool is_special = std::find(special.begin(), special.end(), content) != special.end();
      const auto number = id.get<std::int64_t>();
      const auto same = places_.find(content);  // of two numbers the larger one's flags remain
      const bool later = same != places_.end() && parts_.added[same->second].id > number;
      const bool known = std::any_of(parts_.added.begin(), parts_.added.end(), [&](const added_token& t) { return t.id == number; });
      if (!known && !later) tokens.emplace_back(number, added_token{.content = content, .normalized = !is_special, .special = is_special});
    }
    take_sorted(std::move(tokens));
    return {};
  }

  /// A special token: added unless one with its content was. `named`: of a key of its own, so that it is special whatever its flags say.
  void take(added_token t, bool named) {
    if (t.content.empty()) return;
    if (named) named_.push_back(t.content);
    const bool waits = std::any_of(new_.begin(), new_.end(), [&](const added_token& n) { return n.content == t.content; });
    if (!waits && !places_.contains(t.content)) new_.push_back(std::move(t));
  }

  status finish() {
    if (new_.empty()) return {};
    for (added_token& t : new_) {
      t.special = t.special || std::find(named_.begin(), named_.end(), t.content) != named_.end();
      t.id = parts_.id_of(t.content);  // a token of the model keeps its id
      if (t.id == no_token) t.id = parts_.next_id();
      if (t.id > vocabulary::largest_id)
        return error{error_kind::invalid_input, where_, t.content, "its id would be out of range", "download the files of the tokenizer again"};
      if (const auto at = places_.find(t.content); at != places_.end()) {
        parts_.added[at->second] = std::move(t);
        continue;
      }
      places_.emplace(t.content, parts_.added.size());
      parts_.added_words.add(t.content, t.id);
      parts_.added.push_back(std::move(t));
    }
    parts_.find_added_tokens();
    for (const added_token& t : parts_.added)
      if (t.shown.empty())
        return error{error_kind::invalid_input, where_, {}, "\"" + t.content + "\", which normalizing makes empty, is not supported", other_program};
    return {};
  }

 private:
  void take_sorted(std::vector<std::pair<std::int64_t, added_token>> tokens) {
    std::stable_sort(tokens.begin(), tokens.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (auto& [id, t] : tokens) {
      if (t.content.empty()) continue;
      const auto at = places_.find(t.content);
      if (at == places_.end() || !same_flags(parts_.added[at->second], t)) new_.push_back(std::move(t));
    }
  }

  tokenizer_parts& parts_;
  std::string where_;
  std::unordered_map<std::string, std::size_t> places_;  // of contents in parts_.added
  std::vector<added_token> new_;
  std::vector<std::string> named_;
};

/// Adds what tokenizer_config.json (`config`), special_tokens_map.json and added_tokens.json define, null where there is no such file.
inline status add_side_tokens(const json& config, std::string_view config_text, const json& added, bool llama, const std::string& folder,
                              tokenizer_parts& parts) {
  side_tokens tokens{parts, folder + "tokenizer_config.json"};
  // Keys in the order of the file: new tokens get their ids so.
  std::vector<std::string> others;
  const auto is_named = [](const std::string& key) {
    return std::any_of(std::begin(named_tokens), std::end(named_tokens), [&](const auto& n) { return key == n.first; });
  };
  auto ordered = nlohmann::ordered_json::parse(config_text.begin(), config_text.end(), nullptr, false);
  if (!ordered.is_object()) ordered = nlohmann::ordered_json::object();
  for (const auto& [key, value] : ordered.items())
    if (key.ends_with("_token") && !is_named(key) && value.is_string()) others.push_back(value.get<std::string>());
  const char* const extra_key = member(config, "extra_special_tokens").is_null() ? "additional_special_tokens" : "extra_special_tokens";
  const json& extra = member(config, extra_key);
  if (extra.is_object()) {
    const auto in_order = ordered.find(extra_key);
    const auto names = in_order != ordered.end() && in_order->is_object() ? *in_order : nlohmann::ordered_json(extra);
    for (const auto& [key, value] : names.items()) others.push_back(special_token(json(value)).content);
  }

  if (const json& decoder = member(config, "added_tokens_decoder"); decoder.is_object()) {
    if (status s = tokens.take_decoder(decoder); !s) return s;
  } else if (added.is_object()) {
    std::vector<std::string> special;
    for (const auto& [key, otherwise] : named_tokens) special.push_back(special_token(member(config, key)).content);
    if (extra.is_array())
      for (const json& t : extra) special.push_back(special_token(t).content);
    if (status s = tokens.take_added(added, special, folder + "added_tokens.json"); !s) return s;
  }
  for (const auto& [key, otherwise] : named_tokens) {
    if (config.contains(key)) tokens.take(special_token(member(config, key)), true);
    else if (llama) tokens.take({.content = otherwise, .special = true}, true);
  }
  for (const std::string& content : others) tokens.take({.content = content, .special = true}, true);
  if (extra.is_array())
    for (const json& t : extra) tokens.take(special_token(t), false);
  return tokens.finish();
}

}  // namespace detail
}  // namespace text
}  // namespace qlib::inline v0
