/// Each part of the tokenizer by itself.
#include <doctest/doctest.h>

#include <qlib/tokenizer/added_tokens.hpp>
#include <qlib/tokenizer/bpe.hpp>
#include <qlib/tokenizer/byte_alphabet.hpp>
#include <qlib/tokenizer/json_cursor.hpp>
#include <qlib/tokenizer/piece_cache.hpp>
#include <qlib/tokenizer/pre_tokenizer.hpp>
#include <qlib/tokenizer/regex.hpp>
#include <qlib/tokenizer/unicode_text.hpp>

#include <map>
#include <random>
#include <string>
#include <vector>

using namespace qlib::text;

namespace {

std::vector<std::string> split(const std::string& text, const std::vector<pre_tokenizer_stage>& stages, bool first = true) {
  pieces work{text, {}};
  regex_scratch scratch;
  split_into_pieces(work, first, stages, scratch);
  std::vector<std::string> parts;
  for (const extent part : work.parts) parts.push_back(work.text.substr(part.begin, part.size()));
  return parts;
}

regex compiled(const std::string& pattern) {
  auto made = regex::compile(pattern, "tokenizer.json", "pre_tokenizer");
  if (!made) FAIL(made.error().text());
  return *std::move(made);
}

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  return split(text, {split_stage{{{}, compiled(pattern)}, split_behavior::removed, true}});
}

using strings = std::vector<std::string>;

}  // namespace

TEST_CASE("the behaviors of Split are those of the reference") {
  const auto by = [](split_behavior b) { return split("the-final--countdown", {split_stage{{"-", {}}, b, false}}); };
  CHECK(by(split_behavior::removed) == strings{"the", "final", "countdown"});
  CHECK(by(split_behavior::isolated) == strings{"the", "-", "final", "-", "-", "countdown"});
  CHECK(by(split_behavior::merged_with_previous) == strings{"the-", "final-", "-", "countdown"});
  CHECK(by(split_behavior::merged_with_next) == strings{"the", "-final", "-", "-countdown"});
  CHECK(by(split_behavior::contiguous) == strings{"the", "-", "final", "--", "countdown"});
}

TEST_CASE("a match without a character splits, but not right after another match") {
  const auto by = [](const std::string& pattern, split_behavior b, const std::string& text) {
    return split(text, {split_stage{{{}, compiled(pattern)}, b, false}});
  };
  CHECK(by("(?=(\\d{3})+(?!\\d))", split_behavior::isolated, "1234567") == strings{"1", "234", "567"});
  CHECK(by("(?<=[a-z])(?=[A-Z])", split_behavior::removed, "camelCase") == strings{"camel", "Case"});
  CHECK(by("x*", split_behavior::isolated, "axxb") == strings{"a", "xx", "b"});
  CHECK(by("(?=b)", split_behavior::merged_with_next, "abab") == strings{"a", "ba", "b"});
  CHECK(split("ab\xc3\xa9", {split_stage{{"", {}}, split_behavior::isolated, false}}) == strings{"a", "b", "\xc3\xa9"});
}

TEST_CASE("characters of Unicode 15 and 16 are split like those of their category, whatever version PCRE2 has") {
  const std::string kawi = "\xf0\x91\xbc\x84", digit = "\xf0\x91\xbd\x90", sign = "\xf0\x9f\xab\xa9";  // U+11F04 Lo, U+11F50 Nd, U+1FAE9 So
  CHECK(matches("\\p{L}+|\\p{N}+|[^\\p{L}\\p{N}]+", "a" + kawi + digit + "1" + sign + "!") == strings{"a" + kawi, digit + "1", sign + "!"});
  CHECK(matches("\\p{Han}+", "\xe4\xbd\xa0\xf0\xb1\x8d\x90") == strings{"\xe4\xbd\xa0\xf0\xb1\x8d\x90"});  // U+31350
  CHECK(is_numeric(0x11f50));
  CHECK(is_word(0x11f04));
}

TEST_CASE("Metaspace puts its mark where its scheme says") {
  const std::string mark = "\xe2\x96\x81";
  CHECK(split("a b", {metaspace_stage{mark, prepend_scheme::always, true}}) == strings{mark + "a", mark + "b"});
  CHECK(split("a b", {metaspace_stage{mark, prepend_scheme::always, false}}) == strings{mark + "a" + mark + "b"});
  CHECK(split("a", {metaspace_stage{mark, prepend_scheme::first, false}}, false) == strings{"a"});
  CHECK(split(" a", {metaspace_stage{mark, prepend_scheme::first, false}}) == strings{mark + "a"});
  CHECK(split("a", {metaspace_stage{mark, prepend_scheme::never, false}}) == strings{"a"});
  CHECK(split("", {metaspace_stage{mark, prepend_scheme::always, true}}).empty());
}

