#pragma once
#include <qlib/tokenizer/byte_trie.hpp>
#include <qlib/tokenizer/regex.hpp>

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace qlib::inline v0 {
namespace text {

struct added_token {
  token_id id = no_token;
  std::string content;
  bool single_word = false;  ///< not within a word
  bool lstrip = false;       ///< takes the white space before it
  bool rstrip = false;       ///< takes the white space after it
  bool normalized = false;   ///< looked for in normalized text
  bool special = false;
  std::string shown{};  ///< what decoding makes of it: the normalized content of normalized ones, as in 0.23 of the reference
};

/// A part of a text: an added token, or, without one, text to encode.
struct segment {
  extent part;
  token_id id = no_token;
};

/// Finds the added tokens of a text: leftmost first, of several the longest.
class added_token_finder {
 public:
  added_token_finder() = default;
  /// forms: what to look for, and the token that it stands for.
  explicit added_token_finder(const std::vector<std::pair<std::string, added_token>>& forms);

  /// Appends the segments of `s`, which is valid UTF-8, in order; they leave no gap but white space that a token took.
  void split(std::string_view s, std::vector<segment>& out) const;

 private:
  byte_trie trie_;
  std::vector<added_token> tokens_;  // by index: the trie's values
};

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/added_tokens.ipp>
#endif
