#pragma once
#include <qlib/tokenizer/vocabulary.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {
namespace text {

/// The ids of pieces that came before. Forgets everything when it is full; holds about 4 MB at most. One a thread.
class piece_cache {
 public:
  static constexpr std::size_t longest_piece = 256;

  /// The place of a piece of at most `longest_piece` bytes, for `ids_at` and `store`.
  std::size_t place_of(std::string_view piece) {
    if (slots_.empty()) slots_.resize(slot_count);
    const std::uint64_t h = hash_of(piece);
    std::size_t at = h & (slot_count - 1);
    while (slots_[at].count != 0 && (slots_[at].tag != static_cast<std::uint32_t>(h >> 32) || text_of(slots_[at]) != piece))
      at = (at + 1) & (slot_count - 1);
    slots_[at].tag = static_cast<std::uint32_t>(h >> 32);
    return at;
  }

  /// Empty when the piece is not there.
  std::span<const token_id> ids_at(std::size_t place) const {
    const slot& s = slots_[place];
    return {ids_.data() + s.ids, s.count};
  }

  void store(std::size_t place, std::string_view piece, std::span<const token_id> ids) {
    if (ids.empty() || ids.size() > longest_piece) return;
    if (++used_ > slot_count / 2) {
      slots_.assign(slot_count, {});
      text_.clear();
      ids_.clear();
      used_ = 0;
      return;
    }
    slot& s = slots_[place];
    s.text = static_cast<std::uint32_t>(text_.size());
    s.ids = static_cast<std::uint32_t>(ids_.size());
    s.length = static_cast<std::uint16_t>(piece.size());
    s.count = static_cast<std::uint16_t>(ids.size());
    text_ += piece;
    ids_.insert(ids_.end(), ids.begin(), ids.end());
  }

 private:
  struct slot {
    std::uint32_t tag = 0, text = 0, ids = 0;
    std::uint16_t length = 0, count = 0;  // count 0: free
  };
  static constexpr std::size_t slot_count = std::size_t{1} << 16;

  std::string_view text_of(const slot& s) const { return {text_.data() + s.text, s.length}; }

  std::vector<slot> slots_;
  std::string text_;
  std::vector<token_id> ids_;
  std::size_t used_ = 0;
};

}  // namespace text
}  // namespace qlib::inline v0
