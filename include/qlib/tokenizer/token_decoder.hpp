#pragma once
#include <qlib/tokenizer/normalizer.hpp>

#include <string>
#include <variant>
#include <vector>

namespace qlib::inline v0 {
namespace text {

struct byte_level_decoding {};     ///< characters of the byte alphabet become bytes; ill-formed parts U+FFFD
struct byte_fallback_decoding {};  ///< <0xNN> tokens in a row become their characters, or one U+FFFD each
struct fuse_decoding {};
struct strip_decoding {
  std::string content;
  std::size_t start = 0, stop = 0;  ///< at most so many at the ends of every token
};
struct metaspace_decoding {
  std::string replacement;
  bool prepended = true;  ///< the first token has lost its space
};
struct word_piece_decoding {
  std::string prefix;
  bool cleanup = true;
};
struct bpe_decoding {
  std::string suffix;  ///< a space, but in the last token
};
struct ctc_decoding {
  std::string pad, word_delimiter;  ///< repeated tokens count once
  bool cleanup = true;
};

using decoder_step = std::variant<byte_level_decoding, byte_fallback_decoding, fuse_decoding, replace_step, strip_decoding, metaspace_decoding,
                                  word_piece_decoding, bpe_decoding, ctc_decoding>;

/// The text of a sequence of tokens. Without steps the tokens are joined by spaces, as the `tokenizers` library does.
std::string decoded(std::vector<std::string> tokens, const std::vector<decoder_step>& steps, regex_scratch& scratch);

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/token_decoder.ipp>
#endif
