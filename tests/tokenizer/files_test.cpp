/// What is read from files, and what is refused.
#include "../io/temporary_folder.hpp"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <qlib/tokenizer/tokenizer.hpp>

#include <string>
#include <vector>

using nlohmann::json;
using qlib::tokenizer;
using ids = std::vector<std::int32_t>;

namespace {

/// Letters a, b, c, their merges "ab" and "abc", and whatever a test changes.
json small() {
  return json::parse(R"({"version": "1.0", "added_tokens": [{"id": 6, "content": "<s>", "special": true, "normalized": false}],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
    "model": {"type": "BPE", "unk_token": "?", "vocab": {"?": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "abc": 5}, "merges": ["a b", "ab c"]}})");
}

std::string refusal(const json& j) {
  const auto words = tokenizer::parse(j.dump(), {}, "m/tokenizer.json");
  return words ? "" : words.error().text();
}

}  // namespace

TEST_CASE("what tokenizer.json uses and this library does not know is refused by its name") {
  const std::string remedy = ": tokenize with another program and pass the ids with --calib_ids";
  json j = small();
  j["pre_tokenizer"] = {{"type", "UnicodeScripts"}};
  CHECK(refusal(j) == "m/tokenizer.json: pre_tokenizer: the type UnicodeScripts is not supported" + remedy);
  j["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {{{"type", "Telepathy"}}}}};
  CHECK(refusal(j) == "m/tokenizer.json: pre_tokenizer: the type Telepathy is not supported" + remedy);
  j = small();
  j["normalizer"] = {{"type", "Append"}};
  CHECK(refusal(j) == "m/tokenizer.json: normalizer: the type Append is not supported" + remedy);
  j = small();
  j["model"]["type"] = "Bigram";
  CHECK(refusal(j) == "m/tokenizer.json: model: the type Bigram is not supported" + remedy);
  j = small();
  j["model"]["dropout"] = 0.1;
  CHECK(refusal(j) == "m/tokenizer.json: model.dropout: ids would be random: set it to null");
  j = small();
  j["post_processor"] = {{"type", "Magic"}};
  CHECK(refusal(j) == "m/tokenizer.json: post_processor: the type Magic is not supported" + remedy);
  const json adds = {{"type", "BertProcessing"}, {"cls", {"<s>", 6}}, {"sep", {"<s>", 6}}};
  j["post_processor"] = {{"type", "Sequence"}, {"processors", {adds, adds}}};
  CHECK(refusal(j) == "m/tokenizer.json: post_processor: two that add tokens are not supported" + remedy);
  j["post_processor"] = {{"type", "TemplateProcessing"}, {"single", {{{"Sequence", {{"id", "A"}}}}, {{"Sequence", {{"id", "A"}}}}}}};
  CHECK(refusal(j) == "m/tokenizer.json: post_processor: a template for one text with more than $A is not supported" + remedy);
}

TEST_CASE("a broken tokenizer.json is refused with what is broken") {
  CHECK(refusal(small()) == "");
  const auto says = [](const json& j, const std::string& part) {
    const std::string text = refusal(j);
    CAPTURE(text);
    CHECK(text.find("m/tokenizer.json: " + part) == 0);
  };
  json j = small();
  j["model"]["merges"][1] = "ab x";
  says(j, "model.merges: merge 1 is of or makes a token that the vocab lacks");
  j["model"]["merges"][1] = "abc";
  says(j, "model.merges: merge 1 is not two tokens");
  j = small();
  j["model"]["vocab"]["b"] = 1;
  says(j, "model.vocab: two tokens have the id 1");
  j["model"]["vocab"]["b"] = -5;
  says(j, "model.vocab: the id -5 is out of range");
  j["model"]["vocab"]["b"] = 4000000000u;
  says(j, "model.vocab: the id 4000000000 is out of range");
  j["model"]["vocab"]["b"] = "x";
  says(j, "model.vocab: an integer expected at byte ");
  j = small();
  j.erase("model");
  says(j, "has no model");

  const std::string whole = small().dump();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const auto cut = tokenizer::parse(std::string_view{whole}.substr(0, length), {}, "t");
    CAPTURE(length);
    REQUIRE_FALSE(cut);
    CHECK(cut.error().text().find('\n') == std::string::npos);
  }
  const auto bytes = tokenizer::parse("{\"a\": \"\xff\"}", {}, "t");
  REQUIRE_FALSE(bytes);
  CHECK(bytes.error().problem == "is not UTF-8 at byte 7");
}

