#pragma once
#include <qlib/io/json_events.ipp>
#include <qlib/io/json_text.hpp>
#include <qlib/io/safetensors.hpp>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <tuple>
#include <unordered_set>

#include <nlohmann/json.hpp>

namespace qlib::inline v0 {

QLIB_INLINE std::uint64_t tensor_info::elements() const {
  return std::accumulate(shape.begin(), shape.end(), std::uint64_t{1}, [](std::uint64_t a, std::uint64_t b) { return a * b; });
}

namespace detail {

/// Nothing when the product exceeds 64 bits.
QLIB_INLINE std::optional<std::uint64_t> tensor_bits(qlib::dtype t, std::span<const std::uint64_t> shape) {
  std::uint64_t product = bits_of(t);
  for (const std::uint64_t extent : shape) {
    if (extent != 0 && product > UINT64_MAX / extent) return std::nullopt;
    product *= extent;
  }
  return product;
}

QLIB_INLINE std::string tensor_shape_text(std::span<const std::uint64_t> shape) {
  std::string text = "[";
  for (const std::uint64_t extent : shape) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(extent);
  }
  return text + "]";
}

QLIB_INLINE std::string byte_range_text(std::uint64_t begin, std::uint64_t end) {
  return "[" + std::to_string(begin) + ", " + std::to_string(end) + ")";
}

/// Receives the header's JSON event by event: a tree would hide duplicate keys and cost several times the text.
///
/// Containers nest as header > entry or `__metadata__` > shape or data_offsets. Values of unknown keys and of the wrong type are
/// skipped whole.
class header_reader {
  using json = nlohmann::json;

 public:
  header_reader(const std::string& where, errors& found) : where_{where}, found_{found} {}

  std::string message;  ///< the parser's complaint
  std::vector<tensor_info> tensors;
  safetensors_metadata metadata;
  bool sound() const { return sound_; }  ///< no value had a wrong type, none was missing or repeated

  bool null() { return scalar("null"); }
  bool boolean(bool) { return scalar("a boolean"); }
  bool number_integer(json::number_integer_t) { return scalar("a negative number"); }
  bool number_unsigned(json::number_unsigned_t n) { return scalar("a number", nullptr, &n); }
  bool number_float(json::number_float_t, const std::string&) { return scalar("not an integer of 64 bits"); }
  bool string(std::string& text) { return scalar("a string", &text); }
  bool binary(json::binary_t&) { return scalar("binary"); }
  bool start_object(std::size_t) { return open(true); }
  bool end_object() { return close(); }
  bool start_array(std::size_t) { return open(false); }
  bool end_array() { return close(); }
  bool parse_error(std::size_t, const std::string&, const json::exception& e) {
    message = e.what();
    return false;
  }

  bool key(std::string& k) {
    if (skipped_ != 0) return true;
    std::string& current = depth_ == 1 ? name_ : field_;
    current = k;
    std::unordered_set<std::string>& seen = depth_ == 1 ? names_ : fields_;
    if (!seen.insert(k).second) {
      sound_ = false;
      if (depth_ == 1) fault(k, "the name appears more than once in the header", "write the file again with unique names");
      else fault(name_, "the key \"" + k + "\" appears more than once", "write the file again");
    }
    return true;
  }

 private:
  bool in_metadata() const { return name_ == "__metadata__"; }
  bool in_list_field() const { return field_ == "shape" || field_ == "data_offsets"; }
  std::vector<std::uint64_t>& list() { return field_ == "shape" ? entry_.shape : offsets_; }

  void fault(const std::string& subject, std::string problem, std::string remedy) {
    found_.push_back({error_kind::invalid_input, where_, subject, std::move(problem), std::move(remedy)});
  }

