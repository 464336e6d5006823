#pragma once
#include <qlib/tokenizer/vocabulary.hpp>

#include <string_view>
#include <vector>

namespace qlib::inline v0 {
namespace text {

/// A word is a token or unknown.
struct word_level {
  token_id unk = missing_token;

  void encode(std::string_view word, const vocabulary& words, std::vector<token_id>& out) const {
    const token_id id = words.find(word);
    out.push_back(id != no_token ? id : unk);
  }
};

}  // namespace text
}  // namespace qlib::inline v0
