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

struct stored {
  std::string name, dtype;
  std::vector<std::size_t> shape;
  std::string bytes;
};

std::string tensors_file(const temporary_folder& folder, const std::vector<stored>& tensors) {
  std::string header = "{", data;
  for (const stored& t : tensors) {
    std::string extents;
    for (const std::size_t d : t.shape) extents += (extents.empty() ? "" : ",") + std::to_string(d);
    header += (header.size() == 1 ? "\"" : ",\"") + t.name + R"(":{"dtype":")" + t.dtype + R"(","shape":[)" + extents + R"(],"data_offsets":[)" +
              std::to_string(data.size()) + "," + std::to_string(data.size() + t.bytes.size()) + "]}";
    data += t.bytes;
  }
  header += '}';
  while (header.size() % 8 != 0) header += ' ';
  const std::uint64_t size = header.size();
  std::string all(8, '\0');
  std::memcpy(all.data(), &size, 8);
  return folder.write("ids.safetensors", all + header + data);
}

/// A safetensors file with one tensor.
std::string ids_file(const temporary_folder& folder, const std::string& dtype, const std::vector<std::size_t>& shape, const std::string& bytes) {
  return tensors_file(folder, {{"ids", dtype, shape, bytes}});
}

loaded ready(const std::string& path, calibration_options options = {}, sequence_limits limits = {}) {
  loaded l;
  l.wrong = load_calibration_ids(path, options, limits, l.data);
  return l;
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

TEST_CASE("texts slightly longer than the model allows are cut where that was asked for, and counted in a warning") {
  const temporary_folder folder;
  const std::string fits(127, 'a'), one_more(128, 'a'), two_more(129, 'a'), three_more(130, 'a');  // and <s>
  const std::string path = folder.write("c.jsonl", "\"" + fits + "\"\n\"" + one_more + "\"\n\"" + two_more + "\"\n");
  const loaded l = texts(path, {.cut_slightly_longer = true}, {.max_length = 128});
  CHECK(l.error_text() == "");
  for (const ids& sample : l.data.samples) CHECK(sample.size() == 128);
  CHECK(l.data.report.truncated == 2);
  CHECK(l.data.report.dropped_tokens == 3);
  CHECK(l.data.report.warnings ==
        std::vector<std::string>{"2 of 3 records of " + path + " are a few tokens longer than the 128 that the model allows, and were cut"});
  CHECK(texts(path, {}, {.max_length = 128}).wrong.size() == 2);
  const std::string longer = folder.write("d.jsonl", "\"" + three_more + "\"\n");
  CHECK(texts(longer, {.cut_slightly_longer = true}, {.max_length = 128}).error_text().find("line 1: 131 tokens, and the model allows 128") !=
        std::string::npos);
}

TEST_CASE("ready ids are read as they are") {
  const temporary_folder folder;
  const std::string path = ids_file(folder, "I32", {2, 3}, bytes_of<std::int32_t>({1, 2, 3, 4, 5, 6}));
  CHECK(ready(path).data.samples == std::vector<ids>{{1, 2, 3}, {4, 5, 6}});
  CHECK(ready(path, {.samples = 1, .length = 2}).data.samples == std::vector<ids>{{1, 2}});
  CHECK(ready(path, {}, {.vocab_size = 6}).error_text() ==
        path + ": ids[1]: the id 6 at position 2 is not below the vocabulary of 6: tokenize with this model's tokenizer\n");
  CHECK(ready(path, {}, {.max_length = 2}).wrong.size() == 2);
  CHECK(ready(path).data.report.text() == "2 samples, 6 tokens (3 to 3 each) of 2 rows of " + path + ", key ids; in file order");

  CHECK(ready(ids_file(folder, "I64", {1, 2}, bytes_of<std::int64_t>({7, 8}))).data.samples == std::vector<ids>{{7, 8}});
  CHECK(ready(ids_file(folder, "I32", {1, 2}, bytes_of<std::int32_t>({7, -100}))).error_text() ==
        path + ": ids[0]: position 1 is no token id: write ids from 0 on, and `attention_mask` beside them if there is padding\n");
  CHECK(ready(ids_file(folder, "F32", {1, 2}, bytes_of<float>({7, 8}))).error_text() ==
        path + ": ids: has the dtype F32: pass an I32 tensor `ids` of shape [samples, length]\n");
  CHECK(ready(ids_file(folder, "I32", {2}, bytes_of<std::int32_t>({7, 8}))).wrong.size() == 1);
  CHECK(ready(ids_file(folder, "I32", {0, 2}, "")).wrong.size() == 1);
}

TEST_CASE("padding that an attention mask marks is dropped, wherever it stands") {
  const temporary_folder folder;
  const auto i64 = [](const std::vector<std::int64_t>& v) { return bytes_of(v); };
  const stored rows{"input_ids", "I64", {4, 4}, i64({0, 0, 1, 2, 3, 4, 0, 0, 5, 6, 7, 8, 0, 0, 0, 0})};
  const std::vector<std::int64_t> mask{0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0};
  const std::vector<ids> wanted{{1, 2}, {3, 4}, {5, 6, 7, 8}};
  const loaded l = ready(tensors_file(folder, {rows, {"attention_mask", "I64", {4, 4}, i64(mask)}}));
  CHECK(l.error_text() == "");
  CHECK(l.data.samples == wanted);
  CHECK(l.data.report.empty == 1);
  CHECK(l.data.report.tokens == 8);
  for (const char* type : {"BOOL", "U8", "I8"})
    CHECK(ready(tensors_file(folder, {rows, {"attention_mask", type, {4, 4}, std::string(mask.begin(), mask.end())}})).data.samples == wanted);
  // Ids under padding are nobody's: -100 and ids that the vocabulary does not have.
  CHECK(ready(tensors_file(folder, {{"ids", "I32", {1, 3}, bytes_of<std::int32_t>({-100, 2, 9999})},
                                    {"attention_mask", "U8", {1, 3}, std::string("\0\1\0", 3)}}),
              {}, {.vocab_size = 3})
            .data.samples == std::vector<ids>{{2}});
  // One tensor a sample has one mask a sample.
  CHECK(ready(tensors_file(folder, {{"ids.0", "I32", {2}, bytes_of<std::int32_t>({1, 2})},
                                    {"ids.1", "I32", {3}, bytes_of<std::int32_t>({3, 4, 5})},
                                    {"attention_mask.1", "U8", {3}, std::string("\0\1\1", 3)}}))
            .data.samples == std::vector<ids>{{1, 2}, {4, 5}});
  // As keys of a record.
  CHECK(texts(folder.write("m.jsonl", R"({"input_ids": [0, 7, 8], "attention_mask": [0, 1, true]})")).data.samples == std::vector<ids>{{7, 8}});
}

TEST_CASE("attention masks that fit no ids are errors that name sample and position") {
  const temporary_folder folder;
  const stored rows{"ids", "I32", {2, 4}, bytes_of<std::int32_t>({1, 2, 3, 4, 5, 6, 7, 8})};
  const auto with = [&](const std::string& name, const std::string& type, const std::vector<std::size_t>& shape, const std::string& bytes) {
    return ready(tensors_file(folder, {rows, {name, type, shape, bytes}})).error_text();
  };
  const std::string path = folder.path("ids.safetensors") + ": ", mask = path + "attention_mask: ";
  CHECK(
      with("attention_mask", "U8", {2, 4}, std::string("\1\1\1\1\1\0\1\1", 8)) ==
      path +
          "ids[1]: position 1 of attention_mask is 0 between ones: padding stands before or behind a text: drop the positions within, or set them to "
          "1\n");
  CHECK(with("attention_mask", "U8", {2, 4}, std::string("\1\1\1\2\1\1\1\1", 8)) ==
        path + "ids[0]: position 3 of attention_mask is neither 0 nor 1: write 1 for each token, 0 for padding\n");
  CHECK(with("attention_mask", "U8", {2, 3}, std::string(6, '\1')) == mask + "has another shape than ids: write 1 for each token, 0 for padding\n");
  CHECK(with("attention_mask", "F32", {2, 4}, std::string(32, '\0')) == mask + "has the dtype F32: pass BOOL or a whole-number type\n");
  CHECK(with("attention_mask.0", "U8", {2, 4}, std::string(8, '\1')) ==
        mask + "1 tensors of masks belong to no tensor of ids: name the mask of ids.0 attention_mask.0, that of ids attention_mask\n");
  const std::string lines =
      folder.write("m.jsonl", "{\"ids\": [1, 2], \"attention_mask\": [1]}\n{\"ids\": [1, 2, 3], \"attention_mask\": [1, 0, 1]}\n");
  const loaded l = texts(lines);
  REQUIRE(l.wrong.size() == 2);
  CHECK(l.wrong[0].text() == lines + ": line 1: attention_mask is not a list of 2 times 0 or 1, one for each id: correct or remove it");
  CHECK(l.wrong[1].text().find(lines + ": line 2: position 1 of attention_mask is 0 between ones") == 0);
}

TEST_CASE("samples with a tensor each are numbered without gaps") {
  const temporary_folder folder;
  const auto one = [](const std::string& name) { return stored{name, "I32", {2}, bytes_of<std::int32_t>({1, 2})}; };
  const std::string path = folder.path("ids.safetensors");
  CHECK(ready(tensors_file(folder, {one("ids.0"), one("ids.2")})).error_text() ==
        path + ": ids.1: missing, though ids.2 is there: number the samples from 0 on, without gaps\n");
  CHECK(ready(tensors_file(folder, {one("ids.1")})).error_text().find("ids.0: missing, though ids.1 is there") != std::string::npos);
  CHECK(ready(tensors_file(folder, {{"ids", "I32", {1, 2}, bytes_of<std::int32_t>({1, 2})}, one("ids.0")})).error_text() ==
        path + ": ids: is there beside ids.0: which of them are the samples?: remove one of them\n");
  std::vector<stored> twelve;
  for (int i = 0; i < 12; ++i) twelve.push_back({"ids." + std::to_string(i), "I32", {1}, bytes_of<std::int32_t>({i})});
  const loaded l = ready(tensors_file(folder, twelve));
  REQUIRE(l.data.samples.size() == 12);
  CHECK(l.data.samples[10] == ids{10});
}

TEST_CASE("a null is no key: the next one counts") {
  const temporary_folder folder;
  CHECK(texts(folder.write("c.jsonl", "{\"text\": null, \"prompt\": \"a\"}\n{\"messages\": null, \"ids\": [3]}\n")).data.samples ==
        std::vector<ids>{{0, 1}, {3}});
  CHECK(texts(folder.write("n.jsonl", "{\"text\": null}\n")).error_text().find("line 1: has none of the keys") != std::string::npos);
}

TEST_CASE("text that is not UTF-8 is an error with its byte, in any kind of file") {
  const temporary_folder folder;
  const std::string utf16(
      "\xff\xfe"
      "a\0b\0",
      6);
  for (const char* name : {"c.txt", "c.jsonl", "c.json"}) {
    const std::string path = folder.write(name, utf16);
    CHECK(texts(path).error_text() ==
          path + ": byte 0: begins with the byte order mark of UTF-16 (little endian): convert it: iconv -f UTF-16 -t UTF-8\n");
  }
  CHECK(texts(folder.write("b.txt", std::string("\xfe\xff\0a", 4))).error_text().find("UTF-16 (big endian)") != std::string::npos);
  const std::string latin = folder.write("l.txt", "caf\xe9 au lait");
  CHECK(texts(latin).error_text() == latin + ": byte 3: is not UTF-8: convert it from its encoding, for example iconv -f LATIN1 -t UTF-8\n");
  const std::string marked = folder.write("m.txt",
                                          "\xef\xbb\xbf"
                                          "ab\xe9");  // the offset is the file's
  CHECK(texts(marked).error_text().find(marked + ": byte 5: is not UTF-8") == 0);
  const std::string no_mark = folder.write("z.txt", std::string("a\0b\0", 4));
  CHECK(texts(no_mark).error_text() ==
        no_mark + ": byte 1: is zero, as in UTF-16 or in a binary file: pass text in UTF-8: iconv -f UTF-16LE -t UTF-8\n");
  CHECK(texts(folder.write("good.txt",
                           "\xef\xbb\xbf"
                           "ab"))
            .data.samples == std::vector<ids>{{0, 1, 2}});
}