TEST_CASE("a directory without a tokenizer.json is refused with its path") {
  const qlib_test::temporary_folder folder;
  const auto words = tokenizer::load(folder.path());
  REQUIRE_FALSE(words);
  CHECK(words.error().text() ==
        folder.path("tokenizer.json") + ": there is no such file: download the checkpoint's tokenizer.json, or pass token ids with --calib_ids");
  folder.write("vocab.json", "{}");
  const auto other = tokenizer::load(folder.path());
  REQUIRE_FALSE(other);
  CHECK(other.error().problem == "there is no such file, and vocab.json beside it is not read");
  CHECK(other.error().remedy.find("AutoTokenizer.from_pretrained(folder).save_pretrained(folder)") != std::string::npos);
  folder.write("tokenizer.json", small().dump());
  folder.write("tokenizer_config.json", "{");
  const auto config = tokenizer::load(folder.path());
  REQUIRE_FALSE(config);
  CHECK(config.error().text() == folder.path("tokenizer_config.json") + ": is not a JSON object: download the file again");
}

TEST_CASE("tokenizer_config.json decides the beginning of text") {
  const std::string words = small().dump();
  const auto encoded = [&](const json& config) { return *tokenizer::parse(words, config.dump())->encode("abc"); };
  CHECK(encoded({{"bos_token", "<s>"}}) == ids{5});
  CHECK(encoded({{"bos_token", "<s>"}, {"add_bos_token", true}}) == ids{6, 5});
  CHECK(encoded({{"bos_token", {{"content", "<s>"}}}, {"add_bos_token", true}}) == ids{6, 5});
  json with_template = small();
  with_template["post_processor"] = json::parse(
      R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}], "special_tokens": {"<s>": {"ids": [6]}}})");
  const auto llama = [&](bool add) {
    const json config{
        {"tokenizer_class", "LlamaTokenizer"}, {"bos_token", "<s>"}, {"add_bos_token", add}, {"eos_token", nullptr}, {"unk_token", "?"}};
    return *tokenizer::parse(with_template.dump(), config.dump())->encode("abc");
  };
  CHECK(llama(true) == ids{6, 5});
  CHECK(llama(false) == ids{5});
}

TEST_CASE("tokens that only the files beside tokenizer.json define are added in the order of transformers") {
  const std::string words = small().dump();  // 6 tokens of the model, <s> is 6
  const auto encoded = [&](const json& config, const char* text, const json& map = {}, const json& added = {}) {
    const auto made = tokenizer::parse(words, config.is_null() ? "" : config.dump(), "tokenizer.json", map.is_null() ? "" : map.dump(),
                                       added.is_null() ? "" : added.dump());
    REQUIRE_MESSAGE(made, made.error().text());
    return *made->encode(text);
  };
  // By the order of their numbers, though not with those numbers: "10" is behind "9".
  const json decoder = {{"added_tokens_decoder", {{"10", {{"content", "<b>"}}}, {"9", {{"content", "<a>"}, {"rstrip", true}}}}}};
  CHECK(encoded(decoder, "<a> <b>a") == ids{7, 8, 1});
  // The flags of tokenizer_config.json replace those of tokenizer.json; the id stays.
  CHECK(encoded({{"added_tokens_decoder", {{"6", {{"content", "<s>"}, {"rstrip", true}, {"special", true}, {"normalized", false}}}}}}, "<s> a") ==
        ids{6, 1});
  CHECK(encoded(json::object(), "<s> a") != ids{6, 1});
  // Lists of special tokens, old and new; a token of the model is found as a whole, with its own id.
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    CHECK(encoded({{key, json::array({"<x>", "ab"})}, {"pad_token", "<pad>"}}, "<pad><x>abc") == ids{7, 8, 4, 3});
    CHECK(encoded({{key, json::array({json::parse(R"({"content": "<x>", "lstrip": true})")})}}, "a <x>") == ids{1, 7});
  }
  CHECK(encoded({{"extra_special_tokens", {{"image_token", "<i>"}}}, {"video_token", "<v>"}}, "<v><i>") == ids{7, 8});
  // Files of old checkpoints; added_tokens_decoder makes them void.
  const json map = {{"pad_token", {{"content", "<pad>"}}}, {"additional_special_tokens", json::array({"<x>"})}}, added = {{"<n>", 9}, {"<m>", 8}};
  CHECK(encoded(json{}, "<m><n><pad><x>", map, added) == ids{7, 8, 9, 10});
  CHECK(encoded({{"pad_token", "<other>"}}, "<pad>", map) == ids{7});
  json strips = small();
  strips["added_tokens"][0]["rstrip"] = true;
  const auto of_number = [&](int number) {
    return *tokenizer::parse(strips.dump(), "", "tokenizer.json", "", json{{"<s>", number}}.dump())->encode("<s> a");
  };
  CHECK(of_number(3) == ids{6, 1});
  CHECK(of_number(6) == ids{6, 1});
  CHECK(of_number(30) == ids{6, 0, 1});
  CHECK(encoded({{"added_tokens_decoder", json::object()}}, "a", map, added) == ids{1});
  const auto none = tokenizer::parse(words, R"({"added_tokens_decoder": {}})", "tokenizer.json", map.dump(), added.dump());
  CHECK_FALSE(none->id_of("<pad>"));
  CHECK_FALSE(none->id_of("<m>"));

  const qlib_test::temporary_folder folder;
  folder.write("tokenizer.json", words);
  folder.write("added_tokens.json", added.dump());
  folder.write("special_tokens_map.json", map.dump());
  const auto loaded = tokenizer::load(folder.path());
  REQUIRE(loaded);
  CHECK(loaded->id_of("<pad>") == 9);
  const auto problem = [&](const char* config, const char* added_json) {
    const auto made = tokenizer::parse(words, config, "d/tokenizer.json", "", added_json);
    return made ? std::string{} : made.error().text();
  };
  CHECK(problem(R"({"added_tokens_decoder": {"x": {"content": "<a>"}}})", "") ==
        "d/tokenizer_config.json: added_tokens_decoder.x: is no id with a token: download the file again");
  CHECK(problem("", R"({"<a>": "7"})") == "d/added_tokens.json: <a>: has no id: download the file again");
  CHECK(problem("", "[]") == "d/added_tokens.json: is not a JSON object: download the file again");
}