  /// A value of the wrong type: what it is and what it should be.
  void wrong(const std::string& what, const std::string& expected) {
    sound_ = false;
    if (depth_ == 0) return fault({}, "the header is " + what + ", not an object", "this is not a safetensors file");
    if (depth_ == 1) return fault(name_, "the entry is " + what + ", not an object", "write the file again");
    if (depth_ == 2) return fault(name_, "\"" + field_ + "\" is " + what + ", not " + expected, "write the file again");
    if (!std::exchange(list_faulty_, true))
      fault(name_, "\"" + field_ + "\" contains " + what + ", not only unsigned integers", "write the file again");
  }

  bool scalar(const char* what, std::string* text = nullptr, const std::uint64_t* number = nullptr) {
    if (skipped_ != 0) return true;
    if (depth_ == 2 && in_metadata()) {
      if (text) metadata.emplace_back(field_, std::move(*text));
      else wrong(what, "a string");
    } else if (depth_ == 2 && field_ == "dtype") {
      if (text) read_dtype(*text);
      else wrong(what, "a string");
    } else if (depth_ == 2) {
      if (in_list_field()) wrong(what, "an array");
    } else if (depth_ == 3 && number) {
      list().push_back(*number);
    } else {
      wrong(what, {});
    }
    return true;
  }

  void read_dtype(const std::string& text) {
    if (const auto t = dtype_from_name(text)) {
      entry_.dtype = *t;
    } else {
      sound_ = false;
      fault(name_, "unknown dtype \"" + text + "\"", "convert the tensor to one of F32, BF16, F16, F8_E4M3, I32, I8, U8, ...");
    }
  }

  bool open(bool object) {
    const char* what = object ? "an object" : "an array";
    if (skipped_ != 0) {
      ++skipped_;
    } else if (depth_ == 0 && object) {
      depth_ = 1;
    } else if (depth_ == 1 && object) {
      depth_ = 2;
      entry_ = {};
      offsets_.clear();
      fields_.clear();
    } else if (depth_ == 2 && !object && !in_metadata() && in_list_field()) {
      depth_ = 3;
      list_faulty_ = false;
      list().clear();
    } else {
      const bool ignored = depth_ == 2 && !in_metadata() && !in_list_field() && field_ != "dtype";
      if (!ignored) wrong(what, in_list_field() && !in_metadata() ? "an array" : "a string");
      skipped_ = 1;
    }
    return true;
  }

  bool close() {
    if (skipped_ != 0) {
      --skipped_;
      return true;
    }
    if (depth_ == 2 && !in_metadata()) end_entry();
    if (depth_ == 3 && field_ == "data_offsets" && !list_faulty_ && offsets_.size() != 2) {
      sound_ = false;
      fault(name_, "\"data_offsets\" has " + std::to_string(offsets_.size()) + " numbers, not 2", "write the file again");
    }
    --depth_;
    return true;
  }

  void end_entry() {
    for (const char* required : {"dtype", "shape", "data_offsets"}) {
      if (fields_.contains(required)) continue;
      sound_ = false;
      fault(name_, std::string{"\""} + required + "\" is missing", "write the file again");
    }
    entry_.name = name_;
    if (offsets_.size() == 2) {
      entry_.begin = offsets_[0];
      entry_.end = offsets_[1];
      tensors.push_back(std::move(entry_));
    }
  }

