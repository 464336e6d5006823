#pragma once
#include <qlib/io/json_events.ipp>
#include <qlib/io/utf8.hpp>
#include <qlib/tokenizer/byte_alphabet.hpp>
#include <qlib/tokenizer/json_cursor.hpp>
#include <qlib/tokenizer/ruby_classes.hpp>
#include <qlib/tokenizer/tokenizer_json.hpp>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

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

namespace detail {

using nlohmann::json;

inline constexpr const char* gpt2_pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::size_t largest_file = std::size_t{1} << 30;
inline constexpr const char* other_program = "tokenize with another program and pass the ids with --calib_ids";

/// A member, or null when the value is no object or has none of that name.
QLIB_INLINE const json& member(const json& j, const char* key) {
  static const json null;
  if (!j.is_object()) return null;
  const auto at = j.find(key);
  return at == j.end() ? null : *at;
}
QLIB_INLINE std::string text_of(const json& j, const char* key, const char* otherwise = "") {
  const json& m = member(j, key);
  return m.is_string() ? m.get_ref<const std::string&>() : std::string{otherwise};
}
QLIB_INLINE bool flag_of(const json& j, const char* key, bool otherwise) {
  const json& m = member(j, key);
  return m.is_boolean() ? m.get<bool>() : otherwise;
}

/// Makes what finds the added tokens.
QLIB_INLINE void prepare_added_tokens(tokenizer_parts& parts) {
  std::vector<std::pair<std::string, added_token>> raw, normal;
  regex_scratch scratch;
  for (added_token& t : parts.added) {
    t.shown = t.normalized ? normalized(t.content, parts.normalizer, scratch) : t.content;
    (t.normalized ? normal : raw).emplace_back(t.shown, t);
  }
  parts.raw_tokens = added_token_finder{raw};
  parts.normalized_tokens = added_token_finder{normal};
}

/// Reads tokenizer.json part by part; the first thing that is wrong stays in `fault`.
class tokenizer_reader {
 public:
  tokenizer_reader(std::string_view json, const std::string& where) : text_{json}, where_{where} {}

  result<tokenizer_parts> run() {
    if (text_.size() > largest_file) fail("", "has " + std::to_string(text_.size()) + " bytes, which no tokenizer needs", "download the file again");
    else if (const auto at = first_invalid_utf8(text_)) fail("", "is not UTF-8 at byte " + std::to_string(*at), "download the file again");
    if (!fault_) find_large_parts();
    if (!fault_) root_ = parse();
    if (!fault_) normalizer(member(root_, "normalizer"));
    if (!fault_) pre_tokenizer(member(root_, "pre_tokenizer"));
    if (!fault_) model();
    if (!fault_) added_tokens();
    if (!fault_) post_processor(member(root_, "post_processor"));
    if (!fault_) decoder(member(root_, "decoder"));
    if (fault_) return std::move(*fault_);
    return std::move(parts_);
  }

 private:
  void fail(std::string subject, std::string problem, std::string remedy = other_program) {
    if (!fault_) fault_ = error{error_kind::invalid_input, where_, std::move(subject), std::move(problem), std::move(remedy)};
  }
  void unsupported(const std::string& subject, const json& j) {
    const std::string type = text_of(j, "type");
    fail(subject, type.empty() ? "has no type" : "the type " + type + " is not supported");
  }

  /// Where `model.vocab` and `model.merges` lie: they are too large for a tree.
  void find_large_parts() {
    json_cursor c{text_};
    c.object([&](std::string_view key) {
      if (key != "model" || c.peek() != '{') return c.skip();
      c.object([&](std::string_view inner) {
        c.peek();
        const std::size_t begin = c.at();
        c.skip();
        if (inner == "vocab") vocab_ = {begin, c.at()};
        else if (inner == "merges") merges_ = {begin, c.at()};
      });
    });
    if (c.failed()) fail("", "is not valid JSON: " + c.problem(), "download the file again");
  }

