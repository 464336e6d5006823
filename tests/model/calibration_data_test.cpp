#include "../io/temporary_folder.hpp"

#include <doctest/doctest.h>

#include <qlib/model/calibration_data.hpp>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

using namespace qlib;
using qlib_test::temporary_folder;
using ids = std::vector<std::int32_t>;

namespace {

/// One id a letter: "<s>" 0, "a" 1 to "z" 26, the space 27, the line feed 28; a text begins with <s>.
tokenizer letters(bool with_template = false) {
  std::string vocab = R"("<s>": 0)";
  for (int i = 0; i < 26; ++i) vocab += std::string{", \""} + static_cast<char>('a' + i) + "\": " + std::to_string(i + 1);
  const std::string json =
      R"({"added_tokens": [{"id": 0, "content": "<s>", "special": true, "normalized": false}], "model": {"type": "BPE", "merges": [], "vocab": {)" +
      vocab +
      R"(, " ": 27, "\n": 28}}, "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
          "special_tokens": {"<s>": {"ids": [0]}}}})";
  auto made = tokenizer::parse(json, with_template ? R"({"chat_template": "{{ messages }}"})" : "");
  if (!made) FAIL(made.error().text());
  return *std::move(made);
}

struct loaded {
  errors wrong;
  calibration_data data;
  std::string error_text() const {
    std::string all;
    for (const error& e : wrong) all += e.text() + "\n";
    return all;
  }
};

loaded texts(const std::string& path, calibration_options options = {}, sequence_limits limits = {}, bool with_template = false) {
  loaded l;
  l.wrong = load_calibration_texts(path, letters(with_template), options, limits, l.data);
  return l;
}