  const std::string& where_;
  errors& found_;
  bool sound_ = true, list_faulty_ = false;
  int depth_ = 0;
  std::size_t skipped_ = 0;  // containers open inside a skipped value, itself included
  std::string name_, field_;
  std::unordered_set<std::string> names_, fields_;
  tensor_info entry_;
  std::vector<std::uint64_t> offsets_;
};

/// Sizes against shapes, then the tiling of `data_size` bytes. `tensors` are in offset order.
QLIB_INLINE void check_layout(std::span<const tensor_info> tensors, std::uint64_t data_size, const std::string& where, errors& found) {
  const auto fault = [&](std::string subject, std::string problem, std::string remedy) {
    found.push_back({error_kind::invalid_input, where, std::move(subject), std::move(problem), std::move(remedy)});
  };
  const char* again = "write the file again";
  bool ranges_sound = true;
  for (const tensor_info& t : tensors) {
    if (t.begin > t.end) {
      ranges_sound = false;
      fault(t.name, "data_offsets end before they begin: [" + std::to_string(t.begin) + ", " + std::to_string(t.end) + "]", again);
      continue;
    }
    const std::string what = std::string{name_of(t.dtype)} + " of shape " + tensor_shape_text(t.shape);
    const auto size = byte_size(t.dtype, t.shape);
    if (!size) fault(t.name, what + (tensor_bits(t.dtype, t.shape) ? " does not fill whole bytes" : " has a size above 64 bits"), again);
    else if (*size != t.end - t.begin)
      fault(t.name, what + " needs " + std::to_string(*size) + " bytes, data_offsets give " + std::to_string(t.end - t.begin), again);
  }
  if (!ranges_sound) return;

  std::uint64_t end = 0;
  const tensor_info* previous = nullptr;
  for (const tensor_info& t : tensors) {
    if (t.begin > end) fault(t.name, "no tensor uses the bytes " + byte_range_text(end, t.begin) + " before it", again);
    else if (t.begin < end)
      fault(t.name, "its bytes " + byte_range_text(t.begin, t.end) + " overlap those of " + previous->name + ", which end at " + std::to_string(end),
            again);
    if (t.end >= end) {
      end = t.end;
      previous = &t;
    }
  }
  if (end > data_size)
    fault({}, "the file is cut short: its tensors need " + std::to_string(end) + " bytes of data, it has " + std::to_string(data_size),
          "download the file again");
  else if (end < data_size)
    fault({}, std::to_string(data_size - end) + " bytes after the last tensor belong to none", "download or write the file again");
}

}  // namespace detail

QLIB_INLINE std::optional<std::uint64_t> byte_size(qlib::dtype t, std::span<const std::uint64_t> shape) {
  const auto bits = detail::tensor_bits(t, shape);
  if (!bits || *bits % 8 != 0) return std::nullopt;
  return *bits / 8;
}

QLIB_INLINE errors parse_safetensors_header(std::span<const std::byte> bytes, std::uint64_t file_size, const std::string& where,
                                            safetensors_header& out) {
  errors found;
  const auto fault = [&](std::string problem, std::string remedy) {
    found.push_back({error_kind::invalid_input, where, {}, std::move(problem), std::move(remedy)});
    return found;
  };
  if (file_size < 8 || bytes.size() < 8)
    return fault("the file has " + std::to_string(file_size) + " bytes; a safetensors file has at least 8", "download the file again");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  if (length > largest_safetensors_header)
    return fault("the header says it has " + std::to_string(length) + " bytes; at most 100000000 are allowed", "this is not a safetensors file");
  if (length > file_size - 8 || length > bytes.size() - 8)
    return fault("the header of " + std::to_string(length) + " bytes does not fit the file of " + std::to_string(file_size) + " bytes",
                 "download the file again");

  const std::string_view text{reinterpret_cast<const char*>(bytes.data()) + 8, static_cast<std::size_t>(length)};
  detail::header_reader reader{where, found};
  if (auto syntax = detail::read_json(text, where, reader)) {
    found.push_back(std::move(*syntax));
    return found;
  }
  std::ranges::sort(reader.tensors, {}, [](const tensor_info& t) { return std::tie(t.begin, t.end, t.name); });
  if (reader.sound()) detail::check_layout(reader.tensors, file_size - 8 - length, where, found);
  if (found.empty()) out = {std::move(reader.tensors), std::move(reader.metadata), 8 + length};
  return found;
}

QLIB_INLINE errors safetensors_file::open(const std::string& path, safetensors_file& out) {
  auto map = mmap_file::open(path);
  if (!map) return {std::move(map).error()};
  safetensors_file file;
  errors found = parse_safetensors_header(map->bytes(), map->bytes().size(), path, file.header_);
  if (!found.empty()) return found;
  file.map_ = *std::move(map);
  file.map_.release(0, static_cast<std::size_t>(file.header_.data_begin));
  file.by_name_.resize(file.header_.tensors.size());
  std::iota(file.by_name_.begin(), file.by_name_.end(), std::size_t{0});
  std::ranges::sort(file.by_name_, {}, [&](std::size_t i) -> const std::string& { return file.header_.tensors[i].name; });
  out = std::move(file);
  return {};
}

