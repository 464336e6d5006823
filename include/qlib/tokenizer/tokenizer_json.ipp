#pragma once
#include <qlib/io/json_events.ipp>
#include <qlib/io/utf8.hpp>
#include <qlib/tokenizer/byte_alphabet.hpp>
#include <qlib/tokenizer/json_cursor.hpp>
#include <qlib/tokenizer/tokenizer_json.hpp>
#include <qlib/tokenizer/tokenizer_stages.ipp>

#include <algorithm>
#include <utility>

namespace qlib::inline v0 {
namespace text {

namespace detail {

inline constexpr std::size_t largest_file = std::size_t{1} << 30;

/// Reads tokenizer.json part by part; the first thing that is wrong stays in `fault`.
class tokenizer_reader {
 public:
  tokenizer_reader(std::string_view json, const std::string& where) : text_{json}, to_{where} {}

  result<tokenizer_parts> run() {
    if (text_.size() > largest_file)
      to_.fail("", "has " + std::to_string(text_.size()) + " bytes, which no tokenizer needs", "download the file again");
    else if (const auto at = first_invalid_utf8(text_)) to_.fail("", "is not UTF-8 at byte " + std::to_string(*at), "download the file again");
    if (!to_.fault) find_large_parts();
    if (!to_.fault) root_ = parse();
    if (!to_.fault) read_normalizer(to_, member(root_, "normalizer"));
    if (!to_.fault) read_pre_tokenizer(to_, member(root_, "pre_tokenizer"));
    if (!to_.fault) model();
    if (!to_.fault) added_tokens();
    if (!to_.fault) read_post_processor(to_, member(root_, "post_processor"));
    if (!to_.fault) read_decoder(to_, member(root_, "decoder"));
    if (to_.fault) return std::move(*to_.fault);
    return std::move(to_.parts);
  }

 private:
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
    if (c.failed()) to_.fail("", "is not valid JSON: " + c.problem(), "download the file again");
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
    if (tree.is_discarded() || !tree.is_object()) to_.fail("", "is not valid JSON", "download the file again");
    else if (!member(tree, "model").is_object())
      to_.fail("", "has no model: it is not a tokenizer.json of the tokenizers library", "pass the checkpoint's own");
    return tree;
  }

  /// Whether the model can work on the bytes of pieces: it is a BPE behind one ByteLevel, the last stage, and its vocabulary is all that matters.
  /// Bytes are one to one with the characters that stand for them; where more than that is asked for, pieces stay in these characters.
  void choose_symbols(const json& j, const std::string& type) {
    auto& stages = to_.parts.stages;
    const auto maps = [](const pre_tokenizer_stage& s) { return std::holds_alternative<byte_alphabet_stage>(s); };
    to_.parts.byte_level_alone = text_of(member(root_, "pre_tokenizer"), "type") == "ByteLevel";
    to_.parts.byte_level = type == "BPE" && !stages.empty() && maps(stages.back()) && std::count_if(stages.begin(), stages.end(), maps) == 1 &&
                           !flag_of(j, "byte_fallback", false) && text_of(j, "continuing_subword_prefix").empty() &&
                           text_of(j, "end_of_word_suffix").empty();
    if (to_.parts.byte_level) stages.pop_back();
  }

  void add_word(std::string_view token, std::int64_t id) {
    if (id < 0 || id > vocabulary::largest_id)
      return to_.fail("model.vocab", "the id " + std::to_string(id) + " is out of range", "download the file again");
    const auto at = static_cast<token_id>(id);
    if (to_.parts.words.contains(at) || to_.parts.other_words.contains(at))
      return to_.fail("model.vocab", "two tokens have the id " + std::to_string(id), "download the file again");
    to_.parts.model_tokens += to_.parts.id_of(token) == no_token;
    if (!to_.parts.byte_level) to_.parts.words.add(token, at);
    else if (from_byte_alphabet(token, bytes_)) to_.parts.words.add(bytes_, at);
    else to_.parts.other_words.add(token, at);
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
    if (type != "BPE" && type != "Unigram" && type != "WordPiece" && type != "WordLevel") return to_.unsupported("model", j);
    choose_symbols(j, type);
    if (!has_vocab) return to_.fail("model", "has no vocab", "download the file again");
    const std::string_view vocab = text_.substr(vocab_.begin, vocab_.size());
    to_.parts.words.reserve(vocab.size() / 20, vocab.size() / 2);
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
      if (!sound) to_.fail("model.unk_id", "is not an id of the vocab", "download the file again");
      if (!c.failed() && !to_.fault)
        to_.parts.model =
            unigram{to_.parts.words, std::move(scores), unk.is_null() ? no_token : unk.get<token_id>(), flag_of(j, "byte_fallback", false)};
    } else {
      c.object([&](std::string_view token) {
        const std::int64_t id = c.integer();
        if (!c.failed() && !to_.fault) add_word(token, id);
      });
    }
    if (c.failed()) return to_.fail("model.vocab", c.problem() + " of the vocab", "download the file again");
    if (to_.fault || type == "Unigram") return;
    const std::string unk = text_of(j, "unk_token");
    token_id unk_id = to_.parts.id_of(unk);
    if (unk_id == no_token) unk_id = missing_token;
    if (type == "BPE") return read_bpe(j, member(j, "unk_token").is_null() ? no_token : unk_id);
    if (type == "WordLevel") return void(to_.parts.model = word_level{unk_id});
    const json& most = member(j, "max_input_chars_per_word");
    to_.parts.model = word_piece{text_of(j, "continuing_subword_prefix", "##"), most.is_number_unsigned() ? most.get<std::size_t>() : 100, unk_id};
  }