TEST_CASE("a prefix space goes before every piece that does not begin with one") {
  CHECK(split("\na", {prefix_space_stage{}}) == strings{" \na"});
  CHECK(split(" a", {prefix_space_stage{}}) == strings{" a"});
}

TEST_CASE("regular expressions mean what they mean in Ruby") {
  SUBCASE("white space is exactly White_Space: U+180E is not, U+0085 is") {
    CHECK(matches("\\s+",
                  "a\xe1\xa0\x8e"
                  "b\xc2\x85"
                  "c") == strings{"\xc2\x85"});
    CHECK(matches("[^\\s]+",
                  "a\xe1\xa0\x8e"
                  "b\xc2\x85"
                  "c") == strings{"a\xe1\xa0\x8e"
                                  "b",
                                  "c"});
    CHECK(matches("\\S+",
                  "a\xc2\xa0"
                  "b") == strings{"a", "b"});
  }
  SUBCASE("the dollar sign matches before every line feed") { CHECK(matches("\\s+$", "a \nb \t\nc") == strings{" ", " \t"}); }
  SUBCASE("a plus after braces repeats, it is not possessive") {
    CHECK(matches("\\p{N}{1,3}+", "12345") == strings{"12345"});
    CHECK(matches("(?:ab){2}+", "abababab") == strings{"abababab"});
    CHECK(matches("\\p{N}{1,3}+5", "12345") == strings{"12345"});
  }
  SUBCASE("Han is the script itself: U+3001 belongs to several scripts") {
    CHECK(matches("\\p{Han}+", "\xe4\xbd\xa0\xe3\x80\x81") == strings{"\xe4\xbd\xa0"});
  }
  SUBCASE("classes intersect") {
    CHECK(matches("[\\p{L}&&[^\\p{Han}]]+",
                  "ab\xe4\xbd\xa0"
                  "c") == strings{"ab", "c"});
  }
  SUBCASE("backslash h is a hexadecimal digit") { CHECK(matches("\\h+", "xBEEFy 1g") == strings{"BEEF", "1"}); }
  SUBCASE("classes unite with the classes in them, and classes that have no union are asked one by one") {
    CHECK(matches("[^(\\s|[.,!?])]+", "a,b (c) d.e") == strings{"a", "b", "c", "d", "e"});
    CHECK(matches("[a-c[x-z]]+", "abxyd") == strings{"abxy"});
    CHECK(matches("[^\\W\\d_]+", "ab1_c") == strings{"ab", "c"});
    CHECK(matches("[a[^\\x00-\\x7f]]+",
                  "a\xc3\xa9"
                  "b") == strings{"a\xc3\xa9"});
    CHECK(matches("[a-z&&[^aeiou]&&[^xyz]]+", "abcxdef") == strings{"bc", "d", "f"});
    CHECK(matches("[^a-z&&[aeiou]]+", "bab") == strings{"b", "b"});
    CHECK(matches("[a-c[-]d]+", "a-d.") == strings{"a-d"});
  }
  SUBCASE("word characters are letters, marks, decimal digits and connectors; some numbers of Latin-1 only outside brackets") {
    CHECK(matches("\\w+", "a\xcc\x81_1\xc2\xbd \xe2\x85\x93") == strings{"a\xcc\x81_1\xc2\xbd"});
    CHECK(matches("[\\w]+", "a\xcc\x81_1\xc2\xbd") == strings{"a\xcc\x81_1"});
    CHECK(matches("\\bo", "oo no\xcc\x81o") == strings{"o"});
  }
  SUBCASE("properties and POSIX classes have Oniguruma's members") {
    CHECK(matches("\\p{Punct}+", "!+") == strings{"!"});
    CHECK(matches("[[:punct:]]+", "!+") == strings{"!+"});
    CHECK(matches("\\p{Alpha}+",
                  "a\xe2\x92\xb6"
                  "1") == strings{"a\xe2\x92\xb6"});
    CHECK(matches("\\p{Lowercase_Letter}+|\\p{^Letter}", "aB1") == strings{"a", "1"});
    CHECK(matches("\\p{Hiragana}+", "\xe3\x81\x82\xe3\x83\xbc") == strings{"\xe3\x81\x82"});
    CHECK(matches("[[:^digit:]]", "1a") == strings{"a"});
  }
  SUBCASE("numbers of characters, options and counts are Ruby's") {
    CHECK(matches("[\\u4e00-\\u9fa5]+", "a\xe4\xbd\xa0") == strings{"\xe4\xbd\xa0"});
    CHECK(matches("(?m:a.b)", "a\nb") == strings{"a\nb"});
    CHECK(matches("x(?i)a|b", "xB b") == strings{"xB"});
    CHECK(matches("ab{2}?", "abab") == strings{"a", "a"});
    CHECK(matches("ab{,2}", "abbb") == strings{"abb"});
    CHECK(matches("[\\b]|\\v", "a\b\v\n") == strings{"\b", "\v"});
    CHECK(matches("(?x) a  b # both", "ab") == strings{"ab"});
  }
  SUBCASE("look-ahead sees the end of the piece") { CHECK(matches("\\s+(?!\\S)", "a  b ") == strings{" ", " "}); }
}

