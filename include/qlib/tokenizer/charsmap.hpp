#pragma once
#include <qlib/core/status.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {
namespace text {

/// SentencePiece's precompiled character map: a double-array trie from character sequences to their replacements.
///
///     4 bytes   T, the bytes of the trie, little endian
///     T bytes   units of the double array, 32 bits each
///     the rest  replacements, each ended by a NUL
class charsmap {
 public:
  charsmap() = default;

  /// `base64` is the text in tokenizer.json. The error has a problem only.
  static result<charsmap> read(std::string_view base64);

  /// `s`, valid UTF-8, with its characters replaced; as the `tokenizers` library does it: a grapheme cluster of at most 5 bytes is looked
  /// up as a whole (its shortest known beginning decides), other clusters character by character.
  std::string apply(std::string_view s) const;

 private:
  std::optional<std::string_view> find(std::string_view s) const;

  std::vector<std::uint32_t> units_;
  std::string replacements_;
};

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/charsmap.ipp>
#endif
