/// From tokenizer.json and tokenizer_config.json to the parts that do the work.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/tokenizer/tokenizer_parts.hpp>

#include <string>
#include <string_view>

namespace qlib::inline v0 {
namespace text {

/// `where` is the file, for the error. The error names what is not supported, by its type in tokenizer.json.
result<tokenizer_parts> read_tokenizer_json(std::string_view json, const std::string& where);

/// Texts of the files beside tokenizer.json; empty: there is no such file.
struct side_files {
  std::string_view config, special_tokens_map, added_tokens;
};

/// What those files change: the added tokens, `add_bos_token`, `add_eos_token`, and the prefix space of GPT-2's kind. `folder` ends with a slash or
/// is empty, for errors.
///
/// Tokens of `added_tokens_decoder`, or, without it, of special_tokens_map.json and added_tokens.json, and special tokens that tokenizer.json lacks
/// are added as transformers 5.17 adds them. For the rest transformers 4.57 is followed: true adds the token where the post-processor does not; false
/// takes it away for the Llama and Gemma classes, which make their post-processor from these flags; a pre-tokenizer that is ByteLevel alone gets
/// `add_prefix_space`, false when absent.
status apply_side_files(const side_files& files, const std::string& folder, tokenizer_parts& parts);

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/tokenizer_config.ipp>
#include <qlib/tokenizer/tokenizer_json.ipp>
#endif