TEST_CASE("a regular expression that cannot be translated is refused with its text") {
  for (const std::string pattern : {"(", "[a", "a\\", "(?~a)", "\\p{InBasic_Latin}", "\\p{Klingon}", "\\Q", "[\\M-a]", "(?i)ss", "(?i:\xc3\x9f)",
                                    "[[:foo:]]", "(?P<a>b)", "(*FAIL)"}) {
    CAPTURE(pattern);
    const auto made = regex::compile(pattern, "tokenizer.json", "pre_tokenizer");
    REQUIRE_FALSE(made);
    CHECK(made.error().text().find("tokenizer.json: pre_tokenizer: regex `" + pattern + "`") == 0);
  }
}

TEST_CASE("byte-pair encoding merges the smallest rank first and the leftmost of equals, whatever the length of the piece") {
  // Random merges over four letters, against a literal reading of that sentence.
  std::mt19937 random{7};
  vocabulary words;
  std::vector<std::string> tokens{"a", "b", "c", "d"};
  std::map<std::pair<std::string, std::string>, std::uint32_t> ranks;
  while (tokens.size() < 200) {
    const std::string left = tokens[random() % tokens.size()], right = tokens[random() % tokens.size()];
    if (left.size() + right.size() > 8 || ranks.count({left, right})) continue;
    ranks[{left, right}] = static_cast<std::uint32_t>(ranks.size());
    if (std::find(tokens.begin(), tokens.end(), left + right) == tokens.end()) tokens.push_back(left + right);
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) words.add(tokens[i], static_cast<token_id>(i));
  bpe model{{.bytes = true}};
  for (const auto& [pair, rank] : ranks) model.add_merge(words.find(pair.first), words.find(pair.second), rank, words.find(pair.first + pair.second));
  model.finish(words);

  bpe::scratch work;
  for (std::size_t length = 1; length < 200; length += length < 40 ? 1 : 13) {
    std::string piece;
    strings symbols;
    for (std::size_t i = 0; i < length; ++i) piece += "abcd"[random() % 4];
    for (const char c : piece) symbols.push_back({c});
    for (;;) {
      std::size_t best = symbols.size();
      std::uint32_t rank = 0xffffffffu;
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto at = ranks.find({symbols[i], symbols[i + 1]});
        if (at != ranks.end() && at->second < rank) best = i, rank = at->second;
      }
      if (best == symbols.size()) break;
      symbols[best] += symbols[best + 1];
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    std::vector<token_id> ids;
    model.encode(piece, words, work, ids);
    strings got;
    for (const token_id id : ids) got.emplace_back(words.token(id));
    CAPTURE(piece);
    CHECK(got == symbols);
  }
}

TEST_CASE("of added tokens the leftmost counts, then the longest") {
  const auto found = [](std::vector<added_token> tokens, const std::string& text) {
    std::vector<std::pair<std::string, added_token>> forms;
    for (const added_token& t : tokens) forms.emplace_back(t.content, t);
    std::vector<segment> out;
    added_token_finder{forms}.split(text, out);
    strings parts;
    for (const segment& s : out) parts.push_back(text.substr(s.part.begin, s.part.size()) + (s.id == no_token ? "" : "#" + std::to_string(s.id)));
    return parts;
  };
  CHECK(found({{1, "<a"}, {2, "<a>"}, {3, "a>b"}}, "x<a>b") == strings{"x", "<a>#2", "b"});
  CHECK(found({{.id = 1, .content = "hi", .single_word = true}}, "hi hit (hi)") == strings{"hi#1", " hit (", "hi#1", ")"});
  CHECK(found({{.id = 1, .content = "<m>", .lstrip = true, .rstrip = true}}, "a \n<m>\t b") == strings{"a", " \n<m>\t #1", "b"});
  CHECK(found({}, "abc") == strings{"abc"});
}

