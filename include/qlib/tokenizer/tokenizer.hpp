#pragma once
#include <qlib/core/status.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

namespace text {
struct tokenizer_parts;
}

/// Text to token ids and back, as the `tokenizers` library does it with the same tokenizer.json: byte-level BPE, BPE with byte fallback,
/// Unigram, WordPiece and WordLevel models, with their normalizers, pre-tokenizers, added tokens and post-processors.
///
/// Copies share everything. Any number of threads may use one object; what they ask does not change what others get.
class tokenizer {
 public:
  /// A tokenizer without tokens; ids of any text are empty.
  tokenizer();

  /// Reads a checkpoint's directory (tokenizer.json and, where they are, tokenizer_config.json, special_tokens_map.json and added_tokens.json) or a
  /// tokenizer.json, to whose side nothing is looked at then. Errors name the file and what it uses that is not supported.
  static result<tokenizer> load(const std::string& path);

  /// The same from text. All but the first may be empty; `where` is the file of the first, for errors.
  static result<tokenizer> parse(std::string_view tokenizer_json, std::string_view config_json = {}, const std::string& where = "tokenizer.json",
                                 std::string_view special_tokens_map_json = {}, std::string_view added_tokens_json = {});

  /// Ids of a text; each maximal part that is not UTF-8 counts as U+FFFD. add_special: with what the post-processor puts around it (a
  /// beginning-of-text token, say). Special tokens that the text spells out are found in either case.
  ///
  /// The error is that a regular expression was given up (its limits on memory are reached by a text of megabytes without a split), or that
  /// the text has an unknown character and the model no unknown token. `truncation` and `padding` of tokenizer.json do not count.
  result<std::vector<std::int32_t>> encode(std::string_view text, bool add_special = true) const;

  /// The text of ids; skip_special leaves out special tokens. Ids that are no token are left out. The error is a decoder that is not
  /// supported.
  result<std::string> decode(std::span<const std::int32_t> ids, bool skip_special = false) const;

  /// One more than the largest id.
  std::size_t vocab_size() const;

  /// A token as tokenizer.json writes it.
  std::optional<std::int32_t> id_of(std::string_view token) const;
  std::string token_of(std::int32_t id) const;  ///< empty when there is no such token

  /// What is put before and after a text.
  std::span<const std::int32_t> prefix() const;
  std::span<const std::int32_t> suffix() const;

  /// tokenizer_config.json says how messages become text. This library does not run such templates.
  bool has_chat_template() const;

 private:
  struct workspaces;
  struct workspace;
  std::shared_ptr<const text::tokenizer_parts> parts_;
  std::shared_ptr<workspaces> workspaces_;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/tokenizer.ipp>
#endif
