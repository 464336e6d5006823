#pragma once
#include <qlib/config.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {
namespace text {

/// A token's number. Negative is none.
using token_id = std::int32_t;
inline constexpr token_id no_token = -1;
/// Stands in ids where the unknown token would, when the vocabulary has none: such a text has no ids.
inline constexpr token_id missing_token = -2;

/// 64-bit hash of a byte string; not for storage.
inline std::uint64_t hash_of(std::string_view s) {
  std::uint64_t h = s.size() * 0x9e3779b97f4a7c15u;
  const char* p = s.data();
  std::size_t n = s.size();
  const auto mix = [&](std::uint64_t word) {
    h = (h ^ word) * 0xd1342543de82ef95u;
    h ^= h >> 32;
  };
  for (; n >= 8; n -= 8, p += 8) {
    std::uint64_t word;
    std::memcpy(&word, p, 8);
    mix(word);
  }
  std::uint64_t word = 0;
  if (n != 0) std::memcpy(&word, p, n);
  mix(word);
  return h ^ (h >> 29);
}

/// Strings and their ids, both ways. The strings lie one after the other in one piece of memory, 4 GiB at most.
class vocabulary {
 public:
  static constexpr token_id largest_id = (1 << 26) - 1;

  void reserve(std::size_t tokens, std::size_t bytes) {
    bytes_.reserve(bytes);
    places_.reserve(tokens);
    std::size_t slots = 64;
    while (slots < tokens * 2) slots *= 2;
    if (slots > slots_.size()) rehash(slots);
  }

  /// `id` is in [0, largest_id]. A string that is there already gets the new id.
  void add(std::string_view token, token_id id) {
    if (2 * (used_ + 1) > slots_.size()) rehash(slots_.empty() ? 64 : slots_.size() * 2);
    const auto at = static_cast<std::size_t>(id);
    if (at >= places_.size()) places_.resize(at + 1);
    places_[at] = {static_cast<std::uint32_t>(bytes_.size()), static_cast<std::uint32_t>(token.size())};
    bytes_ += token;
    token_id& slot = slots_[slot_of(token)];
    if (slot == no_token) ++used_;
    slot = id;
  }

  /// `no_token` when there is no such string.
  token_id find(std::string_view token) const { return slots_.empty() ? no_token : slots_[slot_of(token)]; }

  bool contains(token_id id) const {
    return id >= 0 && static_cast<std::size_t>(id) < places_.size() && places_[static_cast<std::size_t>(id)].length != unused;
  }

  /// The string of an id that `contains` knows.
  std::string_view token(token_id id) const {
    const place& p = places_[static_cast<std::size_t>(id)];
    return {bytes_.data() + p.begin, p.length};
  }

  /// One more than the largest id.
  std::size_t size() const { return places_.size(); }

 private:
  static constexpr std::uint32_t unused = 0xffffffffu;
  struct place {  // eight bytes: look-ups wait for memory
    std::uint32_t begin = 0, length = unused;
  };

  std::size_t slot_of(std::string_view token) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = hash_of(token) & mask;
    while (slots_[at] != no_token && this->token(slots_[at]) != token) at = (at + 1) & mask;
    return at;
  }

  void rehash(std::size_t slots) {
    const std::vector<token_id> old = std::move(slots_);
    slots_.assign(slots, no_token);
    for (const token_id id : old)
      if (id != no_token) slots_[slot_of(token(id))] = id;
  }

  std::string bytes_;
  std::vector<place> places_;
  std::vector<token_id> slots_;  // a power of two, at most half full
  std::size_t used_ = 0;
};

}  // namespace text
}  // namespace qlib::inline v0