/// A safetensors file with one tensor.
std::string ids_file(const temporary_folder& folder, const std::string& dtype, const std::vector<std::size_t>& shape, const std::string& bytes) {
  std::string extents;
  for (const std::size_t d : shape) extents += (extents.empty() ? "" : ",") + std::to_string(d);
  std::string header = R"({"ids":{"dtype":")" + dtype + R"(","shape":[)" + extents + R"(],"data_offsets":[0,)" + std::to_string(bytes.size()) + "]}}";
  while (header.size() % 8 != 0) header += ' ';
  const std::uint64_t size = header.size();
  std::string all(8, '\0');
  std::memcpy(all.data(), &size, 8);
  return folder.write("ids.safetensors", all + header + bytes);
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace

TEST_CASE("every key that users have gives the text, and the first one counts") {
  const temporary_folder folder;
  const std::string path =
      folder.write("c.jsonl",
                   "{\"inputs_pretokenized\": \"ab\", \"text\": \"x\"}\n{\"text\": \"c\"}\r\n\n{\"prompt\": \"d\"}\n{\"content\": \"e\"}\n"
                   "{\"messages\": [{\"role\": \"user\", \"content\": \"f\"}, {\"role\": \"assistant\", \"content\": [{\"type\": \"text\", "
                   "\"text\": \"g\"}]}]}\n{\"conversations\": [{\"from\": \"human\", \"value\": \"h\"}]}\n\"i\"\n{\"input_ids\": [5, 6]}");
  const loaded l = texts(path);
  CHECK(l.error_text() == "");
  CHECK(l.data.samples == std::vector<ids>{{0, 1, 2}, {0, 3}, {0, 4}, {0, 5}, {0, 6, 28, 7}, {0, 8}, {0, 9}, {5, 6}});
  CHECK(l.data.report.available == 8);
  CHECK(l.data.report.tokens == 19);
  CHECK(l.data.report.key == "inputs_pretokenized");
  CHECK(l.data.report.warnings.empty());
}

TEST_CASE("a JSON list of strings or objects is read") {
  const temporary_folder folder;
  const loaded l = texts(folder.write("c.json", R"(["a", {"text": "b"}, "c"])"));
  CHECK(l.error_text() == "");
  CHECK(l.data.samples == std::vector<ids>{{0, 1}, {0, 2}, {0, 3}});
}

TEST_CASE("messages of a model with a chat template are joined with a warning that says so") {
  const temporary_folder folder;
  const loaded l = texts(folder.write("c.jsonl", R"({"messages": [{"role": "user", "content": "a"}]})"), {}, {}, true);
  REQUIRE(l.data.report.warnings.size() == 1);
  CHECK(l.data.report.warnings[0].find("1 records are messages: their contents are joined by line feeds, the chat template is not applied") !=
        std::string::npos);
}

TEST_CASE("long records are truncated and counted, empty ones left out and counted") {
  const temporary_folder folder;
  const loaded l = texts(folder.write("c.jsonl", "{\"text\": \"abcdef\"}\n{\"text\": \"\"}\n{\"text\": \"ab\"}\n"), {.length = 4});
  CHECK(l.data.samples == std::vector<ids>{{0, 1, 2, 3}, {0, 1, 2}});
  const calibration_report& r = l.data.report;
  CHECK(r.truncated == 1);
  CHECK(r.dropped_tokens == 3);
  CHECK(r.empty == 1);
  CHECK(r.shortest == 3);
  CHECK(r.longest == 4);
  CHECK(r.text() == "2 samples, 7 tokens (3 to 4 each) of 3 records of " + folder.path("c.jsonl") +
                        ", key text; 1 truncated; 3 tokens dropped; 1 empty records left out; in file order");
}

TEST_CASE("plain text is packed into whole windows, each with its beginning of text") {
  const temporary_folder folder;
  const std::string path = folder.write("c.txt", "abcdefgh");
  loaded l = texts(path, {.length = 4});
  CHECK(l.data.samples == std::vector<ids>{{0, 1, 2, 3}, {0, 4, 5, 6}});
  CHECK(l.data.report.dropped_tokens == 2);
  CHECK(l.data.report.kind == "windows of plain text");
  l = texts(path);  // shorter than a window of the default length
  CHECK(l.data.samples == std::vector<ids>{{0, 1, 2, 3, 4, 5, 6, 7, 8}});
  CHECK(l.data.report.dropped_tokens == 0);
  l = texts(path, {}, {.max_length = 5});
  CHECK(l.data.samples == std::vector<ids>{{0, 1, 2, 3, 4}, {0, 5, 6, 7, 8}});
  CHECK(texts(path, {.length = 1}).error_text() == path + ": --calib_length 1: the tokenizer adds 1 tokens to every sample: use a larger one\n");
}

TEST_CASE("a seed shuffles, always the same way, before the first samples are taken") {
  CHECK(sampling_order(5, std::nullopt) == std::vector<std::size_t>{0, 1, 2, 3, 4});
  // splitmix64 from 0 begins e220a8397b1dcdaf, 6e789e6aa1b965f4, 06c45d188009454f (its author's test vector).
  CHECK(sampling_order(4, 0) == std::vector<std::size_t>{2, 1, 0, 3});
  CHECK(sampling_order(100, 1) != sampling_order(100, 2));
  auto all = sampling_order(1000, 42);
  CHECK_FALSE(std::is_sorted(all.begin(), all.end()));
  std::sort(all.begin(), all.end());
  CHECK(all == sampling_order(1000, std::nullopt));

  const temporary_folder folder;
  const std::string path = folder.write("c.jsonl", "\"a\"\n\"b\"\n\"c\"\n\"d\"\n");
  CHECK(texts(path, {.samples = 2}).data.samples == std::vector<ids>{{0, 1}, {0, 2}});
  const loaded shuffled = texts(path, {.samples = 2, .seed = 0});
  CHECK(shuffled.data.samples == std::vector<ids>{{0, 3}, {0, 2}});
  CHECK(shuffled.data.report.text().find("; shuffled with seed 0") != std::string::npos);
}

TEST_CASE("every bad line is named") {
  const temporary_folder folder;
  const std::string path =
      folder.write("c.jsonl", "{\"text\": \"a\"}\n{\"text\": \n{\"title\": \"a\"}\n{\"text\": 5}\n[1]\n{\"messages\": [{\"role\": \"user\"}]}\n");
  const loaded l = texts(path);
  REQUIRE(l.wrong.size() == 5);
  CHECK(l.wrong[0].text().find(path + ": line 2: not valid JSON") == 0);
  CHECK(l.wrong[1].text() ==
        path +
            ": line 3: has none of the keys inputs_pretokenized, text, prompt, content, question, messages, conversations, input_ids, ids: "
            "rename the key of the text");
  CHECK(l.wrong[2].text() == path + ": line 4: text is not a string: correct or remove it");
  CHECK(l.wrong[3].text() == path + ": line 5: is array, not an object or a string: write one object a line");
  CHECK(l.wrong[4].text() == path + ": line 6: messages is not a list of messages with a content: correct or remove it");
  for (const error& e : l.wrong) CHECK(e.text().find('\n') == std::string::npos);
  CHECK(l.data.samples.empty());

  std::string many;
  for (int i = 0; i < 50; ++i) many += "{}\n";
  const loaded m = texts(folder.write("m.jsonl", many));
  REQUIRE(m.wrong.size() == 21);
  CHECK(m.wrong[20].problem == "30 more records are wrong");
}

TEST_CASE("a file without anything to calibrate with is refused") {
  const temporary_folder folder;
  const std::string empty = folder.write("e.jsonl", " \n\n"), blank = folder.write("b.jsonl", "{\"text\": \"\"}\n"),
                    list = folder.write("l.json", "[]");
  CHECK(texts(empty).error_text() == empty + ": is empty: pass a file with texts\n");
  CHECK(texts(blank).error_text() == blank + ": has no text and no token: pass a file with calibration texts\n");
  CHECK(texts(list).error_text() == list + ": has no record: pass a file with texts\n");
  CHECK(texts(folder.path("none.jsonl")).error_text().find(folder.path("none.jsonl") + ": cannot open: No such file") == 0);
}

TEST_CASE("ids outside the vocabulary and samples beyond the model's length are refused") {
  const temporary_folder folder;
  const std::string path = folder.write("c.jsonl", "\"ab\"\n\"az\"\n\"abcdef\"\n");
  CHECK(texts(path, {}, {.vocab_size = 26}).error_text() ==
        path + ": line 2: the id 26 at position 2 is not below the vocabulary of 26: tokenize with this model's tokenizer\n");
  CHECK(texts(path, {}, {.vocab_size = 27}).error_text() == "");
  CHECK(texts(path, {}, {.max_length = 6}).error_text() ==
        path + ": line 3: 7 tokens, and the model allows 6: use --calib_length 6, which truncates\n");
  CHECK(texts(path, {.length = 6}, {.max_length = 6}).error_text() == "");
  CHECK(texts(path, {.length = 8}, {.max_length = 6}).error_text() ==
        path + ": --calib_length 8: the model allows 6 tokens: use at most --calib_length 6\n");
}

TEST_CASE("ready ids are read as they are") {
  const temporary_folder folder;
  const auto read = [&](const std::string& path, calibration_options options = {}, sequence_limits limits = {}) {
    loaded l;
    l.wrong = load_calibration_ids(path, options, limits, l.data);
    return l;
  };
  const std::string path = ids_file(folder, "I32", {2, 3}, bytes_of<std::int32_t>({1, 2, 3, 4, 5, 6}));
  CHECK(read(path).data.samples == std::vector<ids>{{1, 2, 3}, {4, 5, 6}});
  CHECK(read(path, {.samples = 1, .length = 2}).data.samples == std::vector<ids>{{1, 2}});
  CHECK(read(path, {}, {.vocab_size = 6}).error_text() ==
        path + ": ids[1]: the id 6 at position 2 is not below the vocabulary of 6: tokenize with this model's tokenizer\n");
  CHECK(read(path, {}, {.max_length = 2}).wrong.size() == 2);
  CHECK(read(path).data.report.text() == "2 samples, 6 tokens (3 to 3 each) of 2 rows of " + path + ", key ids; in file order");

  CHECK(read(ids_file(folder, "I64", {1, 2}, bytes_of<std::int64_t>({7, 8}))).data.samples == std::vector<ids>{{7, 8}});
  CHECK(read(ids_file(folder, "I32", {1, 2}, bytes_of<std::int32_t>({7, -100}))).error_text() ==
        path + ": ids[0]: position 1 is no token id: write ids from 0 on; there is no padding\n");
  CHECK(read(ids_file(folder, "F32", {1, 2}, bytes_of<float>({7, 8}))).error_text() ==
        path + ": ids: has the dtype F32: pass an I32 tensor `ids` of shape [samples, length]\n");
  CHECK(read(ids_file(folder, "I32", {2}, bytes_of<std::int32_t>({7, 8}))).wrong.size() == 1);
  CHECK(read(ids_file(folder, "I32", {0, 2}, "")).wrong.size() == 1);
}
