#pragma once
#include <qlib/io/file.hpp>
#include <qlib/io/json_text.hpp>
#include <qlib/io/safetensors.hpp>
#include <qlib/model/calibration_data.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

namespace qlib::inline v0 {

namespace detail {

inline constexpr std::array<std::string_view, 5> calibration_text_keys{"inputs_pretokenized", "text", "prompt", "content", "question"};
inline constexpr std::size_t most_calibration_errors = 20;
inline constexpr std::size_t default_window = 2048;

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

/// Fills a record from its JSON value. Returns what is wrong and what to do, or two empty strings.
QLIB_INLINE std::pair<std::string, std::string> read_record(const nlohmann::json& j, text_record& out) {
  if (j.is_string()) {
    out.text = j.get<std::string>();
    return {};
  }
  if (!j.is_object()) return {std::string{"is "} + j.type_name() + ", not an object or a string", "write one object a line"};
  const auto wrong = [&](const std::string& wanted) { return std::pair{out.key + " is not " + wanted, std::string{"correct or remove it"}}; };
  for (const std::string_view key : calibration_text_keys) {
    out.key = key;
    if (!j.contains(out.key)) continue;
    const nlohmann::json& value = j[out.key];
    if (!value.is_string()) return wrong("a string");
    out.text = value.get<std::string>();
    return {};
  }
  for (const char* key : {"messages", "conversations"}) {
    out.key = key;
    if (!j.contains(key)) continue;
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
    if (!j.contains(key)) continue;
    if (!j[key].is_array()) return wrong("a list of ids");
    for (const nlohmann::json& id : j[key]) {
      if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || id.get<std::int64_t>() > 0x7fffffff) return wrong("a list of ids");
      out.ids.push_back(id.get<std::int32_t>());
    }
    out.has_ids = true;
    return {};
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

/// Takes samples in the sampling order, and keeps the counts.
class sample_collector {
 public:
  sample_collector(const std::string& path, const calibration_options& options, const sequence_limits& limits)
      : options_{options}, limits_{limits}, wrong_{path} {
    data.report.file = path;
    data.report.seed = options.seed;
    if (limits.max_length != 0 && options.length > limits.max_length)
      wrong_.add(flag(options.length), "the model allows " + std::to_string(limits.max_length) + " tokens", "use at most " + flag(limits.max_length));
  }

  bool wants_more() const { return options_.samples == 0 || data.samples.size() < options_.samples; }

  /// ids: whole, with a tail of `kept` ids that truncation leaves in place.
  void add(std::vector<std::int32_t> ids, const std::string& subject, std::size_t kept = 0) {
    if (limits_.vocab_size != 0) {
      const auto at =
          std::find_if(ids.begin(), ids.end(), [&](std::int32_t id) { return id < 0 || static_cast<std::size_t>(id) >= limits_.vocab_size; });
      if (at != ids.end())
        return wrong_.add(subject,
                          "the id " + std::to_string(*at) + " at position " + std::to_string(at - ids.begin()) + " is not below the vocabulary of " +
                              std::to_string(limits_.vocab_size),
                          "tokenize with this model's tokenizer");
    }
    calibration_report& r = data.report;
    if (options_.length != 0 && ids.size() > options_.length) {
      ++r.truncated;
      r.dropped_tokens += ids.size() - options_.length;
      kept = std::min(kept, options_.length);
      std::copy(ids.end() - static_cast<std::ptrdiff_t>(kept), ids.end(), ids.begin() + static_cast<std::ptrdiff_t>(options_.length - kept));
      ids.resize(options_.length);
    }
    if (limits_.max_length != 0 && ids.size() > limits_.max_length)
      return wrong_.add(subject, std::to_string(ids.size()) + " tokens, and the model allows " + std::to_string(limits_.max_length),
                        "use " + flag(limits_.max_length) + ", which truncates");
    r.shortest = data.samples.empty() ? ids.size() : std::min(r.shortest, ids.size());
    r.longest = std::max(r.longest, ids.size());
    r.tokens += ids.size();
    ++r.samples;
    data.samples.push_back(std::move(ids));
  }

  calibration_errors& wrong() { return wrong_; }

  errors finish(calibration_data& out) {
    if (wrong_.empty() && data.samples.empty()) wrong_.add({}, "has no text and no token", "pass a file with calibration texts");
    if (!wrong_.empty()) return wrong_.take();
    out = std::move(data);
    return {};
  }

  std::string flag(std::size_t length) const { return std::string{options_.length_flag} + " " + std::to_string(length); }

  calibration_data data;

 private:
  const calibration_options& options_;
  const sequence_limits& limits_;
  calibration_errors wrong_;
};

}  // namespace detail

QLIB_INLINE errors read_text_records(const std::string& path, bool template_exists, text_records& out) {
  const auto content = read_text_file(path);
  if (!content) return {content.error()};
  std::string_view text = *content;
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

QLIB_INLINE std::vector<std::size_t> sampling_order(std::size_t count, std::optional<std::uint64_t> seed) {
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = i;
  if (!seed) return order;
  std::uint64_t state = *seed;
  const auto next = [&] {
    std::uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  };
  for (std::size_t i = count; i > 1; --i) std::swap(order[i - 1], order[next() % i]);
  return order;
}

QLIB_INLINE errors load_calibration_texts(const std::string& path, const tokenizer& words, const calibration_options& options,
                                          const sequence_limits& limits, calibration_data& out) {
  text_records read;
  if (errors found = read_text_records(path, words.has_chat_template(), read); !found.empty()) return found;
  detail::sample_collector collect{path, options, limits};
  if (!collect.wrong().empty()) return collect.wrong().take();
  calibration_report& report = collect.data.report;
  report.warnings = read.warnings;
  const std::size_t added = words.prefix().size() + words.suffix().size();
  if (read.unit == "text") {
    report.kind = "windows of plain text";
    std::size_t window = options.length;
    if (window == 0) window = limits.max_length == 0 ? detail::default_window : std::min(detail::default_window, limits.max_length);
    if (window <= added) {
      collect.wrong().add(collect.flag(window), "the tokenizer adds " + std::to_string(added) + " tokens to every sample", "use a larger one");
      return collect.wrong().take();
    }
    const auto ids = words.encode(read.records[0].text, false);
    if (!ids) return {{error_kind::invalid_input, path, {}, ids.error().problem, ids.error().remedy}};
    const std::size_t body = window - added;
    const std::size_t windows = ids->size() < body ? (ids->empty() ? 0 : 1) : ids->size() / body;
    report.available = windows;
    report.dropped_tokens = ids->size() < body ? 0 : ids->size() % body;
    for (const std::size_t w : sampling_order(windows, options.seed)) {
      if (!collect.wants_more()) break;
      std::vector<std::int32_t> sample{words.prefix().begin(), words.prefix().end()};
      const auto begin = ids->begin() + static_cast<std::ptrdiff_t>(w * body);
      sample.insert(sample.end(), begin, begin + static_cast<std::ptrdiff_t>(std::min(body, ids->size() - w * body)));
      sample.insert(sample.end(), words.suffix().begin(), words.suffix().end());
      collect.add(std::move(sample), "window " + std::to_string(w + 1));
    }
    return collect.finish(out);
  }

  report.kind = "records";
  report.key = read.records[0].key;
  report.available = read.records.size();
  for (const std::size_t i : sampling_order(read.records.size(), options.seed)) {
    if (!collect.wants_more()) break;
    text_record& record = read.records[i];
    const std::string subject = read.unit + " " + std::to_string(record.number);
    if (record.has_ids) {
      if (record.ids.empty()) ++report.empty;
      else collect.add(std::move(record.ids), subject);
      continue;
    }
    auto ids = words.encode(record.text);
    if (!ids) collect.wrong().add(subject, ids.error().problem, ids.error().remedy);
    else if (ids->size() <= added) ++report.empty;
    else collect.add(*std::move(ids), subject, words.suffix().size());
  }
  return collect.finish(out);
}

QLIB_INLINE errors load_calibration_ids(const std::string& path, const calibration_options& options, const sequence_limits& limits,
                                        calibration_data& out) {
  safetensors_file file;
  if (errors found = safetensors_file::open(path, file); !found.empty()) return found;
  const auto fault = [&](std::string subject, std::string problem) {
    return errors{{error_kind::invalid_input, path, std::move(subject), std::move(problem), "pass an I32 tensor `ids` of shape [samples, length]"}};
  };
  // One tensor of equal samples, or one a sample: ids.0, ids.1, ...
  std::vector<const tensor_info*> tensors;
  if (const tensor_info* all = file.find("ids") ? file.find("ids") : file.find("input_ids")) tensors.push_back(all);
  for (std::size_t i = 0; tensors.size() == i; ++i)
    if (const tensor_info* one = file.find("ids." + std::to_string(i))) tensors.push_back(one);
  if (tensors.empty() && file.tensors().size() == 1) tensors.push_back(&file.tensors()[0]);
  if (tensors.empty()) return fault({}, "has no tensor `ids`");
  struct row {
    const tensor_info* tensor;
    std::size_t number, length;
  };
  std::vector<row> rows;
  for (const tensor_info* t : tensors) {
    if (t->dtype != dtype::i32 && t->dtype != dtype::i64) return fault(t->name, "has the dtype " + std::string{name_of(t->dtype)});
    if (t->shape.size() != 2 && !(t->shape.size() == 1 && t->name.starts_with("ids.")))
      return fault(t->name, "has " + std::to_string(t->shape.size()) + " dimensions");
    if (t->elements() == 0) return fault(t->name, "is empty");
    const std::size_t count = t->shape.size() == 2 ? t->shape[0] : 1;
    for (std::size_t r = 0; r < count; ++r) rows.push_back({t, r, t->shape.back()});
  }

  detail::sample_collector collect{path, options, limits};
  if (!collect.wrong().empty()) return collect.wrong().take();
  collect.data.report.kind = "ids";
  collect.data.report.key = tensors[0]->name;
  collect.data.report.available = rows.size();
  for (const std::size_t n : sampling_order(rows.size(), options.seed)) {
    if (!collect.wants_more()) break;
    const row& at = rows[n];
    const std::byte* bytes = file.bytes(*at.tensor).data();
    const std::size_t width = at.tensor->dtype == dtype::i32 ? 4 : 8;
    std::vector<std::int32_t> ids(at.length);
    for (std::size_t i = 0; i < at.length; ++i) {
      std::int64_t wide = 0;
      std::memcpy(&wide, bytes + (at.number * at.length + i) * width, width);
      if (width == 4) wide = static_cast<std::int32_t>(wide);
      ids[i] = wide < 0 || wide > 0x7fffffff ? -1 : static_cast<std::int32_t>(wide);
    }
    const std::string subject = at.tensor->name + "[" + std::to_string(at.number) + "]";
    if (const auto bad = std::find(ids.begin(), ids.end(), -1); bad != ids.end())
      collect.wrong().add(subject, "position " + std::to_string(bad - ids.begin()) + " is no token id", "write ids from 0 on; there is no padding");
    else collect.add(std::move(ids), subject);
  }
  return collect.finish(out);
}

QLIB_INLINE std::string calibration_report::text() const {
  const auto count = [](std::size_t n) { return std::to_string(n); };
  std::string s = count(samples) + " samples, " + count(tokens) + " tokens (" + count(shortest) + " to " + count(longest) + " each) of " +
                  count(available) + " " + (kind == "ids" ? "rows" : kind) + " of " + file;
  if (!key.empty()) s += ", key " + key;
  if (truncated != 0) s += "; " + count(truncated) + " truncated";
  if (dropped_tokens != 0) s += "; " + count(dropped_tokens) + " tokens dropped";
  if (empty != 0) s += "; " + count(empty) + " empty records left out";
  return s + (seed ? "; shuffled with seed " + std::to_string(*seed) : "; in file order");
}

}  // namespace qlib::inline v0