QLIB_INLINE const tensor_info* safetensors_file::find(std::string_view name) const {
  const auto name_at = [&](std::size_t i) -> std::string_view { return header_.tensors[i].name; };
  const auto at = std::ranges::lower_bound(by_name_, name, {}, name_at);
  return at != by_name_.end() && name_at(*at) == name ? &header_.tensors[*at] : nullptr;
}

QLIB_INLINE std::span<const std::byte> safetensors_file::bytes(const tensor_info& tensor) const {
  return map_.bytes().subspan(static_cast<std::size_t>(header_.data_begin + tensor.begin), static_cast<std::size_t>(tensor.end - tensor.begin));
}

QLIB_INLINE void safetensors_file::release(const tensor_info& tensor, std::uint64_t offset, std::uint64_t length) const {
  const std::uint64_t size = tensor.end - tensor.begin;
  if (offset < size) map_.release(header_.data_begin + tensor.begin + offset, std::min(length, size - offset));
}

QLIB_INLINE void safetensors_file::will_need(const tensor_info& tensor, std::uint64_t offset, std::uint64_t length) const {
  const std::uint64_t size = tensor.end - tensor.begin;
  if (offset < size) map_.will_need(header_.data_begin + tensor.begin + offset, std::min(length, size - offset));
}

QLIB_INLINE void order_for_writing(std::vector<tensor_info>& tensors) {
  std::ranges::sort(tensors, [](const tensor_info& a, const tensor_info& b) { return a.dtype != b.dtype ? a.dtype > b.dtype : a.name < b.name; });
}

QLIB_INLINE result<std::uint64_t> assign_offsets(std::span<tensor_info> tensors) {
  std::uint64_t end = 0;
  for (tensor_info& t : tensors) {
    const auto size = byte_size(t.dtype, t.shape);
    if (!size || *size > UINT64_MAX - end)
      return error{error_kind::invalid_input,
                   {},
                   t.name,
                   std::string{name_of(t.dtype)} + " of shape " + detail::tensor_shape_text(t.shape) + " has no size in whole bytes below 2^64",
                   {}};
    t.begin = end;
    t.end = end += *size;
  }
  return end;
}

QLIB_INLINE result<std::string> serialize_safetensors_header(std::span<const tensor_info> tensors, const safetensors_metadata& metadata) {
  std::string text(8, '\0');
  text += '{';
  const auto next = [&](const std::string& name) {
    if (text.back() != '{') text += ',';
    append_json_string(text, name);
    text += ':';
  };
  if (!metadata.empty()) {
    text += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      next(key);
      append_json_string(text, value);
    }
    text += '}';
  }
  const auto number = [&](std::uint64_t n) { text += std::to_string(n); };
  std::uint64_t end = 0;
  for (const tensor_info& t : tensors) {
    next(t.name);
    text += "{\"dtype\":\"";
    text += name_of(t.dtype);
    text += "\",\"shape\":[";
    for (std::size_t i = 0; i < t.shape.size(); ++i) {
      if (i != 0) text += ',';
      number(t.shape[i]);
    }
    text += "],\"data_offsets\":[";
    number(t.begin);
    text += ',';
    number(t.end);
    text += "]}";
    end = std::max(end, t.end);
  }
  text += '}';
  text.append((8 - text.size() % 8) % 8, ' ');
  const std::uint64_t length = text.size() - 8;
  std::memcpy(text.data(), &length, 8);

  safetensors_header read;
  errors found = parse_safetensors_header(std::as_bytes(std::span{text}), text.size() + end, "safetensors header", read);
  if (!found.empty()) return std::move(found.front());
  return text;
}

}  // namespace qlib::inline v0
