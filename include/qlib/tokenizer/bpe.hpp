#pragma once
#include <qlib/tokenizer/vocabulary.hpp>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {
namespace text {

struct bpe_options {
  bool bytes = false;                              ///< symbols are bytes (byte-level vocabularies), else characters
  bool byte_fallback = false;                      ///< characters that are no token become <0xNN> tokens
  bool fuse_unk = false;                           ///< neighbouring unknown characters make one unknown token
  bool ignore_merges = false;                      ///< a piece that is a token is that token
  token_id unk = no_token;                         ///< no_token: unknown characters are left out
  std::string continuing_prefix{}, word_suffix{};  ///< of all characters of a piece but the first, and of the last
};

/// Byte-pair encoding: of all neighbours that a merge names, the pair with the smallest rank, leftmost first, becomes one symbol.
class bpe {
 public:
  struct scratch {
    struct symbol {
      token_id id;
      std::int32_t previous, next;
      std::uint32_t rank;  ///< of the merge with the next symbol
      token_id merged;
    };
    std::vector<symbol> symbols;
    std::vector<std::uint64_t> heap;  ///< rank << 32 | symbol
    std::string affixed;              ///< a character with its prefix and suffix
  };

  bpe() : bpe(bpe_options{}) {}  ///< knows no token
  /// Call `add_merge` for all merges, then `finish`.
  explicit bpe(bpe_options options);
  const bpe_options& options() const { return options_; }

  /// A pair that comes again gets the later rank.
  void add_merge(token_id left, token_id right, std::uint32_t rank, token_id merged) { merges_.push_back({left, right, rank, merged}); }

  /// Makes the table of merges, and looks up single symbols and <0xNN> tokens once.
  void finish(const vocabulary& words);

  /// Appends the ids of a piece, which is not empty. O(n log n).
  void encode(std::string_view piece, const vocabulary& words, scratch& work, std::vector<token_id>& out) const;

 private:
  struct slot {
    token_id left = no_token, right = no_token;
    std::uint32_t rank = 0;
    token_id merged = no_token;
  };
  static constexpr std::uint32_t no_rank = 0xffffffffu;

  std::size_t first_slot_of(token_id left, token_id right) const {
    const std::uint64_t h =
        (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right)) * 0x9e3779b97f4a7c15u;
    return (h ^ h >> 32) & (slots_.size() - 1);
  }
  std::size_t slot_of(token_id left, token_id right) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = first_slot_of(left, right);
    while (slots_[at].left != no_token && (slots_[at].left != left || slots_[at].right != right)) at = (at + 1) & mask;
    return at;
  }
  void rank_with_next(std::vector<scratch::symbol>& symbols, std::size_t at) const;
  void add_symbols(std::string_view piece, const vocabulary& words, scratch& work) const;
  void merge_by_scan(scratch& work) const;
  void merge_by_heap(scratch& work) const;

  bpe_options options_;
  std::vector<slot> merges_, slots_;  // merges_: until `finish`
  std::array<token_id, 256> of_byte_{}, fallback_{};
  bool has_fallback_ = false;
};

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/bpe.ipp>
#endif
