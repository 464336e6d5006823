#pragma once
#include <qlib/tokenizer/byte_alphabet.hpp>
#include <qlib/tokenizer/tokenizer_parts.hpp>

#include <algorithm>
#include <utility>

namespace qlib::inline v0 {
namespace text {

QLIB_INLINE token_id tokenizer_parts::id_of(std::string_view content) const {
  if (const token_id id = added_words.find(content); id != no_token) return id;
  if (!byte_level) return words.find(content);
  std::string bytes;
  return from_byte_alphabet(content, bytes) ? words.find(bytes) : other_words.find(content);
}

QLIB_INLINE std::string tokenizer_parts::content_of(token_id id) const {
  if (added_words.contains(id)) return std::string{added_words.token(id)};
  if (other_words.contains(id)) return std::string{other_words.token(id)};
  if (!words.contains(id)) return {};
  if (!byte_level) return std::string{words.token(id)};
  std::string out;
  append_in_byte_alphabet(out, words.token(id));
  return out;
}

QLIB_INLINE std::size_t tokenizer_parts::size() const { return std::max({words.size(), other_words.size(), added_words.size()}); }

QLIB_INLINE bool tokenizer_parts::contains(token_id id) const { return words.contains(id) || other_words.contains(id) || added_words.contains(id); }

QLIB_INLINE token_id tokenizer_parts::next_id() const {
  token_id largest = no_token;
  for (const added_token& t : added) largest = std::max(largest, t.id);
  const auto behind = static_cast<token_id>(model_tokens);
  return largest >= behind || (behind == 0 && largest >= 0) ? largest + 1 : behind;
}

QLIB_INLINE void tokenizer_parts::find_added_tokens() {
  std::vector<std::pair<std::string, added_token>> raw, normal;
  regex_scratch scratch;
  for (added_token& t : added) {
    t.shown = t.normalized ? normalized(t.content, normalizer, scratch) : t.content;
    (t.normalized ? normal : raw).emplace_back(t.shown, t);
  }
  raw_tokens = added_token_finder{raw};
  normalized_tokens = added_token_finder{normal};
}

}  // namespace text
}  // namespace qlib::inline v0
