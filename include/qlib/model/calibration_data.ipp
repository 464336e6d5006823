#pragma once
#include <qlib/model/calibration_data.hpp>
#include <qlib/model/id_tensors.ipp>
#include <qlib/model/text_records.ipp>

#include <algorithm>
#include <string>
#include <utility>

namespace qlib::inline v0 {

namespace detail {

inline constexpr std::size_t default_window = 2048;

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

  /// ids: whole, with a tail of `kept` ids that truncation leaves in place. `first`: the position of the first id, where errors count from.
  void add(std::vector<std::int32_t> ids, const std::string& subject, std::size_t kept = 0, std::size_t first = 0) {
    if (limits_.vocab_size != 0) {
      const auto at =
          std::find_if(ids.begin(), ids.end(), [&](std::int32_t id) { return id < 0 || static_cast<std::size_t>(id) >= limits_.vocab_size; });
      if (at != ids.end())
        return wrong_.add(subject,
                          "the id " + std::to_string(*at) + " at position " + std::to_string(first + static_cast<std::size_t>(at - ids.begin())) +
                              " is not below the vocabulary of " + std::to_string(limits_.vocab_size),
                          "tokenize with this model's tokenizer");
    }
    calibration_report& r = data.report;
    if (options_.length != 0 && ids.size() > options_.length) cut(ids, options_.length, kept);
    if (limits_.max_length != 0 && ids.size() > limits_.max_length)
      return wrong_.add(subject, std::to_string(ids.size()) + " tokens, and the model allows " + std::to_string(limits_.max_length),
                        "use " + flag(limits_.max_length) + ", which truncates");
    r.shortest = data.samples.empty() ? ids.size() : std::min(r.shortest, ids.size());
    r.longest = std::max(r.longest, ids.size());
    r.tokens += ids.size();
    ++r.samples;
    data.samples.push_back(std::move(ids));
  }

  /// A text is not whole windows of a context for certain: the tokens around it, and joints that are other tokens when text is read again, make one
  /// that was cut to the context a few tokens longer.
  void cut_if_slightly_longer(std::vector<std::int32_t>& ids, std::size_t kept) {
    const std::size_t most = limits_.max_length;
    if (!options_.cut_slightly_longer || options_.length != 0 || most == 0 || ids.size() <= most || ids.size() - most > most / 64) return;
    cut(ids, most, kept);
    ++slightly_longer_;
  }

  calibration_errors& wrong() { return wrong_; }

  errors finish(calibration_data& out) {
    if (wrong_.empty() && data.samples.empty()) wrong_.add({}, "has no text and no token", "pass a file with calibration texts");
    if (!wrong_.empty()) return wrong_.take();
    if (slightly_longer_ != 0)
      data.report.warnings.push_back(std::to_string(slightly_longer_) + " of " + std::to_string(data.report.samples) + " records of " +
                                     data.report.file + " are a few tokens longer than the " + std::to_string(limits_.max_length) +
                                     " that the model allows, and were cut");
    out = std::move(data);
    return {};
  }

  std::string flag(std::size_t length) const { return std::string{options_.length_flag} + " " + std::to_string(length); }

  calibration_data data;

 private:
  void cut(std::vector<std::int32_t>& ids, std::size_t length, std::size_t kept) {
    ++data.report.truncated;
    data.report.dropped_tokens += ids.size() - length;
    kept = std::min(kept, length);
    std::copy(ids.end() - static_cast<std::ptrdiff_t>(kept), ids.end(), ids.begin() + static_cast<std::ptrdiff_t>(length - kept));
    ids.resize(length);
  }

  const calibration_options& options_;
  const sequence_limits& limits_;
  calibration_errors wrong_;
  std::size_t slightly_longer_ = 0;
};

}  // namespace detail

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
    else {
      collect.cut_if_slightly_longer(*ids, words.suffix().size());
      collect.add(*std::move(ids), subject, words.suffix().size());
    }
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
  std::vector<const tensor_info*> tensors, masks;
  if (errors found = detail::find_ids(file, path, tensors, masks); !found.empty()) return found;
  if (tensors.empty()) return fault({}, "has no tensor `ids`");
  struct row {
    const tensor_info *tensor, *mask;
    std::size_t number, length;
  };
  std::vector<row> rows;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const tensor_info *t = tensors[i], *mask = masks[i];
    if (t->dtype != dtype::i32 && t->dtype != dtype::i64) return fault(t->name, "has the dtype " + std::string{name_of(t->dtype)});
    if (t->shape.size() != 2 && !(t->shape.size() == 1 && t->name.starts_with("ids.")))
      return fault(t->name, "has " + std::to_string(t->shape.size()) + " dimensions");
    if (t->elements() == 0) return fault(t->name, "is empty");
    if (mask && mask->shape != t->shape)
      return {{error_kind::invalid_input, path, mask->name, "has another shape than " + t->name, "write 1 for each token, 0 for padding"}};
    if (mask && !detail::is_mask_type(mask->dtype))
      return {
          {error_kind::invalid_input, path, mask->name, "has the dtype " + std::string{name_of(mask->dtype)}, "pass BOOL or a whole-number type"}};
    const std::size_t count = t->shape.size() == 2 ? t->shape[0] : 1;
    for (std::size_t r = 0; r < count; ++r) rows.push_back({t, mask, r, t->shape.back()});
  }

  detail::sample_collector collect{path, options, limits};
  if (!collect.wrong().empty()) return collect.wrong().take();
  collect.data.report.kind = "ids";
  collect.data.report.key = tensors[0]->name;
  collect.data.report.available = rows.size();
  for (const std::size_t n : sampling_order(rows.size(), options.seed)) {
    if (!collect.wants_more()) break;
    const row& at = rows[n];
    std::vector<std::int64_t> wide = detail::whole_numbers(file, *at.tensor, at.number * at.length, at.length);
    const std::string subject = at.tensor->name + "[" + std::to_string(at.number) + "]";
    std::size_t first = 0;
    if (at.mask) {
      const auto kept = detail::attended_part::of(detail::whole_numbers(file, *at.mask, at.number * at.length, at.length));
      if (auto [problem, remedy] = kept.fault(); !problem.empty()) {
        collect.wrong().add(subject, std::move(problem), std::move(remedy));
        continue;
      }
      wide.resize(kept.end);
      wide.erase(wide.begin(), wide.begin() + static_cast<std::ptrdiff_t>(first = kept.begin));
      if (wide.empty()) {
        ++collect.data.report.empty;
        continue;
      }
    }
    const auto bad = std::find_if(wide.begin(), wide.end(), [](std::int64_t id) { return id < 0 || id > 0x7fffffff; });
    if (bad != wide.end())
      collect.wrong().add(subject, "position " + std::to_string(first + static_cast<std::size_t>(bad - wide.begin())) + " is no token id",
                          "write ids from 0 on, and `attention_mask` beside them if there is padding");
    else collect.add({wide.begin(), wide.end()}, subject, 0, first);
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