  void read_bpe(const json& j, token_id unk) {
    if (const json& dropout = member(j, "dropout"); dropout.is_number() && dropout.get<double>() != 0.0)
      return to_.fail("model.dropout", "ids would be random", "set it to null");
    const std::string_view merges = text_.substr(merges_.begin, merges_.size());
    bpe made{{to_.parts.byte_level, flag_of(j, "byte_fallback", false), flag_of(j, "fuse_unk", false), flag_of(j, "ignore_merges", false), unk,
              text_of(j, "continuing_subword_prefix"), text_of(j, "end_of_word_suffix")}};
    std::uint32_t rank = 0;
    std::string left, right;
    bool reachable = true;  // by pieces of bytes
    // The id of a token that is written in the file's alphabet; leaves its bytes in `kept`.
    const auto look_up = [&](std::string_view written, std::string& kept) {
      if (!to_.parts.byte_level) kept = written;
      else if (!from_byte_alphabet(written, kept)) return reachable = false, to_.parts.other_words.find(written);
      return to_.parts.words.find(kept);
    };
    json_cursor c{merges};
    const auto add = [&](token_id a, token_id b) {
      if (c.failed() || to_.fault) return;
      const std::size_t cut = made.options().continuing_prefix.size();  // the second token's prefix goes
      const bool sound = a != no_token && b != no_token && right.size() >= cut;
      if (sound && !std::exchange(reachable, true)) return void(++rank);
      const token_id ab = sound ? to_.parts.words.find(left + right.substr(cut)) : no_token;
      if (ab == no_token)
        return to_.fail("model.merges", "merge " + std::to_string(rank) + " is of or makes a token that the vocab lacks", "download the file again");
      made.add_merge(a, b, rank++, ab);
    };
    if (merges.empty() || merges == "null") return to_.fail("model", "BPE without merges", "download the file again");
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
        return to_.fail("model.merges", "merge " + std::to_string(rank) + " is not two tokens with a space between them", "download the file again");
      const token_id a = look_up(both.substr(0, space), left);
      add(a, look_up(both.substr(space + 1), right));
    });
    if (c.failed()) return to_.fail("model.merges", c.problem() + " of the merges", "download the file again");
    made.finish(to_.parts.words);
    to_.parts.model = std::move(made);
  }

  void added_tokens() {
    token_id next = to_.parts.next_id();
    for (const json& j : member(root_, "added_tokens")) {
      added_token t{no_token,
                    text_of(j, "content"),
                    flag_of(j, "single_word", false),
                    flag_of(j, "lstrip", false),
                    flag_of(j, "rstrip", false),
                    flag_of(j, "normalized", true),
                    flag_of(j, "special", false)};
      if (t.content.empty() || to_.parts.added_words.find(t.content) != no_token) continue;
      t.id = to_.parts.id_of(t.content);  // a token of the model keeps its id
      if (t.id == no_token) t.id = next;
      if (t.id > vocabulary::largest_id) return to_.fail("added_tokens", "the id of " + t.content + " is out of range", "download the file again");
      next = std::max(next, t.id + 1);
      to_.parts.added_words.add(t.content, t.id);
      to_.parts.added.push_back(std::move(t));
    }
    to_.parts.find_added_tokens();
    for (const added_token& t : to_.parts.added)
      if (t.shown.empty()) return to_.fail("added_tokens", "\"" + t.content + "\", which normalizing makes empty, is not supported");
  }

  std::string_view text_;
  tokenizer_reading to_;
  json root_;
  extent vocab_, merges_;
  std::string bytes_;
};

}  // namespace detail

QLIB_INLINE result<tokenizer_parts> read_tokenizer_json(std::string_view json, const std::string& where) {
  return detail::tokenizer_reader{json, where}.run();
}

}  // namespace text
}  // namespace qlib::inline v0
