#pragma once
#include <qlib/report/report_json.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <concepts>
#include <limits>

namespace qlib::inline v0 {

namespace report_parts {

using report_document = nlohmann::ordered_json;

inline report_document json_of(const magnitude_histogram& h) {
  std::size_t first = 0, last = magnitude_histogram::bins;
  const auto empty = [&](std::size_t i) { return h.negative[i] == 0 && h.positive[i] == 0; };
  while (first < last && empty(first)) ++first;
  while (last > first && empty(last - 1)) --last;
  const auto part = [&](const auto& counts) {
    return std::vector<std::uint64_t>(counts.begin() + static_cast<std::ptrdiff_t>(first), counts.begin() + static_cast<std::ptrdiff_t>(last));
  };
  return {{"first_exponent", magnitude_histogram::lowest + static_cast<int>(first)},
          {"negative", part(h.negative)},
          {"positive", part(h.positive)},
          {"below", h.below}};
}

inline report_document json_of(const reported_operand& o) {
  report_document j{{"name", o.name},    {"observer", o.observer},       {"tokens", o.tokens},           {"min", o.seen.min},
                    {"max", o.seen.max}, {"range_score", o.range_score}, {"covered_min", o.covered.min}, {"covered_max", o.covered.max}};
  if (o.scale) {
    j["scale"] = *o.scale;
    j["zero_point"] = o.zero_point;
  }
  if (o.histogram) j["histogram"] = json_of(*o.histogram);
  return j;
}

inline report_document json_of(const reported_layer& l) {
  report_document j{{"name", l.name}, {"quant_type", l.quant_type}};
  if (l.error) {
    j["mse"] = l.error->mse;
    j["cosine"] = l.error->cosine;
    j["max_abs_err"] = l.error->max_abs_err;
    j["rms"] = l.error->rms;
    j["relative_error"] = l.error->relative();
  }
  if (l.bytes_before) j["bytes_before"] = l.bytes_before;
  j["bytes_after"] = l.bytes_after;
  if (!l.path.empty()) j["path"] = l.path;
  return j;
}

/// Reads members of an object by type, and notes those of another one.
class member_reader {
 public:
  member_reader(const report_document& j, std::string where, std::string path, errors& found)
      : j_{j}, where_{std::move(where)}, path_{std::move(path)}, found_{found} {
    if (!j_.is_object()) wrong({}, "an object");
  }

  bool has(const char* key) const { return j_.is_object() && j_.contains(key) && !j_[key].is_null(); }

  void read(const char* key, std::string& out) {
    if (!has(key)) return;
    if (j_[key].is_string()) out = j_[key].template get<std::string>();
    else wrong(key, "a string");
  }
  template <std::unsigned_integral T>
  void read(const char* key, T& out) {
    if (!has(key)) return;
    if (j_[key].is_number_unsigned()) out = j_[key].template get<T>();
    else wrong(key, "a count");
  }
  void read(const char* key, bool& out) {
    if (!has(key)) return;
    if (j_[key].is_boolean()) out = j_[key].template get<bool>();
    else wrong(key, "true or false");
  }
  void read(const char* key, std::int32_t& out) {
    if (!has(key)) return;
    if (j_[key].is_number_integer()) out = j_[key].template get<std::int32_t>();
    else wrong(key, "an integer");
  }
  template <std::floating_point T>
  void read(const char* key, T& out) {
    if (!has(key)) return;
    if (j_[key].is_number()) out = j_[key].template get<T>();
    else wrong(key, "a number");
  }
  template <class T>
  void read(const char* key, std::optional<T>& out) {
    T value{};
    if (has(key)) read(key, value), out = value;
  }
  template <class T>
  requires(std::same_as<T, std::string> || std::same_as<T, std::uint64_t>) void read(const char* key, std::vector<T>& out) {
    each(key, [&](const report_document& item, const std::string& path) {
      if constexpr (std::same_as<T, std::string>) {
        if (item.is_string()) return out.push_back(item.template get<T>());
      } else if (item.is_number_unsigned()) {
        return out.push_back(item.template get<T>());
      }
      found_.push_back({.where = where_, .subject = path, .problem = "has another type than the program writes", .remedy = remedy()});
    });
  }

  /// visit(element, its path) for each element of the array `key`.
  template <class Visit>
  void each(const char* key, Visit visit) {
    if (!has(key)) return;
    if (!j_[key].is_array()) return wrong(key, "an array");
    std::size_t i = 0;
    for (const auto& item : j_[key]) visit(item, name_of(key) + "[" + std::to_string(i++) + "]");
  }

  member_reader member(const char* key) { return {j_[key], where_, name_of(key), found_}; }
  member_reader element(const report_document& j, const std::string& path) { return {j, where_, path, found_}; }

