#pragma once
#include <qlib/tokenizer/vocabulary.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {
namespace text {

/// BERT's model: the longest token that the rest of a word begins with, again and again; a word that cannot be covered is unknown.
struct word_piece {
  std::string continuing_prefix = "##";  ///< before every token but a word's first
  std::size_t max_characters = 100;      ///< a longer word is unknown
  token_id unk = missing_token;

  /// Appends the ids of a word, which is valid UTF-8 and not empty.
  void encode(std::string_view word, const vocabulary& words, std::vector<token_id>& out) const {
    std::size_t characters = 0;
    for (const char c : word) characters += (static_cast<unsigned char>(c) & 0xc0u) != 0x80u;
    if (characters > max_characters) return out.push_back(unk);
    const std::size_t first = out.size();
    for (std::size_t at = 0; at < word.size();) {
      token_id id = no_token;
      std::size_t length = word.size() - at;
      for (; length > 0; --length) {
        const bool whole = at + length == word.size() || (static_cast<unsigned char>(word[at + length]) & 0xc0u) != 0x80u;
        if (!whole) continue;
        const std::string_view part = word.substr(at, length);
        id = at == 0 ? words.find(part) : words.find(continuing_prefix + std::string{part});
        if (id != no_token) break;
      }
      if (id == no_token) {
        out.resize(first);
        return out.push_back(unk);
      }
      out.push_back(id);
      at += length;
    }
  }
};

}  // namespace text
}  // namespace qlib::inline v0
