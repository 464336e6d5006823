#include <qlib/io/checkpoint.hpp>

#include "safetensors_file_text.hpp"
#include "temporary_folder.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

using namespace qlib_test;

namespace {

/// A safetensors file with U8 tensors of 2 bytes each.
std::string shard(std::initializer_list<std::string_view> names) {
  std::string header = "{";
  std::size_t end = 0;
  for (std::string_view name : names) {
    if (end != 0) header += ',';
    header +=
        "\"" + std::string{name} + R"(":{"dtype":"U8","shape":[2],"data_offsets":[)" + std::to_string(end) + "," + std::to_string(end + 2) + "]}";
    end += 2;
  }
  return safetensors_text(header + "}", end);
}

/// {"tensor", "file", "tensor", "file", ...}
std::string index_text(std::initializer_list<std::string_view> pairs) {
  std::string text = R"({"metadata":{"total_size":1.5},"weight_map":{)";
  bool name = true;
  for (std::string_view word : pairs) {
    if (name && text.back() != '{') text += ',';
    text += "\"" + std::string{word} + "\"" + (name ? ":" : "");
    name = !name;
  }
  return text + "}}";
}

constexpr std::string_view index_name = "model.safetensors.index.json", first = "model-00001-of-00002.safetensors",
                           second = "model-00002-of-00002.safetensors";

/// A good model of two shards: b, a in the first, c in the second.
void write_two_shards(const temporary_folder& folder) {
  folder.write("config.json", "{\"model_type\": \"llama\"}");
  folder.write(first, shard({"b", "a"}));
  folder.write(second, shard({"c"}));
  folder.write(index_name, index_text({"a", first, "c", second, "b", first}));
}

qlib::errors open(const temporary_folder& folder) {
  qlib::checkpoint out;
  qlib::errors found = qlib::checkpoint::open(folder.path(), out);
  if (!found.empty()) CHECK(out.tensors().empty());
  for (const qlib::error& e : found) CHECK(e.remedy != "");
  return found;
}

std::string text_of(const qlib::errors& found) {
  std::string text;
  for (const qlib::error& e : found) text += e.text() + "\n";
  return text;
}