  void wrong(const std::string& key, const std::string& expected) {
    found_.push_back({.where = where_, .subject = name_of(key), .problem = "is not " + expected, .remedy = remedy()});
  }

 private:
  static std::string remedy() { return "give a document of this program, unchanged"; }
  std::string name_of(const std::string& key) const { return path_.empty() || key.empty() ? path_ + key : path_ + "." + key; }

  const report_document& j_;
  std::string where_, path_;
  errors& found_;
};

inline std::optional<report_document> parsed(std::string_view text, const std::string& where, errors& found) {
  auto j = report_document::parse(text, nullptr, false);
  if (!j.is_discarded() && j.is_object()) return j;
  found.push_back({.where = where, .problem = "is not a JSON object", .remedy = "give a document of this program, unchanged"});
  return std::nullopt;
}

inline void read_histogram(member_reader in, reported_operand& out) {
  std::int32_t first = 0;
  std::vector<std::uint64_t> negative, positive;
  magnitude_histogram h;
  in.read("first_exponent", first);
  in.read("negative", negative);
  in.read("positive", positive);
  in.read("below", h.below);
  const auto begin = static_cast<std::int64_t>(first) - magnitude_histogram::lowest;
  if (begin < 0 || negative.size() != positive.size() || static_cast<std::size_t>(begin) + positive.size() > magnitude_histogram::bins)
    return in.wrong({}, "a histogram of exponents -24 to 16");
  for (std::size_t i = 0; i < positive.size(); ++i) {
    h.negative[static_cast<std::size_t>(begin) + i] = negative[i];
    h.positive[static_cast<std::size_t>(begin) + i] = positive[i];
  }
  out.histogram = h;
}

inline reported_operand read_operand(member_reader in) {
  reported_operand o;
  in.read("name", o.name);
  in.read("observer", o.observer);
  in.read("tokens", o.tokens);
  in.read("min", o.seen.min);
  in.read("max", o.seen.max);
  in.read("range_score", o.range_score);
  in.read("covered_min", o.covered.min);
  in.read("covered_max", o.covered.max);
  in.read("scale", o.scale);
  in.read("zero_point", o.zero_point);
  if (in.has("histogram")) read_histogram(in.member("histogram"), o);
  return o;
}

inline reported_layer read_layer(member_reader in) {
  reported_layer l;
  in.read("name", l.name);
  in.read("quant_type", l.quant_type);
  in.read("bytes_before", l.bytes_before);
  in.read("bytes_after", l.bytes_after);
  in.read("path", l.path);
  if (in.has("mse")) {
    weight_error e;
    in.read("mse", e.mse);
    in.read("cosine", e.cosine);
    in.read("max_abs_err", e.max_abs_err);
    in.read("rms", e.rms);
    l.error = e;
  }
  return l;
}

inline reported_evaluation read_evaluation(member_reader in) {
  reported_evaluation e;
  in.read("tokens", e.tokens);
  in.read("ppl", e.ppl);
  in.read("ppl_reference", e.ppl_reference);
  in.read("kl", e.kl);
  in.read("top1", e.top1);
  in.read("max_abs_logit_diff", e.max_abs_logit_diff);
  return e;
}

}  // namespace report_parts

QLIB_INLINE std::string json_of(const accuracy_report& r) {
  report_parts::report_document j;
  if (!r.model.empty()) j["model"] = r.model;
  j["model_type"] = r.model_type;
  j["quant_type"] = r.quant_type;
  j["format"] = r.format;
  if (r.seconds > 0) j["seconds"] = r.seconds;
  if (r.peak_rss_bytes) j["peak_rss_bytes"] = r.peak_rss_bytes;
  if (r.input_bytes) j["input_bytes"] = r.input_bytes;
  j["output_bytes"] = r.output_bytes;
  j["tensors"] = {{"quantized", r.quantized}, {"float", r.floats}};
  if (r.calibration) {
    const reported_calibration& c = *r.calibration;
    j["calibration"] = {{"file", c.file},
                        {"samples", c.samples},
                        {"tokens", c.tokens},
                        {"truncated", c.truncated},
                        {"dropped_tokens", c.dropped_tokens},
                        {"products", c.products},
                        {"seconds", c.seconds},
                        {"operands", report_parts::report_document::array()}};
    for (const reported_operand& o : c.operands) j["calibration"]["operands"].push_back(report_parts::json_of(o));
  }
  if (r.evaluation) {
    const reported_evaluation& e = *r.evaluation;
    auto& to = j["evaluation"] = {{"tokens", e.tokens}};
    const auto put = [&](const char* key, const std::optional<double>& v) {
      to[key] = v ? report_parts::report_document(*v) : report_parts::report_document();
    };
    put("ppl", e.ppl);
    put("ppl_reference", e.ppl_reference);
    put("kl", e.kl);
    put("top1", e.top1);
    put("max_abs_logit_diff", e.max_abs_logit_diff);
  }
  if (!r.subgraphs.empty()) {
    j["subgraphs"] = report_parts::report_document::array();
    for (const suppression_report& g : r.subgraphs)
      j["subgraphs"].push_back({{"source", g.source},
                                {"kind", g.kind},
                                {"suppressor", g.suppressor},
                                {"kept", g.kept},
                                {"error_before", g.error_before},
                                {"error_after", g.error_after},
                                {"smallest_scale", g.smallest},
                                {"largest_scale", g.largest},
                                {"dead_channels", g.dead},
                                {"unseen", g.unseen},
                                {"limited_channels", g.limited},
                                {"first_limited_channels", g.limited_channels},
                                {"tiles", g.tiles},
                                {"clipped_tiles", g.clipped},
                                {"clip_error_before", g.clip_error_before},
                                {"clip_error_after", g.clip_error_after}});
  }
  j["layers"] = report_parts::report_document::array();
  for (const reported_layer& l : r.layers) j["layers"].push_back(report_parts::json_of(l));
  j["files"] = r.files;
  j["warnings"] = r.warnings;
  return j.dump(1, ' ', false, report_parts::report_document::error_handler_t::replace);
}

QLIB_INLINE errors parse_report(std::string_view text, const std::string& where, accuracy_report& out) {
  errors found;
  const auto j = report_parts::parsed(text, where, found);
  if (!j) return found;
  accuracy_report r;
  report_parts::member_reader in{*j, where, {}, found};
  if (!in.has("layers")) in.wrong("layers", "there");
  in.read("model", r.model);
  in.read("model_type", r.model_type);
  in.read("quant_type", r.quant_type);
  in.read("format", r.format);
  in.read("seconds", r.seconds);
  in.read("peak_rss_bytes", r.peak_rss_bytes);
  in.read("input_bytes", r.input_bytes);
  in.read("output_bytes", r.output_bytes);
  if (in.has("tensors")) {
    auto tensors = in.member("tensors");
    tensors.read("quantized", r.quantized);
    tensors.read("float", r.floats);
  }
  if (in.has("calibration")) {
    auto from = in.member("calibration");
    reported_calibration c;
    from.read("file", c.file);
    from.read("products", c.products);
    from.read("samples", c.samples);
    from.read("tokens", c.tokens);
    from.read("truncated", c.truncated);
    from.read("dropped_tokens", c.dropped_tokens);
    from.read("seconds", c.seconds);
    from.each("operands",
              [&](const auto& item, const std::string& path) { c.operands.push_back(report_parts::read_operand(from.element(item, path))); });
    r.calibration = std::move(c);
  }
  if (in.has("evaluation")) r.evaluation = report_parts::read_evaluation(in.member("evaluation"));
  if (in.has("subgraphs"))
    in.each("subgraphs", [&](const auto& item, const std::string& path) {
      auto from = in.element(item, path);
      suppression_report g;
      from.read("source", g.source);
      from.read("kind", g.kind);
      from.read("suppressor", g.suppressor);
      from.read("kept", g.kept);
      from.read("error_before", g.error_before);
      from.read("error_after", g.error_after);
      from.read("smallest_scale", g.smallest);
      from.read("largest_scale", g.largest);
      from.read("dead_channels", g.dead);
      from.read("unseen", g.unseen);
      from.read("limited_channels", g.limited);
      from.read("first_limited_channels", g.limited_channels);
      from.read("tiles", g.tiles);
      from.read("clipped_tiles", g.clipped);
      from.read("clip_error_before", g.clip_error_before);
      from.read("clip_error_after", g.clip_error_after);
      r.subgraphs.push_back(std::move(g));
    });
  in.each("layers", [&](const auto& item, const std::string& path) { r.layers.push_back(report_parts::read_layer(in.element(item, path))); });
  in.read("files", r.files);
  in.read("warnings", r.warnings);
  if (found.empty()) out = std::move(r);
  return found;
}

QLIB_INLINE errors parse_evaluation(std::string_view text, const std::string& where, reported_evaluation& out) {
  errors found;
  const auto j = report_parts::parsed(text, where, found);
  if (!j) return found;
  if (!j->contains("tokens") || !(j->contains("ppl") || j->contains("kl")))
    return {{.where = where, .problem = "is not the document of `qlib eval --json`", .remedy = "write it with: qlib eval ... --json > " + where}};
  reported_evaluation e = report_parts::read_evaluation({*j, where, {}, found});
  if (found.empty()) out = e;
  return found;
}

}  // namespace qlib::inline v0