TEST_CASE("tokens have names and numbers") {
  const auto words = tokenizer::parse(small().dump());
  REQUIRE(words);
  CHECK(words->vocab_size() == 7);
  CHECK(words->id_of("abc") == 5);
  CHECK(words->id_of("<s>") == 6);
  CHECK_FALSE(words->id_of("zzz"));
  CHECK(words->token_of(4) == "ab");
  CHECK(words->token_of(77) == "");
  CHECK(words->token_of(-1) == "");
  CHECK(*words->decode(ids{1, -3, 99, 2}) == "a b");
  CHECK(*words->encode("ab<s>dc") == ids{4, 6, 0, 3});
  CHECK(*words->encode("") == ids{});
}

TEST_CASE("an unknown token that the vocab lacks refuses the texts that need it and no more") {
  json j = small();
  j["model"]["unk_token"] = "nobody";
  const auto words = tokenizer::parse(j.dump());
  REQUIRE(words);
  CHECK(*words->encode("abc") == ids{5});
  const auto refused = words->encode("abz");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().problem == "the tokenizer has neither a token for every character of the text nor an unknown token");
}

TEST_CASE("added tokens get the next ids whatever the file says, the first of equals counts, and ids without a token decode to nothing") {
  json j = small();
  j["added_tokens"] = json::parse(R"([{"id": 20, "content": "<x>", "rstrip": true}, {"id": 10, "content": "<y>"}, {"id": 30, "content": "<x>"}])");
  const auto words = tokenizer::parse(j.dump());
  REQUIRE(words);
  CHECK(*words->encode("a<x> <y>c") == ids{1, 6, 7, 3});
  j["model"]["vocab"]["far"] = 9;
  CHECK(*tokenizer::parse(j.dump())->encode("<x><y>") == ids{7, 8});
  CHECK(*tokenizer::parse(j.dump())->decode(ids{1, 6, 2}) == "a b");
}

TEST_CASE("a tokenizer whose regular expression or normalizer never ends is given up, and tells so") {
  json j = small();
  j["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "(a|aa)+$"}}}, {"behavior", "Isolated"}, {"invert", false}};
  const auto slow = tokenizer::parse(j.dump())->encode(std::string(3000, 'a') + "!");
  REQUIRE_FALSE(slow);
  CHECK(slow.error().problem == "the tokenizer gave up at a regular expression: match limit exceeded");
  j = small();
  const json grows = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(1000, 'a')}};
  j["normalizer"] = {{"type", "Sequence"}, {"normalizers", {grows, grows, grows, grows}}};
  const auto large = tokenizer::parse(j.dump())->encode("a");
  REQUIRE_FALSE(large);
  CHECK(large.error().problem == "the tokenizer gave up at a normalizer: the text has more than 256 MiB");
}

TEST_CASE("a decoder that is not supported refuses to decode and no more") {
  json j = small();
  j["decoder"] = {{"type", "Song"}};
  const auto words = tokenizer::parse(j.dump());
  REQUIRE(words);
  CHECK(*words->encode("abc") == ids{5});
  const auto text = words->decode(ids{5});
  REQUIRE_FALSE(text);
  CHECK(text.error().problem == "the decoder type Song is not supported");
}

TEST_CASE("a tokenizer that was not loaded gives no ids") {
  const tokenizer none;
  CHECK(none.vocab_size() == 0);
  CHECK(*none.encode("some text") == ids{});
  CHECK(*none.decode(ids{0, 1}) == "");
}