/// Exactly one error, whose line contains all of `parts`.
void check_only_error(const temporary_folder& folder, std::initializer_list<std::string_view> parts) {
  const qlib::errors found = open(folder);
  const std::string text = text_of(found);
  CAPTURE(text);
  CHECK(found.size() == 1);
  for (std::string_view part : parts) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("a sharded model gives its tensors in file order, and their bytes") {
  const temporary_folder folder;
  write_two_shards(folder);
  qlib::checkpoint model;
  REQUIRE(text_of(qlib::checkpoint::open(folder.path(), model)) == "");
  std::vector<std::string> names;
  for (const qlib::stored_tensor& t : model.tensors()) names.push_back(t.info.name + std::to_string(t.shard));
  CHECK(names == std::vector<std::string>{"b0", "a0", "c1"});
  CHECK(model.directory() == folder.path());
  CHECK(model.config_text() == "{\"model_type\": \"llama\"}");
  CHECK(model.total_bytes() == 6);
  REQUIRE(model.find("a"));
  CHECK(as_text(model.bytes(*model.find("a"))) == "\2\3");
  model.release(*model.find("a"), 0, 2);
  model.will_need(*model.find("a"), 0, 2);
  CHECK(as_text(model.bytes(*model.find("a"))) == "\2\3");
  CHECK_FALSE(model.find("d"));
  CHECK(model.shards()[1].path() == folder.path(second));
}

TEST_CASE("a model in one file needs no index") {
  const temporary_folder folder;
  folder.write("config.json", " {}\n");
  folder.write("model.safetensors", shard({"x"}));
  qlib::checkpoint model;
  REQUIRE(text_of(qlib::checkpoint::open(folder.path(), model)) == "");
  CHECK(model.tensors().size() == 1);
}

TEST_CASE("the single file wins over an index, as in transformers, even over a wrong one") {
  const temporary_folder folder;
  write_two_shards(folder);
  folder.write("model.safetensors", shard({"x"}));
  folder.write(index_name, "not json");
  qlib::checkpoint model;
  REQUIRE(text_of(qlib::checkpoint::open(folder.path(), model)) == "");
  CHECK(model.tensors().size() == 1);
  CHECK(model.find("x"));
}

TEST_CASE("widths of shard numbers do not matter, and shards follow each other by name") {
  const temporary_folder folder;
  folder.write("config.json", "{}");
  folder.write("model-00002-of-000163.safetensors", shard({"a"}));
  folder.write("model-00010-of-000163.safetensors", shard({"b"}));
  folder.write("any name", shard({"c"}));
  folder.write(index_name, index_text({"b", "model-00010-of-000163.safetensors", "a", "model-00002-of-000163.safetensors", "c", "any name"}));
  qlib::checkpoint model;
  REQUIRE(text_of(qlib::checkpoint::open(folder.path(), model)) == "");
  std::string names;
  for (const qlib::stored_tensor& t : model.tensors()) names += t.info.name;
  CHECK(names == "cab");
}

TEST_CASE("consolidated weights and folders beside the model are ignored") {
  const temporary_folder folder;
  write_two_shards(folder);
  folder.write("consolidated.safetensors", "broken");
  folder.write("consolidated-00001-of-00002.safetensors", "broken");
  std::filesystem::create_directory(folder.path("original"));
  folder.write("original/model.safetensors", "broken");
  CHECK(open(folder).empty());
}

TEST_CASE("links count as the files they point to, as in a hub cache") {
  const temporary_folder folder, blobs;
  write_two_shards(blobs);
  for (std::string_view name : {std::string_view{"config.json"}, index_name, first, second})
    std::filesystem::create_symlink(blobs.path(name), folder.path(name));
  CHECK(open(folder).empty());
  std::filesystem::remove(blobs.path(second));
  check_only_error(folder, {second, "does not exist"});
}

TEST_CASE("files to copy are all regular files but weights, indices, config.json and hidden ones") {
  const temporary_folder folder;
  write_two_shards(folder);
  for (const char* name :
       {"tokenizer.json", "tokenizer.model", "generation_config.json", "modeling_x.py", "chat_template.jinja", "README.md", "LICENSE"})
    folder.write(name, "x");
  for (const char* name : {".gitattributes", "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json", "consolidated.00.pth", "model.gguf"})
    folder.write(name, "x");
  std::filesystem::create_directory(folder.path("original"));
  qlib::checkpoint model;
  REQUIRE(qlib::checkpoint::open(folder.path(), model).empty());
  CHECK(std::vector<std::string>(model.other_files().begin(), model.other_files().end()) ==
        std::vector<std::string>{"LICENSE", "README.md", "chat_template.jinja", "generation_config.json", "modeling_x.py", "tokenizer.json",
                                 "tokenizer.model"});
}

TEST_CASE("a folder that does not exist is one error") {
  const temporary_folder folder;
  qlib::checkpoint model;
  const qlib::errors found = qlib::checkpoint::open(folder.path("missing"), model);
  REQUIRE(found.size() == 1);
  CHECK(found[0].where == folder.path("missing"));
  CHECK(qlib::checkpoint::open(folder.write("file", ""), model).size() == 1);
}

TEST_CASE("a folder without weights names what was looked for and what is there") {
  const temporary_folder folder;
  folder.write("config.json", "{}");
  check_only_error(folder, {"neither model.safetensors nor model.safetensors.index.json exists", "check the model path"});
  folder.write("pytorch_model.bin", "x");
  check_only_error(folder, {"weights of another format", "convert the model to safetensors"});
  folder.write("consolidated.safetensors", shard({"a"}));
  check_only_error(folder, {"1 other files *.safetensors"});
  folder.write(first, shard({"a"}));
  check_only_error(folder, {"found 1 files model-*.safetensors", "download the index"});
}

TEST_CASE("config.json must exist and be a JSON object") {
  const temporary_folder folder;
  folder.write("model.safetensors", shard({"x"}));
  check_only_error(folder, {"config.json", "cannot open", "needs a readable config.json"});
  for (const char* content : {"", "{", "{\"a\": nan}", "{} {}"}) {
    folder.write("config.json", content);
    check_only_error(folder, {"config.json", "not valid JSON"});
  }
  for (const char* content : {"[]", "[{}]", "1", " \"{\""}) {
    folder.write("config.json", content);
    check_only_error(folder, {"config.json", "is not a JSON object"});
  }
  folder.write("config.json", "{\"a\": 1, \"a\": 2}");  // every reader takes the last value
  CHECK(open(folder).empty());
}

TEST_CASE("an index that is not JSON or has no weight map is one error") {
  const temporary_folder folder;
  write_two_shards(folder);
  for (const char* content :
       {"", "{", "{}", "[]", "1", "{\"weight_map\": []}", "{\"weight_map\": null}", "{\"weight_map\": {}}", "{\"metadata\": {}}"}) {
    folder.write(index_name, content);
    check_only_error(folder, {index_name});
  }
}

TEST_CASE("a repeated tensor in the index is refused by name") {
  const temporary_folder folder;
  write_two_shards(folder);
  folder.write(index_name, index_text({"a", first, "a", first, "b", first, "c", second}));
  check_only_error(folder, {index_name, ": a: the key appears more than once"});
}

TEST_CASE("shards must be plain file names") {
  for (std::string_view name : {"../model.safetensors", "..", "sub/model.safetensors", "/etc/passwd", "", "a\\\\b", "a\\u0000b"}) {
    const temporary_folder folder;
    write_two_shards(folder);
    folder.write(index_name, index_text({"a", first, "b", first, "c", second, "x", name, "y", name}));
    check_only_error(folder, {": x: ", "is not a plain file name"});
  }
}

TEST_CASE("a file name that is no string is refused") {
  const temporary_folder folder;
  write_two_shards(folder);
  std::string text = index_text({"a", first, "b", first, "c", second});
  folder.write(index_name, text.insert(text.size() - 2, ",\"d\":5"));
  check_only_error(folder, {": d: the file name is number, not string"});
}

TEST_CASE("a missing shard is one error with the number of its tensors") {
  const temporary_folder folder;
  write_two_shards(folder);
  std::filesystem::remove(folder.path(first));
  check_only_error(folder, {index_name, first, "2 tensors"});
}

TEST_CASE("a damaged shard is reported once, not once a tensor") {
  const temporary_folder folder;
  write_two_shards(folder);
  folder.write(first, folder.read(first) + "x");
  check_only_error(folder, {first, "1 bytes after the last tensor"});
}

TEST_CASE("a tensor that its shard does not hold is refused, with the shard that does") {
  const temporary_folder folder;
  write_two_shards(folder);
  folder.write(index_name, index_text({"a", first, "b", second, "c", second}));
  check_only_error(folder, {": b: is not in ", second, " but in ", first});
  folder.write(index_name, index_text({"a", first, "b", first, "c", second, "d", second}));
  check_only_error(folder, {": d: is not in ", second});
}

TEST_CASE("a tensor of a shard that the index does not name is refused") {
  const temporary_folder folder;
  write_two_shards(folder);
  folder.write(index_name, index_text({"a", first, "c", second}));
  check_only_error(folder, {first, ": b: is stored here, but the index does not name it"});
}

TEST_CASE("a tensor in two shards is refused with both") {
  const temporary_folder folder;
  write_two_shards(folder);
  folder.write(second, shard({"c", "a"}));
  check_only_error(folder, {": a: is stored in both ", first, second});
}

TEST_CASE("all errors of a directory are reported at once") {
  const temporary_folder folder;
  write_two_shards(folder);
  std::filesystem::remove(folder.path("config.json"));
  folder.write(second, "short");
  folder.write(index_name, index_text({"a", first, "c", second, "e", "missing.safetensors", "f", "../f"}));
  const qlib::errors found = open(folder);
  const std::string text = text_of(found);
  CAPTURE(text);
  CHECK(found.size() == 5);  // config, ../f, missing, short, b
  for (const char* part : {"config.json", "\"../f\"", "missing.safetensors", "at least 8", ": b: "}) CHECK(text.find(part) != std::string::npos);
}
