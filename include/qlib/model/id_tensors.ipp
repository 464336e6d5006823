/// Token ids and their masks in a safetensors file. Part of calibration_data.ipp.
#pragma once
#include <qlib/io/safetensors.hpp>

#include <charconv>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0::detail {

/// The number behind "ids.", in decimals as they are usually written; nothing for other names.
QLIB_INLINE std::optional<std::size_t> sample_number(std::string_view name) {
  if (!name.starts_with("ids.")) return std::nullopt;
  name.remove_prefix(4);
  std::size_t n = 0;
  const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), n);
  if (failure != std::errc{} || end != name.data() + name.size() || std::to_string(n) != name) return std::nullopt;
  return n;
}

/// One tensor of equal samples, or one a sample: ids.0, ids.1, ...; and the mask of each, null where there is none.
QLIB_INLINE errors find_ids(const safetensors_file& file, const std::string& path, std::vector<const tensor_info*>& tensors,
                            std::vector<const tensor_info*>& masks) {
  const auto fault = [&](std::string subject, std::string problem, std::string remedy) {
    return errors{{error_kind::invalid_input, path, std::move(subject), std::move(problem), std::move(remedy)}};
  };
  const tensor_info *all = file.find("ids") ? file.find("ids") : file.find("input_ids"), *last = nullptr;
  std::size_t numbered = 0, largest = 0, used = 0, found = 0;
  for (const tensor_info& t : file.tensors()) {
    found += t.name == "attention_mask" || t.name.starts_with("attention_mask.") ? 1 : 0;
    const auto number = sample_number(t.name);
    if (!number) continue;
    ++numbered;
    if (!last || *number > largest) last = &t, largest = *number;
  }
  if (all && last) return fault(all->name, "is there beside " + last->name + ": which of them are the samples?", "remove one of them");
  if (all) tensors.push_back(all);
  for (std::size_t i = 0; i < numbered; ++i) {
    const std::string name = "ids." + std::to_string(i);
    const tensor_info* one = file.find(name);
    if (!one) return fault(name, "missing, though " + last->name + " is there", "number the samples from 0 on, without gaps");
    tensors.push_back(one);
  }
  if (tensors.empty() && file.tensors().size() == 1) tensors.push_back(&file.tensors()[0]);
  for (const tensor_info* t : tensors) {
    masks.push_back(file.find(t->name.starts_with("ids.") ? "attention_mask" + t->name.substr(3) : "attention_mask"));
    used += masks.back() ? 1 : 0;
  }
  if (!tensors.empty() && used != found)
    return fault("attention_mask", std::to_string(found - used) + " tensors of masks belong to no tensor of ids",
                 "name the mask of ids.0 attention_mask.0, that of ids attention_mask");
  return {};
}

inline bool is_mask_type(dtype t) {
  return t == dtype::boolean || t == dtype::u8 || t == dtype::i8 || t == dtype::i16 || t == dtype::i32 || t == dtype::i64;
}

/// `count` elements of a tensor of whole numbers from `first` on.
QLIB_INLINE std::vector<std::int64_t> whole_numbers(const safetensors_file& file, const tensor_info& t, std::size_t first, std::size_t count) {
  const auto read = [&]<class T>(T) {
    std::vector<T> values(count);
    std::memcpy(values.data(), file.bytes(t).data() + first * sizeof(T), count * sizeof(T));
    return std::vector<std::int64_t>(values.begin(), values.end());
  };
  switch (t.dtype) {
    case dtype::i64:
      return read(std::int64_t{});
    case dtype::i32:
      return read(std::int32_t{});
    case dtype::i16:
      return read(std::int16_t{});
    case dtype::i8:
      return read(std::int8_t{});
    default:
      return read(std::uint8_t{});
  }
}

}  // namespace qlib::inline v0::detail
