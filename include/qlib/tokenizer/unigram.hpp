#pragma once
#include <qlib/tokenizer/byte_trie.hpp>

#include <array>
#include <string_view>
#include <utility>
#include <vector>

namespace qlib::inline v0 {
namespace text {

/// The segmentation with the largest sum of log probabilities (Viterbi). A character that is no token scores 10 less than the worst
/// token; neighbouring unknown characters make one unknown token.
class unigram {
 public:
  struct scratch {
    struct node {
      double score;
      std::ptrdiff_t begin;  ///< of the best token that ends here; -1: none yet
      token_id id;
    };
    std::vector<node> best;
    std::vector<std::pair<std::size_t, node>> path;  ///< end and node, from the right
  };

  unigram() = default;
  /// scores: of the ids from 0 on, one for every token.
  unigram(const vocabulary& words, std::vector<double> scores, token_id unk, bool byte_fallback);

  /// Appends the ids of a piece, which is valid UTF-8 and not empty. O(n * longest token). Without an unknown token, a character that is no
  /// token gives `missing_token`.
  void encode(std::string_view piece, const vocabulary& words, scratch& work, std::vector<token_id>& out) const;

 private:
  byte_trie trie_;
  std::vector<double> scores_;
  token_id unk_ = no_token;
  double unk_score_ = 0;
  bool byte_fallback_ = false;
  std::array<token_id, 256> fallback_{};
};

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/unigram.ipp>
#endif
