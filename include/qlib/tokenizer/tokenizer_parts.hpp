/// What a tokenizer is made of.
#pragma once
#include <qlib/tokenizer/added_tokens.hpp>
#include <qlib/tokenizer/bpe.hpp>
#include <qlib/tokenizer/pre_tokenizer.hpp>
#include <qlib/tokenizer/token_decoder.hpp>
#include <qlib/tokenizer/unigram.hpp>
#include <qlib/tokenizer/word_level.hpp>
#include <qlib/tokenizer/word_piece.hpp>

#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace qlib::inline v0 {
namespace text {

/// Everything that a tokenizer is made of. Immutable once read.
struct tokenizer_parts {
  std::vector<added_token> added;
  vocabulary added_words;  ///< the contents of `added`
  added_token_finder raw_tokens, normalized_tokens;
  std::vector<normalizer_step> normalizer;
  std::vector<pre_tokenizer_stage> stages;
  bool byte_level = false;        ///< the vocabulary is written in the byte alphabet, and `words` and the pieces are bytes
  bool byte_level_alone = false;  ///< the pre-tokenizer is one ByteLevel
  vocabulary words;
  vocabulary other_words;        ///< tokens that are not of the byte alphabet: no piece can equal them
  std::size_t model_tokens = 0;  ///< in `words` and `other_words`
  std::variant<bpe, unigram, word_piece, word_level> model;
  std::vector<token_id> prefix, suffix;  ///< what the post-processor puts around a text
  std::vector<decoder_step> decoder;
  std::string decoder_problem;  ///< why ids cannot become text again; encoding works
  token_id bos = no_token, eos = no_token;
  bool has_chat_template = false;

  /// The id of a token as tokenizer.json writes it.
  token_id id_of(std::string_view content) const;
  /// The token as tokenizer.json writes it; empty when there is no such id.
  std::string content_of(token_id id) const;
  /// One more than the largest id.
  std::size_t size() const;
  bool contains(token_id id) const;
  /// The id that the reference gives to the next token that the model lacks; what tokenizer.json says of it does not count there.
  token_id next_id() const;
  /// Makes `raw_tokens` and `normalized_tokens`, which find the added tokens in a text.
  void find_added_tokens();
};

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/tokenizer_parts.ipp>
#endif
