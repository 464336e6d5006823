#pragma once
#include <qlib/tokenizer/charsmap.hpp>
#include <qlib/tokenizer/unicode_text.hpp>

#include <cstring>

namespace qlib::inline v0 {
namespace text {

QLIB_INLINE result<charsmap> charsmap::read(std::string_view base64) {
  const auto fault = [](const char* problem) { return error{error_kind::invalid_input, {}, {}, problem, {}}; };
  std::string bytes;
  std::uint32_t bits = 0;
  unsigned count = 0;
  for (const char c : base64) {
    std::uint32_t value = 0;
    if (c >= 'A' && c <= 'Z') value = static_cast<std::uint32_t>(c - 'A');
    else if (c >= 'a' && c <= 'z') value = static_cast<std::uint32_t>(c - 'a' + 26);
    else if (c >= '0' && c <= '9') value = static_cast<std::uint32_t>(c - '0' + 52);
    else if (c == '+') value = 62;
    else if (c == '/') value = 63;
    else if (c == '=') break;
    else return fault("precompiled_charsmap is not base64");
    bits = bits << 6 | value;
    if (++count % 4 != 1) bytes += static_cast<char>(static_cast<unsigned char>(bits >> ((3 - (count - 1) % 4) * 2)));
  }
  std::uint32_t size = 0;
  if (bytes.size() >= 4) std::memcpy(&size, bytes.data(), 4);
  if (size == 0 || size % 4 != 0 || size > bytes.size() - 4) return fault("precompiled_charsmap has no whole trie");
  charsmap map;
  map.units_.resize(size / 4);
  std::memcpy(map.units_.data(), bytes.data() + 4, size);
  map.replacements_ = bytes.substr(4 + size);
  return map;
}

/// The replacement of the shortest known beginning of `s`.
QLIB_INLINE std::optional<std::string_view> charsmap::find(std::string_view s) const {
  const auto offset = [](std::uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); };
  std::size_t node = offset(units_[0]);
  for (const char c : s) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0) break;
    node ^= byte;
    if (node >= units_.size()) break;
    const std::uint32_t unit = units_[node];
    if ((unit & 0x800000ffu) != byte) break;
    node ^= offset(unit);
    if ((unit >> 8 & 1u) == 0) continue;
    if (node >= units_.size()) break;
    const std::size_t begin = units_[node] & 0x7fffffffu;
    if (begin > replacements_.size()) break;
    const std::string_view rest = std::string_view{replacements_}.substr(begin);
    return rest.substr(0, rest.find('\0'));
  }
  return std::nullopt;
}

QLIB_INLINE std::string charsmap::apply(std::string_view s) const {
  std::string out;
  while (!s.empty()) {
    std::string_view cluster = s.substr(0, grapheme_length(s));
    s.remove_prefix(cluster.size());
    if (cluster.size() < 6) {
      if (const auto whole = find(cluster)) {
        out += *whole;
        continue;
      }
    }
    while (!cluster.empty()) {
      const std::string_view one = cluster.substr(0, character_at(cluster, 0).length);
      out += find(one).value_or(one);
      cluster.remove_prefix(one.size());
    }
  }
  return out;
}

}  // namespace text
}  // namespace qlib::inline v0