  /// The whole file as a tree but for the large parts, which are 0 in it.
  json parse() {
    std::string small;
    std::size_t at = 0;
    const bool ordered = vocab_.begin < merges_.begin;
    for (const extent& e : {ordered ? vocab_ : merges_, ordered ? merges_ : vocab_}) {
      if (e.size() == 0) continue;
      small.append(text_.substr(at, e.begin - at)).append("0");
      at = e.end;
    }
    small += text_.substr(at);
    json tree = json::parse(small, nullptr, false);
    if (tree.is_discarded() || !tree.is_object()) fail("", "is not valid JSON", "download the file again");
    else if (!member(tree, "model").is_object())
      fail("", "has no model: it is not a tokenizer.json of the tokenizers library", "pass the checkpoint's own");
    return tree;
  }

  text::pattern pattern_of(const json& j, const std::string& subject) {
    const json& p = member(j, "pattern");
    if (const json& s = member(p, "String"); s.is_string()) return {s.get<std::string>(), {}};
    if (const json& r = member(p, "Regex"); r.is_string()) return regex_of(r.get<std::string>(), subject);
    fail(subject, "has no pattern");
    return {};
  }
  text::pattern regex_of(const std::string& expression, const std::string& subject) {
    auto compiled = regex::compile(expression, where_, subject);
    if (compiled) return {{}, *std::move(compiled)};
    if (!fault_) fault_ = compiled.error();
    return {};
  }

  void normalizer(const json& j) {
    if (j.is_null()) return;
    const std::string type = text_of(j, "type");
    auto& steps = parts_.normalizer;
    const auto form = [&](normal_form f) { steps.emplace_back(normal_form_step{f}); };
    if (type == "Sequence") {
      for (const json& one : member(j, "normalizers")) normalizer(one);
    } else if (type == "Prepend") {
      steps.emplace_back(prepend_step{text_of(j, "prepend")});
    } else if (type == "Replace") {
      steps.emplace_back(replace_step{pattern_of(j, "normalizer"), text_of(j, "content")});
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
      if (!map) return fail("normalizer", map.error().problem, "download the file again");
      steps.emplace_back(*std::move(map));
    } else {
      unsupported("normalizer", j);
    }
  }

