/// `qlib tokenize` as a user runs it.
#include "../program/run_program.hpp"

#include <nlohmann/json.hpp>

#include <string>

using namespace qlib_test;
using nlohmann::json;

namespace {
const std::string goldens = std::string{QLIB_SOURCE_DIR} + "/tests/golden/tokenizers/";
}

TEST_CASE("tokenize prints one array of ids a line, those of the reference") {
  for (const std::string kind : {"llama3", "deepseek_v3"}) {
    std::ifstream in{goldens + kind + "/golden.json"};
    const json golden = json::parse(in);
    std::string texts, special, plain;
    for (const json& c : golden["cases"]) {
      texts += json{{"text", c["text"]}}.dump() + "\n";
      special += c[c.contains("auto_ids_special") ? "auto_ids_special" : "ids_special"].dump() + "\n";
      plain += c["ids"].dump() + "\n";
    }
    const temporary_folder folder;
    const std::string file = folder.write("texts.jsonl", texts);
    const program_result with = run_program({"tokenize", "--model_path", goldens + kind, "--file", file});
    CHECK(with.exit_code == 0);
    CHECK(with.out == special);
    CHECK(with.err == "");
    if (kind == "llama3") CHECK(run_program({"tokenize", "--model_path", goldens + kind, "--file", file, "--no_special"}).out == plain);
  }
}

TEST_CASE("tokenize refuses what it cannot read with one line for each fault and exit code 2") {
  const temporary_folder folder;
  const std::string good = folder.write("good.jsonl", "{\"text\": \"a\"}\n");
  const std::string bad = folder.write("bad.jsonl", "{\"text\": \"a\"}\n{\"text\"\n{\"x\": 1}\n"), empty = folder.write("empty.jsonl", "");
  folder.write("tokenizer.json",
               "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}, \"pre_tokenizer\": {\"type\": \"UnicodeScripts\"}}");
  const std::string model = goldens + "gpt2";
  check_refused(folder.path(), {"tokenize", "--model_path", model, "--file", bad},
                {{bad, "line 2", "not valid JSON"}, {bad, "line 3", "none of the keys"}});
  check_refused(folder.path(), {"tokenize", "--model_path", model, "--file", empty}, {{empty, "is empty"}});
  check_refused(folder.path(), {"tokenize", "--model_path", model, "--file", folder.path("none")}, {{"none", "cannot open"}});
  check_refused(folder.path(), {"tokenize", "--model_path", folder.path("none"), "--file", good}, {{"none", "there is no such file"}});
  check_refused(folder.path(), {"tokenize", "--model_path", folder.path(), "--file", good}, {{"tokenizer.json", "pre_tokenizer", "UnicodeScripts"}});
  folder.write("tokenizer.json", "{\"model\": {");
  check_refused(folder.path(), {"tokenize", "--model_path", folder.path(), "--file", good}, {{"tokenizer.json", "is not valid JSON"}});
}
