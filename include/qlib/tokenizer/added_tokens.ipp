#pragma once
#include <qlib/tokenizer/added_tokens.hpp>
#include <qlib/tokenizer/unicode_text.hpp>

#include <algorithm>

namespace qlib::inline v0 {
namespace text {

QLIB_INLINE added_token_finder::added_token_finder(const std::vector<std::pair<std::string, added_token>>& forms) {
  std::vector<std::pair<std::string, token_id>> words;
  for (const auto& [form, token] : forms) {
    words.emplace_back(form, static_cast<token_id>(tokens_.size()));
    tokens_.push_back(token);
  }
  trie_ = byte_trie{std::move(words)};
}

QLIB_INLINE void added_token_finder::split(std::string_view s, std::vector<segment>& out) const {
  std::size_t done = 0;  // end of the last segment
  for (std::size_t at = 0; at < s.size() && !trie_.empty();) {
    if (!trie_.begins(s[at])) {
      ++at;
      continue;
    }
    std::size_t length = 0;
    token_id found = no_token;
    trie_.prefixes(s.substr(at), [&](std::size_t bytes, token_id index) { length = bytes, found = index; });
    if (found == no_token) {
      ++at;
      continue;
    }
    const added_token& token = tokens_[static_cast<std::size_t>(found)];
    std::size_t begin = at, end = at + length;
    at = end;
    if (token.single_word) {
      const bool within =
          (begin > 0 && is_word(character_at(s, character_before(s, begin)).code)) || (end < s.size() && is_word(character_at(s, end).code));
      if (within) continue;
    }
    if (token.lstrip) {
      while (begin > done) {
        const std::size_t before = character_before(s, begin);
        if (!is_white_space(character_at(s, before).code)) break;
        begin = before;
      }
      begin = std::max(begin, done);
    }
    if (token.rstrip) {
      while (end < s.size()) {
        const character c = character_at(s, end);
        if (!is_white_space(c.code)) break;
        end += c.length;
      }
    }
    if (begin > done) out.push_back({{done, begin}, no_token});
    if (begin < end) out.push_back({{begin, end}, token.id});  // all of it may be white space that the token before took
    done = end;  // of a token within the white space that the one before took, the rest of that white space comes again
  }
  if (done < s.size()) out.push_back({{done, s.size()}, no_token});
}

}  // namespace text
}  // namespace qlib::inline v0
