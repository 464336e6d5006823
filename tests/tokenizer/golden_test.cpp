/// Ids and texts of the reference (tokenizers 0.23.3, transformers 4.57.6; tests/golden/tokenizers/README.md).
#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <qlib/core/parallel.hpp>
#include <qlib/tokenizer/tokenizer.hpp>

#include <iterator>
#include <string>
#include <vector>

using nlohmann::json;

namespace {

const std::string goldens = std::string{QLIB_SOURCE_DIR} + "/tests/golden/tokenizers/";
constexpr const char* kinds[] = {"gpt2", "llama3", "qwen2", "deepseek_v3", "llama2", "mistral_metaspace", "gemma", "gpt_oss", "unigram_nfkc", "bert"};

json read(const std::string& path) {
  std::ifstream in{path};
  return json::parse(in);
}

json cases_of(const std::string& path) { return read(path)["cases"]; }

qlib::tokenizer loaded(const std::string& path) {
  auto words = qlib::tokenizer::load(path);
  if (!words) FAIL(words.error().text());
  return *std::move(words);
}

std::vector<std::int32_t> ids_of(const qlib::tokenizer& words, const std::string& text, bool special) {
  const auto ids = words.encode(text, special);
  REQUIRE(ids);
  return *ids;
}

/// Added tokens from their contents and the first letters of what they are.
json spelled_out(const json& tokens) {
  json made = json::array();
  for (const json& t : tokens) {
    const std::string flags = t[1];
    const auto is = [&](char letter) { return flags.find(letter) != flags.npos; };
    made.push_back({{"id", 0},
                    {"content", t[0]},
                    {"single_word", is('w')},
                    {"lstrip", is('l')},
                    {"rstrip", is('r')},
                    {"normalized", is('n')},
                    {"special", is('s')}});
  }
  return made;
}

}  // namespace

TEST_CASE("ids of every kind of tokenizer equal the reference, with and without special tokens and with tokenizer_config.json") {
  std::size_t cases = 0;
  for (const std::string kind : kinds) {
    CAPTURE(kind);
    const qlib::tokenizer words = loaded(goldens + kind), bare = loaded(goldens + kind + "/tokenizer.json");
    for (const json& c : cases_of(goldens + kind + "/golden.json")) {
      const std::string text = c["text"];
      CAPTURE(text);
      CHECK(ids_of(bare, text, false) == c["ids"].get<std::vector<std::int32_t>>());
      CHECK(ids_of(bare, text, true) == c["ids_special"].get<std::vector<std::int32_t>>());
      CHECK(ids_of(words, text, true) == c[c.contains("auto_ids_special") ? "auto_ids_special" : "ids_special"].get<std::vector<std::int32_t>>());
      ++cases;
    }
  }
  CHECK(cases == 1487);
}

TEST_CASE("decoding equals the reference, with and without special tokens") {
  for (const std::string kind : kinds) {
    CAPTURE(kind);
    const qlib::tokenizer words = loaded(goldens + kind + "/tokenizer.json");
    for (const json& c : cases_of(goldens + kind + "/golden.json")) {
      const auto ids = c["ids_special"].get<std::vector<std::int32_t>>();
      const auto all = words.decode(ids), plain = words.decode(ids, true);
      REQUIRE(all);
      REQUIRE(plain);
      CHECK(*all == c["decoded"].get<std::string>());
      CHECK(*plain == c["decoded_skip"].get<std::string>());
    }
  }
}

TEST_CASE(
    "ids and texts of composed tokenizers equal the reference: every model, with normalizers, pre-tokenizers, added tokens and decoders of all "
    "kinds") {
  const json golden = read(goldens + "composed/golden.json");
  std::size_t cases = 0;
  for (const json& one : golden["tokenizers"]) {
    json file = golden["bases"][one["base"].get<std::string>()];
    for (const auto& [key, value] : one["over"].items())
      if (key == "model") file[key].update(value);
      else if (key == "added_tokens") file[key] = spelled_out(value);
      else file[key] = value;
    CAPTURE(one["base"]);
    CAPTURE(one["over"].dump());
    const auto words = qlib::tokenizer::parse(file.dump());
    if (!words) FAIL_CHECK(words.error().text());
    if (!words) continue;
    for (const json& c : one["cases"]) {
      const std::string text = c[0];
      CAPTURE(text);
      const auto plain = c[1].get<std::vector<std::int32_t>>(), special = c[2].is_null() ? plain : c[2].get<std::vector<std::int32_t>>();
      CHECK(ids_of(*words, text, false) == plain);
      CHECK(ids_of(*words, text, true) == special);
      if (!c[3].is_null()) CHECK(*words->decode(special) == c[3].get<std::string>());
      ++cases;
    }
  }
  CHECK(cases == 420);
}

TEST_CASE("byte-level tokenizers without a normalizer restore every text") {
  for (const std::string kind : {"gpt2", "llama3", "deepseek_v3", "gpt_oss"}) {
    CAPTURE(kind);
    const qlib::tokenizer words = loaded(goldens + kind);
    for (const json& c : cases_of(goldens + kind + "/golden.json")) {
      const std::string text = c["text"];
      const auto back = words.decode(ids_of(words, text, false));
      REQUIRE(back);
      CHECK(*back == text);
    }
  }
}

TEST_CASE("special tokens that a rendered chat spells out are found") {
  for (const std::string kind : {"qwen2", "llama3", "deepseek_v3"}) {
    CAPTURE(kind);
    const qlib::tokenizer words = loaded(goldens + kind);
    CHECK(words.has_chat_template());
    for (const json& c : cases_of(goldens + kind + "/chat_golden.json"))
      CHECK(ids_of(words, c["text"], false) == c["ids"].get<std::vector<std::int32_t>>());
  }
}

TEST_CASE("many threads that share one tokenizer get the ids that one gets") {
  const qlib::tokenizer words = loaded(goldens + "qwen2");
  std::vector<std::string> texts;
  const json golden = read(goldens + "qwen2/golden.json");
  for (int round = 0; round < 5; ++round)
    for (const json& c : golden["cases"]) texts.push_back(c["text"]);
  std::vector<std::vector<std::int32_t>> ids(texts.size());
  qlib::parallel_for(texts.size(), 4, [&](std::size_t, std::size_t i) {
    ids[i] = *words.encode(texts[i], false);
    return true;
  });
  for (std::size_t i = 0; i < ids.size(); ++i) CHECK(ids[i] == golden["cases"][i % golden["cases"].size()]["ids"].get<std::vector<std::int32_t>>());
}

TEST_CASE("a text of a megabyte without a split is encoded, and its pieces are those of the reference") {
  // llama2 has no pre-tokenizer: the whole text is one piece, for which a quadratic merge would take hours.
  const qlib::tokenizer words = loaded(goldens + "llama2/tokenizer.json");
  const json golden = read(goldens + "llama2/golden.json");
  std::string text;
  while (text.size() < 1000000) text += "The quick brown fox jumps over the lazy dog. ";
  const auto ids = ids_of(words, text, false);
  const auto back = words.decode(ids);
  REQUIRE(back);
  CHECK(*back == text);
  CHECK(ids.size() < text.size() / 2);
}