TEST_CASE("the byte alphabet is one to one") {
  std::string all, written, back;
  for (int b = 0; b < 256; ++b) all += static_cast<char>(b);
  append_in_byte_alphabet(written, all);
  CHECK(from_byte_alphabet(written, back));
  CHECK(back == all);
  CHECK(written.find("\xc4\xa0") != std::string::npos);  // the space is U+0120
  CHECK_FALSE(from_byte_alphabet("\xe2\x96\x81", back));
}

TEST_CASE("ill-formed UTF-8 becomes one replacement character for each maximal part") {
  const std::string r = "\xef\xbf\xbd";
  CHECK(valid_utf8("a\xff"
                   "b") == "a" + r + "b");
  CHECK(valid_utf8("\xe4\xbd") == r);
  CHECK(valid_utf8("\xe4\xbd"
                   "x") == r + "x");
  CHECK(valid_utf8("\xf0\x90\x8d") == r);
  CHECK(valid_utf8("\xc0\xaf") == r + r);
  CHECK(valid_utf8("\xed\xa0\x80") == r + r + r);
  CHECK(valid_utf8("\xf5\x80") == r + r);
  CHECK(valid_utf8("\xe4\xbd\xa0") == "\xe4\xbd\xa0");
}

TEST_CASE("composition leaves text in normal form alone and composes the rest") {
  CHECK(normal_form_of("caf\xc3\xa9 \xe4\xbd\xa0", normal_form::nfc) == "caf\xc3\xa9 \xe4\xbd\xa0");
  CHECK(normal_form_of("cafe\xcc\x81", normal_form::nfc) == "caf\xc3\xa9");
  CHECK(normal_form_of("\xe3\x81\x8b\xe3\x82\x99", normal_form::nfc) == "\xe3\x81\x8c");  // ka and a voiced mark
  CHECK(normal_form_of("\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", normal_form::nfc) == "\xea\xb0\x81");
  CHECK(normal_form_of("\xef\xac\x81", normal_form::nfkc) == "fi");
}

TEST_CASE("the cache of pieces gives back what was stored, and survives being full") {
  piece_cache cache;
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 100000; ++i) {
      const std::string piece = "piece" + std::to_string(i);
      const std::size_t place = cache.place_of(piece);
      const auto ids = cache.ids_at(place);
      if (!ids.empty()) {
        REQUIRE(ids.size() == 2);
        REQUIRE(ids[0] == i);
        continue;
      }
      const std::vector<token_id> made{i, i + 1};
      cache.store(place, piece, made);
      if (i % 1000 == 0 && cache.ids_at(cache.place_of(piece)).size() == 2) CHECK(cache.ids_at(cache.place_of(piece))[1] == i + 1);
    }
  }
}

TEST_CASE("the JSON cursor reads escapes and names the byte of a fault") {
  json_cursor c{R"({"a\u0120\n": [1, -2], "\ud83d\ude00": {"x": "]"}})"};
  strings keys;
  c.object([&](std::string_view key) {
    keys.emplace_back(key);
    c.skip();
  });
  CHECK_FALSE(c.failed());
  CHECK(keys == strings{"a\xc4\xa0\n", "\xf0\x9f\x98\x80"});
  for (const std::string broken : {R"({"a)", R"({"a": )", R"({"a" 1})", R"({"\ud83d": 1})", R"({"a": [1})", "{\"a\": 1", R"({"\q": 1})"}) {
    CAPTURE(broken);
    json_cursor b{broken};
    b.object([&](std::string_view) {
      if (b.peek() == '[') b.array([&] { b.integer(); });
      else b.skip();
    });
    CHECK(b.failed());
    CHECK(b.problem().find(" at byte ") != std::string::npos);
  }
  const std::string nested(1000, '[');
  json_cursor deep{nested};
  deep.skip();
  CHECK(deep.problem() == "brackets nested too deep at byte 100");
}
