/// Reads texts of files. Part of calibration_data.ipp.
#pragma once
#include <qlib/io/file.hpp>
#include <qlib/io/json_text.hpp>
#include <qlib/io/utf8.hpp>
#include <qlib/model/attended_part.hpp>
#include <qlib/model/calibration_data.hpp>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

namespace qlib::inline v0 {

namespace detail {

inline constexpr std::array<std::string_view, 5> calibration_text_keys{"inputs_pretokenized", "text", "prompt", "content", "question"};
inline constexpr std::size_t most_calibration_errors = 20;

/// The text of one message: a string, or a list of parts of which those with a text count.
QLIB_INLINE std::optional<std::string> message_text(const nlohmann::json& message) {
  for (const char* key : {"content", "value"}) {  // `value`: ShareGPT
    if (!message.is_object() || !message.contains(key)) continue;
    const nlohmann::json& content = message[key];
    if (content.is_string()) return content.get<std::string>();
    if (content.is_null()) return std::string{};
    if (!content.is_array()) return std::nullopt;
    std::string all;
    for (const nlohmann::json& part : content)
      if (part.is_object() && part.contains("text") && part["text"].is_string()) all += part["text"].get<std::string>();
    return all;
  }
  return std::nullopt;
}

/// Drops the ids of a record that its `attention_mask` marks as padding. Returns what is wrong and what to do, or two empty strings.
QLIB_INLINE std::pair<std::string, std::string> drop_padding(const nlohmann::json& j, std::vector<std::int32_t>& ids) {
  const auto it = j.find("attention_mask");
  if (it == j.end() || it->is_null()) return {};
  std::vector<std::int64_t> mask;
  if (it->is_array())
    for (const nlohmann::json& v : *it)
      if (v.is_number_integer() || v.is_boolean()) mask.push_back(v.is_boolean() ? v.get<bool>() : v.get<std::int64_t>());
  if (!it->is_array() || mask.size() != it->size() || mask.size() != ids.size())
    return {"attention_mask is not a list of " + std::to_string(ids.size()) + " times 0 or 1, one for each id", "correct or remove it"};
  const attended_part kept = attended_part::of(mask);
  if (auto fault = kept.fault(); !fault.first.empty()) return fault;
  ids.assign(ids.begin() + static_cast<std::ptrdiff_t>(kept.begin), ids.begin() + static_cast<std::ptrdiff_t>(kept.end));
  return {};
}

/// What is wrong with the encoding of a text, of which UTF-8 with or without a byte order mark is read.
QLIB_INLINE std::optional<error> encoding_fault(std::string_view whole, bool plain_text, const std::string& path) {
  const auto fault = [&](std::string where, std::string problem, std::string remedy) {
    return error{error_kind::invalid_input, path, std::move(where), std::move(problem), std::move(remedy)};
  };
  const bool little = whole.starts_with("\xff\xfe");
  if (little || whole.starts_with("\xfe\xff"))
    return fault("byte 0", std::string{"begins with the byte order mark of UTF-16 ("} + (little ? "little" : "big") + " endian)",
                 "convert it: iconv -f UTF-16 -t UTF-8");
  if (!plain_text) return std::nullopt;  // JSON is checked where it is parsed
  const auto invalid = first_invalid_utf8(whole);
  const std::size_t zero = whole.substr(0, invalid.value_or(whole.size())).find('\0');
  if (zero != whole.npos)
    return fault("byte " + std::to_string(zero), "is zero, as in UTF-16 or in a binary file", "pass text in UTF-8: iconv -f UTF-16LE -t UTF-8");
  if (invalid) return fault("byte " + std::to_string(*invalid), "is not UTF-8", "convert it from its encoding, for example iconv -f LATIN1 -t UTF-8");
  return std::nullopt;
}

/// Fills a record from its JSON value, of which null means no key. Returns what is wrong and what to do, or two empty strings.
QLIB_INLINE std::pair<std::string, std::string> read_record(const nlohmann::json& j, text_record& out) {
  if (j.is_string()) {
    out.text = j.get<std::string>();
    return {};
  }
  if (!j.is_object()) return {std::string{"is "} + j.type_name() + ", not an object or a string", "write one object a line"};
  const auto wrong = [&](const std::string& wanted) { return std::pair{out.key + " is not " + wanted, std::string{"correct or remove it"}}; };
  const auto has = [&](std::string_view key) {
    const auto it = j.find(key);
    return it != j.end() && !it->is_null();
  };
  for (const std::string_view key : calibration_text_keys) {
    out.key = key;
    if (!has(out.key)) continue;
    const nlohmann::json& value = j[out.key];
    if (!value.is_string()) return wrong("a string");
    out.text = value.get<std::string>();
    return {};
  }
  for (const char* key : {"messages", "conversations"}) {
    out.key = key;
    if (!has(key)) continue;
    if (!j[key].is_array()) return wrong("a list");
    bool first = true;
    for (const nlohmann::json& message : j[key]) {
      const auto content = message_text(message);
      if (!content) return wrong("a list of messages with a content");
      if (!std::exchange(first, false)) out.text += '\n';
      out.text += *content;
    }
    return {};
  }
  for (const char* key : {"input_ids", "ids"}) {
    out.key = key;
    if (!has(key)) continue;
    if (!j[key].is_array()) return wrong("a list of ids");
    for (const nlohmann::json& id : j[key]) {
      if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || id.get<std::int64_t>() > 0x7fffffff) return wrong("a list of ids");
      out.ids.push_back(id.get<std::int32_t>());
    }
    out.has_ids = true;
    return drop_padding(j, out.ids);
  }
  return {"has none of the keys inputs_pretokenized, text, prompt, content, question, messages, conversations, input_ids, ids",
          "rename the key of the text"};
}

/// Errors of one file, the first of them in full.
class calibration_errors {
 public:
  explicit calibration_errors(std::string path) : path_{std::move(path)} {}
  void add(std::string subject, std::string problem, std::string remedy) {
    if (++count_ <= most_calibration_errors)
      found_.push_back({error_kind::invalid_input, path_, std::move(subject), std::move(problem), std::move(remedy)});
  }
  bool empty() const { return count_ == 0; }
  errors take() {
    if (count_ > most_calibration_errors)
      found_.push_back({error_kind::invalid_input, path_, {}, std::to_string(count_ - most_calibration_errors) + " more records are wrong", {}});
    return std::move(found_);
  }

