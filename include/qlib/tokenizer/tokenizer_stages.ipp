#pragma once
#include <qlib/tokenizer/ruby_classes.hpp>
#include <qlib/tokenizer/tokenizer_reading.ipp>

#include <algorithm>
#include <array>

namespace qlib::inline v0 {
namespace text {

/// Around the model: each of these reads one part of a tokenizer.json.
namespace detail {

inline constexpr const char* gpt2_pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

QLIB_INLINE void read_normalizer(tokenizer_reading& to, const json& j) {
  if (j.is_null()) return;
  const std::string type = text_of(j, "type");
  auto& steps = to.parts.normalizer;
  const auto form = [&](normal_form f) { steps.emplace_back(normal_form_step{f}); };
  if (type == "Sequence") {
    for (const json& one : member(j, "normalizers")) read_normalizer(to, one);
  } else if (type == "Prepend") {
    steps.emplace_back(prepend_step{text_of(j, "prepend")});
  } else if (type == "Replace") {
    steps.emplace_back(replace_step{to.pattern_of(j, "normalizer"), text_of(j, "content")});
  } else if (type == "NFC") {
    form(normal_form::nfc);
  } else if (type == "NFD") {
    form(normal_form::nfd);
  } else if (type == "NFKC") {
    form(normal_form::nfkc);
  } else if (type == "NFKD") {
    form(normal_form::nfkd);
  } else if (type == "Strip") {
    steps.emplace_back(strip_step{flag_of(j, "strip_left", true), flag_of(j, "strip_right", true)});
  } else if (type == "StripAccents") {
    steps.emplace_back(strip_accents_step{});
  } else if (type == "Nmt") {
    steps.emplace_back(nmt_step{});
  } else if (type == "ByteLevel") {
    steps.emplace_back(byte_alphabet_step{});
  } else if (type == "Lowercase") {
    steps.emplace_back(lower_case_step{});
  } else if (type == "BertNormalizer") {
    const bool lower = flag_of(j, "lowercase", true);
    steps.emplace_back(
        bert_step{flag_of(j, "clean_text", true), flag_of(j, "handle_chinese_chars", true), flag_of(j, "strip_accents", lower), lower});
  } else if (type == "Precompiled") {
    auto map = charsmap::read(text_of(j, "precompiled_charsmap"));
    if (!map) return to.fail("normalizer", map.error().problem, "download the file again");
    steps.emplace_back(*std::move(map));
  } else {
    to.unsupported("normalizer", j);
  }
}

/// Older files say `add_prefix_space` instead of `prepend_scheme`.
QLIB_INLINE prepend_scheme scheme_of(tokenizer_reading& to, const json& j) {
  const std::string name = text_of(j, "prepend_scheme", flag_of(j, "add_prefix_space", true) ? "always" : "never");
  if (name == "first") return prepend_scheme::first;
  if (name == "never") return prepend_scheme::never;
  if (name != "always") to.fail("pre_tokenizer", "the prepend_scheme " + name + " is not supported");
  return prepend_scheme::always;
}

QLIB_INLINE split_behavior behavior_of(tokenizer_reading& to, const json& j, const char* otherwise) {
  const std::string name = text_of(j, "behavior", otherwise);
  constexpr std::array<std::string_view, 5> names{"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
  const auto at = std::find(names.begin(), names.end(), name);
  if (at == names.end()) to.fail("pre_tokenizer", "the behavior " + name + " is not supported");
  return static_cast<split_behavior>(at - names.begin());
}

QLIB_INLINE void read_pre_tokenizer(tokenizer_reading& to, const json& j) {
  if (j.is_null()) return;
  const std::string type = text_of(j, "type");
  auto& stages = to.parts.stages;
  if (type == "Sequence") {
    for (const json& one : member(j, "pretokenizers")) read_pre_tokenizer(to, one);
  } else if (type == "Split") {
    stages.emplace_back(split_stage{to.pattern_of(j, "pre_tokenizer"), behavior_of(to, j, "Isolated"), flag_of(j, "invert", false)});
  } else if (type == "ByteLevel") {
    if (flag_of(j, "add_prefix_space", true)) stages.emplace_back(prefix_space_stage{});
    if (flag_of(j, "use_regex", true)) stages.emplace_back(split_stage{to.regex_of(gpt2_pattern, "pre_tokenizer")});
    stages.emplace_back(byte_alphabet_stage{});
  } else if (type == "Digits") {
    stages.emplace_back(class_stage{is_numeric, flag_of(j, "individual_digits", false) ? split_behavior::isolated : split_behavior::contiguous});
  } else if (type == "Metaspace") {
    metaspace_stage stage{text_of(j, "replacement", "\xe2\x96\x81"), scheme_of(to, j), flag_of(j, "split", true)};
    if (stage.replacement.empty()) to.fail("pre_tokenizer", "Metaspace without a replacement");
    stages.emplace_back(std::move(stage));
  } else if (type == "Punctuation") {
    stages.emplace_back(class_stage{is_punctuation, behavior_of(to, j, "Isolated")});
  } else if (type == "WhitespaceSplit") {
    stages.emplace_back(class_stage{is_white_space, split_behavior::removed});
  } else if (type == "Whitespace") {
    const std::string word{crate_word_class};
    stages.emplace_back(split_stage{to.regex_of("[" + word + "]+|[^" + word + "\\s]+", "pre_tokenizer"), split_behavior::removed, true});
  } else if (type == "FixedLength") {
    const json& length = member(j, "length");
    if (!length.is_null() && (!length.is_number_unsigned() || length.get<std::uint64_t>() == 0))
      return to.fail("pre_tokenizer", "the length of FixedLength is not a positive number", "download the file again");
    stages.emplace_back(fixed_length_stage{length.is_null() ? 5 : length.get<std::size_t>()});
  } else if (type == "BertPreTokenizer") {
    stages.emplace_back(class_stage{is_white_space, split_behavior::removed});
    stages.emplace_back(class_stage{is_punctuation, split_behavior::isolated});
  } else if (type == "CharDelimiterSplit") {
    stages.emplace_back(split_stage{{text_of(j, "delimiter"), {}}, split_behavior::removed});
  } else {
    to.unsupported("pre_tokenizer", j);
  }
}

QLIB_INLINE void read_post_processor(tokenizer_reading& to, const json& j) {
  if (j.is_null()) return;
  const std::string type = text_of(j, "type");
  std::vector<token_id> before, after;
  if (type == "Sequence") {
    for (const json& one : member(j, "processors")) read_post_processor(to, one);
  } else if (type == "TemplateProcessing") {
    bool behind = false;
    for (const json& part : member(j, "single")) {
      if (const json& text = member(part, "Sequence"); !text.is_null()) {
        if (behind || text_of(text, "id") != "A") return to.fail("post_processor", "a template for one text with more than $A is not supported");
        behind = true;
        continue;
      }
      const std::string name = text_of(member(part, "SpecialToken"), "id");
      const json& ids = member(member(member(j, "special_tokens"), name.c_str()), "ids");
      if (!ids.is_array() || ids.empty()) return to.fail("post_processor", "the template's token " + name + " has no ids", "download the file again");
      for (const json& id : ids)
        if (id.is_number_unsigned() && id.get<std::uint64_t>() <= vocabulary::largest_id) (behind ? after : before).push_back(id.get<token_id>());
    }
    if (!behind) return to.fail("post_processor", "a template for one text without $A is not supported");
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    for (const char* key : {"cls", "sep"}) {
      const json& pair = member(j, key);
      if (!pair.is_array() || pair.size() != 2 || !pair[1].is_number_unsigned() || pair[1].get<std::uint64_t>() > vocabulary::largest_id)
        return to.fail("post_processor", std::string{"has no "} + key, "download the file again");
      (key[0] == 'c' ? before : after).push_back(pair[1].get<token_id>());
    }
  } else if (type != "ByteLevel") {  // which changes offsets only
    to.unsupported("post_processor", j);
  }
  if (before.empty() && after.empty()) return;
  if (!to.parts.prefix.empty() || !to.parts.suffix.empty()) return to.fail("post_processor", "two that add tokens are not supported");
  to.parts.prefix.insert(to.parts.prefix.begin(), before.begin(), before.end());
  to.parts.suffix.insert(to.parts.suffix.end(), after.begin(), after.end());
}

QLIB_INLINE void read_decoder(tokenizer_reading& to, const json& j) {
  if (j.is_null()) return;
  const std::string type = text_of(j, "type");
  auto& steps = to.parts.decoder;
  const auto count = [&](const char* key) { return member(j, key).is_number_unsigned() ? member(j, key).get<std::size_t>() : 0; };
  if (type == "Sequence") {
    for (const json& one : member(j, "decoders")) read_decoder(to, one);
  } else if (type == "ByteLevel") {
    steps.emplace_back(byte_level_decoding{});
  } else if (type == "ByteFallback") {
    steps.emplace_back(byte_fallback_decoding{});
  } else if (type == "Fuse") {
    steps.emplace_back(fuse_decoding{});
  } else if (type == "Replace") {
    steps.emplace_back(replace_step{to.pattern_of(j, "decoder"), text_of(j, "content")});
  } else if (type == "Strip") {
    steps.emplace_back(strip_decoding{text_of(j, "content", " "), count("start"), count("stop")});
  } else if (type == "Metaspace") {
    steps.emplace_back(metaspace_decoding{text_of(j, "replacement", "\xe2\x96\x81"), scheme_of(to, j) != prepend_scheme::never});
  } else if (type == "WordPiece") {
    steps.emplace_back(word_piece_decoding{text_of(j, "prefix", "##"), flag_of(j, "cleanup", true)});
  } else if (type == "BPEDecoder") {
    steps.emplace_back(bpe_decoding{text_of(j, "suffix", "</w>")});
  } else if (type == "CTC") {
    steps.emplace_back(ctc_decoding{text_of(j, "pad_token", "<pad>"), text_of(j, "word_delimiter_token", "|"), flag_of(j, "cleanup", true)});
  } else {
    to.parts.decoder_problem = "the decoder type " + type + " is not supported";
  }
}

}  // namespace detail
}  // namespace text
}  // namespace qlib::inline v0