  split_behavior behavior_of(const json& j, const char* otherwise) {
    const std::string name = text_of(j, "behavior", otherwise);
    constexpr std::array<std::string_view, 5> names{"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const auto at = std::find(names.begin(), names.end(), name);
    if (at == names.end()) fail("pre_tokenizer", "the behavior " + name + " is not supported");
    return static_cast<split_behavior>(at - names.begin());
  }

  void pre_tokenizer(const json& j) {
    if (j.is_null()) return;
    const std::string type = text_of(j, "type");
    auto& stages = parts_.stages;
    if (type == "Sequence") {
      for (const json& one : member(j, "pretokenizers")) pre_tokenizer(one);
    } else if (type == "Split") {
      stages.emplace_back(split_stage{pattern_of(j, "pre_tokenizer"), behavior_of(j, "Isolated"), flag_of(j, "invert", false)});
    } else if (type == "ByteLevel") {
      if (flag_of(j, "add_prefix_space", true)) stages.emplace_back(prefix_space_stage{});
      if (flag_of(j, "use_regex", true)) stages.emplace_back(split_stage{regex_of(gpt2_pattern, "pre_tokenizer")});
      stages.emplace_back(byte_alphabet_stage{});
    } else if (type == "Digits") {
      stages.emplace_back(class_stage{is_numeric, flag_of(j, "individual_digits", false) ? split_behavior::isolated : split_behavior::contiguous});
    } else if (type == "Metaspace") {
      metaspace_stage stage{text_of(j, "replacement", "\xe2\x96\x81"), scheme_of(j), flag_of(j, "split", true)};
      if (stage.replacement.empty()) fail("pre_tokenizer", "Metaspace without a replacement");
      stages.emplace_back(std::move(stage));
    } else if (type == "Punctuation") {
      stages.emplace_back(class_stage{is_punctuation, behavior_of(j, "Isolated")});
    } else if (type == "WhitespaceSplit") {
      stages.emplace_back(class_stage{is_white_space, split_behavior::removed});
    } else if (type == "Whitespace") {
      const std::string word{crate_word_class};
      stages.emplace_back(split_stage{regex_of("[" + word + "]+|[^" + word + "\\s]+", "pre_tokenizer"), split_behavior::removed, true});
    } else if (type == "FixedLength") {
      const json& length = member(j, "length");
      if (!length.is_null() && (!length.is_number_unsigned() || length.get<std::uint64_t>() == 0))
        return fail("pre_tokenizer", "the length of FixedLength is not a positive number", "download the file again");
      stages.emplace_back(fixed_length_stage{length.is_null() ? 5 : length.get<std::size_t>()});
    } else if (type == "BertPreTokenizer") {
      stages.emplace_back(class_stage{is_white_space, split_behavior::removed});
      stages.emplace_back(class_stage{is_punctuation, split_behavior::isolated});
    } else if (type == "CharDelimiterSplit") {
      stages.emplace_back(split_stage{{text_of(j, "delimiter"), {}}, split_behavior::removed});
    } else {
      unsupported("pre_tokenizer", j);
    }
  }

  /// Older files say `add_prefix_space` instead of `prepend_scheme`.
  prepend_scheme scheme_of(const json& j) {
    const std::string name = text_of(j, "prepend_scheme", flag_of(j, "add_prefix_space", true) ? "always" : "never");
    if (name == "first") return prepend_scheme::first;
    if (name == "never") return prepend_scheme::never;
    if (name != "always") fail("pre_tokenizer", "the prepend_scheme " + name + " is not supported");
    return prepend_scheme::always;
  }

  /// Whether the model can work on the bytes of pieces: it is a BPE behind one ByteLevel, the last stage, and its vocabulary is all that matters.
  /// Bytes are one to one with the characters that stand for them; where more than that is asked for, pieces stay in these characters.
  void choose_symbols(const json& j, const std::string& type) {
    auto& stages = parts_.stages;
    const auto maps = [](const pre_tokenizer_stage& s) { return std::holds_alternative<byte_alphabet_stage>(s); };
    parts_.byte_level_alone = text_of(member(root_, "pre_tokenizer"), "type") == "ByteLevel";
    parts_.byte_level = type == "BPE" && !stages.empty() && maps(stages.back()) && std::count_if(stages.begin(), stages.end(), maps) == 1 &&
                        !flag_of(j, "byte_fallback", false) && text_of(j, "continuing_subword_prefix").empty() &&
                        text_of(j, "end_of_word_suffix").empty();
    if (parts_.byte_level) stages.pop_back();
  }

  void add_word(std::string_view token, std::int64_t id) {
    if (id < 0 || id > vocabulary::largest_id)
      return fail("model.vocab", "the id " + std::to_string(id) + " is out of range", "download the file again");
    const auto at = static_cast<token_id>(id);
    if (parts_.words.contains(at) || parts_.other_words.contains(at))
      return fail("model.vocab", "two tokens have the id " + std::to_string(id), "download the file again");
    parts_.model_tokens += parts_.id_of(token) == no_token;
    if (!parts_.byte_level) parts_.words.add(token, at);
    else if (from_byte_alphabet(token, bytes_)) parts_.words.add(bytes_, at);
    else parts_.other_words.add(token, at);
  }

  /// Older files do not say the type of the model; then the first of BPE, WordPiece, WordLevel and Unigram whose parts are there is meant.
  std::string type_of_model(const json& j) const {
    if (const std::string type = text_of(j, "type"); !type.empty()) return type;
    if (merges_.size() != 0) return "BPE";
    if (vocab_.size() != 0 && text_[vocab_.begin] == '[') return "Unigram";
    return member(j, "max_input_chars_per_word").is_null() ? "WordLevel" : "WordPiece";
  }

  void model() {
    const json& j = member(root_, "model");
    const bool has_vocab = vocab_.size() != 0;
    const std::string type = type_of_model(j);
    if (type != "BPE" && type != "Unigram" && type != "WordPiece" && type != "WordLevel") return unsupported("model", j);
    choose_symbols(j, type);
    if (!has_vocab) return fail("model", "has no vocab", "download the file again");
    const std::string_view vocab = text_.substr(vocab_.begin, vocab_.size());
    parts_.words.reserve(vocab.size() / 20, vocab.size() / 2);
    json_cursor c{vocab};
    if (type == "Unigram") {
      std::vector<double> scores;
      c.array([&] {
        c.expect('[');
        const std::string token{c.string()};
        c.expect(',');
        scores.push_back(c.number());
        c.expect(']');
        if (!c.failed()) add_word(token, static_cast<std::int64_t>(scores.size()) - 1);
      });
      const json& unk = member(j, "unk_id");
      const bool sound = unk.is_null() || (unk.is_number_unsigned() && unk.get<std::uint64_t>() < scores.size());
      if (!sound) fail("model.unk_id", "is not an id of the vocab", "download the file again");
      if (!c.failed() && !fault_)
        parts_.model = unigram{parts_.words, std::move(scores), unk.is_null() ? no_token : unk.get<token_id>(), flag_of(j, "byte_fallback", false)};
    } else {
      c.object([&](std::string_view token) {
        const std::int64_t id = c.integer();
        if (!c.failed() && !fault_) add_word(token, id);
      });
    }
    if (c.failed()) return fail("model.vocab", c.problem() + " of the vocab", "download the file again");
    if (fault_ || type == "Unigram") return;
    const std::string unk = text_of(j, "unk_token");
    token_id unk_id = parts_.id_of(unk);
    if (unk_id == no_token) unk_id = missing_token;
    if (type == "BPE") return read_bpe(j, member(j, "unk_token").is_null() ? no_token : unk_id);
    if (type == "WordLevel") return void(parts_.model = word_level{unk_id});
    const json& most = member(j, "max_input_chars_per_word");
    parts_.model = word_piece{text_of(j, "continuing_subword_prefix", "##"), most.is_number_unsigned() ? most.get<std::size_t>() : 100, unk_id};
  }

  void read_bpe(const json& j, token_id unk) {
    if (const json& dropout = member(j, "dropout"); dropout.is_number() && dropout.get<double>() != 0.0)
      return fail("model.dropout", "ids would be random", "set it to null");
    const std::string_view merges = text_.substr(merges_.begin, merges_.size());
    bpe made{{parts_.byte_level, flag_of(j, "byte_fallback", false), flag_of(j, "fuse_unk", false), flag_of(j, "ignore_merges", false), unk,
              text_of(j, "continuing_subword_prefix"), text_of(j, "end_of_word_suffix")}};
    std::uint32_t rank = 0;
    std::string left, right;
    bool reachable = true;  // by pieces of bytes
    // The id of a token that is written in the file's alphabet; leaves its bytes in `kept`.
    const auto look_up = [&](std::string_view written, std::string& kept) {
      if (!parts_.byte_level) kept = written;
      else if (!from_byte_alphabet(written, kept)) return reachable = false, parts_.other_words.find(written);
      return parts_.words.find(kept);
    };
    json_cursor c{merges};
    const auto add = [&](token_id a, token_id b) {
      if (c.failed() || fault_) return;
      const std::size_t cut = made.options().continuing_prefix.size();  // the second token's prefix goes
      const bool sound = a != no_token && b != no_token && right.size() >= cut;
      if (sound && !std::exchange(reachable, true)) return void(++rank);
      const token_id ab = sound ? parts_.words.find(left + right.substr(cut)) : no_token;
      if (ab == no_token)
        return fail("model.merges", "merge " + std::to_string(rank) + " is of or makes a token that the vocab lacks", "download the file again");
      made.add_merge(a, b, rank++, ab);
    };
    if (merges.empty() || merges == "null") return fail("model", "BPE without merges", "download the file again");
    c.array([&] {
      if (c.peek() == '[') {
        c.expect('[');
        const token_id a = look_up(c.string(), left);
        c.expect(',');
        const token_id b = look_up(c.string(), right);
        c.expect(']');
        return add(a, b);
      }
      const std::string_view both = c.string();
      if (both.starts_with("#version")) return;
      const std::size_t space = both.find(' ');
      if (space == both.npos || both.find(' ', space + 1) != both.npos)
        return fail("model.merges", "merge " + std::to_string(rank) + " is not two tokens with a space between them", "download the file again");
      const token_id a = look_up(both.substr(0, space), left);
      add(a, look_up(both.substr(space + 1), right));
    });
    if (c.failed()) return fail("model.merges", c.problem() + " of the merges", "download the file again");
    made.finish(parts_.words);
    parts_.model = std::move(made);
  }

  void added_tokens() {
    token_id next = parts_.next_id();
    for (const json& j : member(root_, "added_tokens")) {
      added_token t{no_token,
                    text_of(j, "content"),
                    flag_of(j, "single_word", false),
                    flag_of(j, "lstrip", false),
                    flag_of(j, "rstrip", false),
                    flag_of(j, "normalized", true),
                    flag_of(j, "special", false)};
      if (t.content.empty() || parts_.added_words.find(t.content) != no_token) continue;
      t.id = parts_.id_of(t.content);  // a token of the model keeps its id
      if (t.id == no_token) t.id = next;
      if (t.id > vocabulary::largest_id) return fail("added_tokens", "the id of " + t.content + " is out of range", "download the file again");
      next = std::max(next, t.id + 1);
      parts_.added_words.add(t.content, t.id);
      parts_.added.push_back(std::move(t));
    }
    prepare_added_tokens(parts_);
    for (const added_token& t : parts_.added)
      if (t.shown.empty()) return fail("added_tokens", "\"" + t.content + "\", which normalizing makes empty, is not supported");
  }

  void post_processor(const json& j) {
    if (j.is_null()) return;
    const std::string type = text_of(j, "type");
    std::vector<token_id> before, after;
    if (type == "Sequence") {
      for (const json& one : member(j, "processors")) post_processor(one);
    } else if (type == "TemplateProcessing") {
      bool behind = false;
      for (const json& part : member(j, "single")) {
        if (const json& text = member(part, "Sequence"); !text.is_null()) {
          if (behind || text_of(text, "id") != "A") return fail("post_processor", "a template for one text with more than $A is not supported");
          behind = true;
          continue;
        }
        const std::string name = text_of(member(part, "SpecialToken"), "id");
        const json& ids = member(member(member(j, "special_tokens"), name.c_str()), "ids");
        if (!ids.is_array() || ids.empty()) return fail("post_processor", "the template's token " + name + " has no ids", "download the file again");
        for (const json& id : ids)
          if (id.is_number_unsigned() && id.get<std::uint64_t>() <= vocabulary::largest_id) (behind ? after : before).push_back(id.get<token_id>());
      }
      if (!behind) return fail("post_processor", "a template for one text without $A is not supported");
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      for (const char* key : {"cls", "sep"}) {
        const json& pair = member(j, key);
        if (!pair.is_array() || pair.size() != 2 || !pair[1].is_number_unsigned() || pair[1].get<std::uint64_t>() > vocabulary::largest_id)
          return fail("post_processor", std::string{"has no "} + key, "download the file again");
        (key[0] == 'c' ? before : after).push_back(pair[1].get<token_id>());
      }
    } else if (type != "ByteLevel") {  // which changes offsets only
      unsupported("post_processor", j);
    }
    if (before.empty() && after.empty()) return;
    if (!parts_.prefix.empty() || !parts_.suffix.empty()) return fail("post_processor", "two that add tokens are not supported");
    parts_.prefix.insert(parts_.prefix.begin(), before.begin(), before.end());
    parts_.suffix.insert(parts_.suffix.end(), after.begin(), after.end());
  }

  void decoder(const json& j) {
    if (j.is_null()) return;
    const std::string type = text_of(j, "type");
    auto& steps = parts_.decoder;
    const auto count = [&](const char* key) { return member(j, key).is_number_unsigned() ? member(j, key).get<std::size_t>() : 0; };
    if (type == "Sequence") {
      for (const json& one : member(j, "decoders")) decoder(one);
    } else if (type == "ByteLevel") {
      steps.emplace_back(byte_level_decoding{});
    } else if (type == "ByteFallback") {
      steps.emplace_back(byte_fallback_decoding{});
    } else if (type == "Fuse") {
      steps.emplace_back(fuse_decoding{});
    } else if (type == "Replace") {
      steps.emplace_back(replace_step{pattern_of(j, "decoder"), text_of(j, "content")});
    } else if (type == "Strip") {
      steps.emplace_back(strip_decoding{text_of(j, "content", " "), count("start"), count("stop")});
    } else if (type == "Metaspace") {
      steps.emplace_back(metaspace_decoding{text_of(j, "replacement", "\xe2\x96\x81"), scheme_of(j) != prepend_scheme::never});
    } else if (type == "WordPiece") {
      steps.emplace_back(word_piece_decoding{text_of(j, "prefix", "##"), flag_of(j, "cleanup", true)});
    } else if (type == "BPEDecoder") {
      steps.emplace_back(bpe_decoding{text_of(j, "suffix", "</w>")});
    } else if (type == "CTC") {
      steps.emplace_back(ctc_decoding{text_of(j, "pad_token", "<pad>"), text_of(j, "word_delimiter_token", "|"), flag_of(j, "cleanup", true)});
    } else {
      parts_.decoder_problem = "the decoder type " + type + " is not supported";
    }
  }

  std::string_view text_;
  const std::string& where_;
  std::optional<error> fault_;
  json root_;
  extent vocab_, merges_;
  tokenizer_parts parts_;
  std::string bytes_;
};

}  // namespace detail

QLIB_INLINE result<tokenizer_parts> read_tokenizer_json(std::string_view json, const std::string& where) {
  return detail::tokenizer_reader{json, where}.run();
}

QLIB_INLINE status apply_tokenizer_config(std::string_view text, const std::string& where, tokenizer_parts& parts) {
  const auto config = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
  if (!config.is_object()) return error{error_kind::invalid_input, where, {}, "is not a JSON object", "download the file again"};
  const std::string name = detail::text_of(config, "tokenizer_class");
  const bool llama = name.starts_with("Llama") || name.starts_with("CodeLlama");
  const auto content_of = [&](const char* key, const char* otherwise) {
    if (!config.contains(key)) return std::string{otherwise};
    const auto& j = detail::member(config, key);
    return j.is_object() ? detail::text_of(j, "content") : detail::text_of(config, key);
  };
  // Special tokens that nobody knows become new ones, in this order; the Llama classes have defaults.
  bool grown = false;
  constexpr std::pair<const char*, const char*> kinds[] = {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}, {"sep_token", ""},
                                                           {"pad_token", ""},    {"cls_token", ""},     {"mask_token", ""}};
  for (const auto& [key, otherwise] : kinds) {
    added_token t;
    t.content = content_of(key, llama ? otherwise : "");
    if (t.content.empty() || parts.id_of(t.content) != no_token) continue;
    t.id = parts.next_id();
    t.special = grown = true;
    parts.added_words.add(t.content, t.id);
    parts.added.push_back(std::move(t));
  }
  if (grown) detail::prepare_added_tokens(parts);
  const auto token = [&](const char* key, const char* otherwise) { return parts.id_of(content_of(key, llama ? otherwise : "")); };
  parts.bos = token("bos_token", "<s>");
  parts.eos = token("eos_token", "</s>");
  const auto& chat = detail::member(config, "chat_template");
  parts.has_chat_template = chat.is_string() || chat.is_array();

  const bool from_flags = llama || name.starts_with("Gemma");
  const auto follow = [&](const char* key, token_id id, std::vector<token_id>& ids, bool front) {
    const auto& flag = detail::member(config, key);
    if (!flag.is_boolean() || id == no_token) return;
    const bool there = std::find(ids.begin(), ids.end(), id) != ids.end();
    if (flag.get<bool>() && !there) ids.insert(front ? ids.begin() : ids.end(), id);
    if (!flag.get<bool>() && there && from_flags) std::erase(ids, id);
  };
  if (parts.byte_level_alone) {
    std::erase_if(parts.stages, [](const pre_tokenizer_stage& s) { return std::holds_alternative<prefix_space_stage>(s); });
    if (detail::flag_of(config, "add_prefix_space", false)) parts.stages.emplace(parts.stages.begin(), prefix_space_stage{});
  }
  follow("add_bos_token", parts.bos, parts.prefix, true);
  follow("add_eos_token", parts.eos, parts.suffix, false);
  return {};
}

}  // namespace text
}  // namespace qlib::inline v0