 private:
  std::string path_;
  errors found_;
  std::size_t count_ = 0;
};

QLIB_INLINE std::string_view without_trailing_space(std::string_view s) {
  while (!s.empty() && (s.back() == '\r' || s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

}  // namespace detail

QLIB_INLINE errors read_text_records(const std::string& path, bool template_exists, text_records& out) {
  const auto content = read_text_file(path);
  if (!content) return {content.error()};
  std::string_view text = *content;
  if (auto fault = detail::encoding_fault(text, false, path)) return {*std::move(fault)};
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == text.npos) return {{error_kind::invalid_input, path, {}, "is empty", "pass a file with texts"}};
  const char begins = text[first];
  const bool lines = path.ends_with(".jsonl") || path.ends_with(".ndjson") || (path.ends_with(".json") ? begins != '[' : begins == '{');

  text_records read;
  detail::calibration_errors wrong{path};
  const auto take = [&](const nlohmann::json& j, std::size_t number) {
    text_record record;
    record.number = number;
    const auto [problem, remedy] = detail::read_record(j, record);
    if (!problem.empty()) return wrong.add(read.unit + " " + std::to_string(number), problem, remedy);
    read.records.push_back(std::move(record));
  };
  if (lines) {
    read.unit = "line";
    std::size_t number = 0;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = std::min(text.find('\n', at), text.size());
      const std::string_view line = detail::without_trailing_space(text.substr(at, end - at));
      at = end + 1;
      ++number;
      if (line.empty()) continue;
      const auto j = nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
      if (!j.is_discarded()) {
        take(j, number);
        continue;
      }
      const auto why = check_json(line, path).syntax;
      wrong.add("line " + std::to_string(number), why ? why->problem : "is not valid JSON", "write one JSON object a line");
    }
  } else if (path.ends_with(".json")) {
    read.unit = "element";
    const auto j = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
    if (!j.is_array()) {
      const auto why = check_json(text, path).syntax;
      return {{error_kind::invalid_input, path, {}, why ? why->problem : "is not a list", "write a JSON list of strings, or one object a line"}};
    }
    for (std::size_t i = 0; i < j.size(); ++i) take(j[i], i + 1);
  } else {
    if (auto fault = detail::encoding_fault(*content, true, path)) return {*std::move(fault)};
    read.unit = "text";
    text_record record;
    record.number = 1;
    record.text = text;
    read.records.push_back(std::move(record));
  }
  if (wrong.empty() && read.records.empty()) wrong.add({}, "has no record", "pass a file with texts");
  if (!wrong.empty()) return wrong.take();
  const auto chats =
      std::count_if(read.records.begin(), read.records.end(), [](const text_record& r) { return r.key == "messages" || r.key == "conversations"; });
  if (chats != 0 && template_exists)
    read.warnings.push_back(
        path + ": " + std::to_string(chats) +
        " records are messages: their contents are joined by line feeds, the chat template is not applied; pass rendered text as `text` if you "
        "want it");
  out = std::move(read);
  return {};
}

}  // namespace qlib::inline v0
