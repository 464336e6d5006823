#include <qlib/io/safetensors.hpp>

#include "safetensors_file_text.hpp"
#include "temporary_folder.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <tuple>
#include <vector>

using namespace qlib_test;

namespace {

struct parsed {
  qlib::errors errors;
  qlib::safetensors_header header;
};

parsed parse_file(std::string_view file) {
  parsed p;
  p.errors = qlib::parse_safetensors_header(as_bytes(file), file.size(), "m.safetensors", p.header);
  return p;
}

parsed parse(std::string_view header, std::size_t data_bytes) { return parse_file(safetensors_text(header, data_bytes)); }

/// One error with this subject, whose problem contains `problem`.
void check_only_error(const parsed& p, std::string_view subject, std::string_view problem) {
  CAPTURE(problem);
  REQUIRE(p.errors.size() == 1);
  CHECK(p.errors[0].kind == qlib::error_kind::invalid_input);
  CHECK(p.errors[0].where == "m.safetensors");
  CHECK(p.errors[0].subject == subject);
  CAPTURE(p.errors[0].problem);
  CHECK(p.errors[0].problem.find(problem) != std::string::npos);
  CHECK(p.errors[0].remedy != "");
  CHECK(p.header.tensors.empty());
  CHECK(p.header.data_begin == 0);
}

std::string entry(std::string_view name, std::string_view dtype, std::string_view shape, std::string_view offsets) {
  std::string text = "\"";
  text.append(name).append("\":{\"dtype\":\"").append(dtype).append("\",\"shape\":").append(shape);
  return text.append(",\"data_offsets\":").append(offsets).append("}");
}

}  // namespace

TEST_CASE("a header gives tensors in offset order, metadata in file order and the start of the data") {
  const std::string header =
      "{" + entry("b", "F32", "[2,1]", "[6,14]") + R"(,"__metadata__":{"format":"pt","a":"1"},)" + entry("a", "BF16", "[3]", "[0,6]") + "}";
  const parsed p = parse(header, 14);
  REQUIRE(p.errors.empty());
  CHECK(p.header.tensors == std::vector<qlib::tensor_info>{{"a", qlib::dtype::bf16, {3}, 0, 6}, {"b", qlib::dtype::f32, {2, 1}, 6, 14}});
  CHECK(p.header.metadata == qlib::safetensors_metadata{{"format", "pt"}, {"a", "1"}});
  CHECK(p.header.data_begin == 8 + header.size());
  CHECK(p.header.tensors[1].elements() == 2);
  CHECK(p.header.tensors[1].bytes() == 8);
}

// Rule 1: the length prefix.
TEST_CASE("a file of less than 8 bytes has no header") {
  for (std::size_t size = 0; size < 8; ++size) check_only_error(parse_file(std::string(size, '\0')), "", "a safetensors file has at least 8");
}

TEST_CASE("a header of more than 100000000 bytes is refused before it is looked at") {
  for (std::uint64_t length : {std::uint64_t{100'000'001}, std::uint64_t{UINT64_MAX}}) {
    std::string file = safetensors_text("{}", 0);
    std::memcpy(file.data(), &length, 8);
    check_only_error(parse_file(file), "", std::to_string(length) + " bytes; at most 100000000");
  }
}

TEST_CASE("a header that reaches past the end of the file is refused") {
  std::string file = safetensors_text("{}", 0);
  for (std::uint64_t length : {3, 100'000'000}) {
    std::memcpy(file.data(), &length, 8);
    check_only_error(parse_file(file), "", "does not fit the file of 10 bytes");
  }
}

// Rule 2: JSON.
TEST_CASE("no tensors at all are a valid file") {
  const parsed p = parse("{}", 0);
  CHECK(p.errors.empty());
  CHECK(p.header.data_begin == 10);
}

TEST_CASE("white space around the header is accepted") {
  for (const char* header : {" {}", "{}   ", "\n\t\r {} \n"}) {
    const parsed p = parse(header, 0);
    CHECK(p.errors.empty());
    CHECK(p.header.data_begin == 8 + std::strlen(header));
  }
}

TEST_CASE("text that is not JSON is refused") {
  for (const char* header : {"", "   ", "{", "}", "{} x", "{}{}", "{\"a\":}", "{'a':1}", "{\"__metadata__\":{},}", "{\"t\":{\"x\":01}}",
                             "{\"t\":{\"x\":nan}}", "{\"t\":{\"x\":\"\t\"}}", "{\"t\":{\"x\":[}}", "{} // comment"}) {
    check_only_error(parse(header, 0), "", "not valid JSON");
  }
}

TEST_CASE("what follows a NUL is not overlooked, and a byte order mark is refused") {
  check_only_error(parse(std::string("{}\0", 3), 0), "", "NUL at byte 2");
  check_only_error(parse(std::string("{}\0{{{", 6), 0), "", "NUL at byte 2");
  check_only_error(parse("\xef\xbb\xbf{}", 0), "", "byte order mark");
}

TEST_CASE("bytes that are not UTF-8 are refused with their place") {
  for (const char* name :
       {"\xff", "\x80", "\xc0\xaf", "\xc3", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80"})
    check_only_error(parse("{" + entry(name, "U8", "[0]", "[0,0]") + "}", 0), "", "not UTF-8 at byte 2");
}

TEST_CASE("a header that is JSON but no object is refused") {
  for (const auto& [header, what] : {std::pair<const char*, const char*>{"[]", "an array"},
                                     {"[{}]", "an array"},
                                     {"\"{}\"", "a string"},
                                     {"1", "a number"},
                                     {"-1.5", "not an integer"},
                                     {"null", "null"},
                                     {"true", "a boolean"}})
    check_only_error(parse(header, 0), "", std::string{"the header is "} + what);
}

TEST_CASE("deep nesting neither crashes nor recurses") {
  CHECK_FALSE(parse(std::string(1'000'000, '['), 0).errors.empty());
  CHECK_FALSE(parse("{\"a\":" + std::string(1'000'000, '['), 0).errors.empty());
}

// Rule 3: entries.
TEST_CASE("each of dtype, shape and data_offsets is required") {
  check_only_error(parse(R"({"t":{"shape":[1],"data_offsets":[0,1]}})", 1), "t", "\"dtype\" is missing");
  check_only_error(parse(R"({"t":{"dtype":"U8","data_offsets":[0,1]}})", 1), "t", "\"shape\" is missing");
  check_only_error(parse(R"({"t":{"dtype":"U8","shape":[1]}})", 1), "t", "\"data_offsets\" is missing");
}

TEST_CASE("unknown keys of an entry are ignored, whatever their value") {
  for (const char* extra : {"1", "-1.5", "\"x\"", "null", "true", "[1,[2,{\"dtype\":3}]]", "{\"shape\":{\"a\":[]},\"shape\":1}", "[]", "{}"}) {
    const std::string header = std::string{R"({"t":{"x":)"} + extra + R"(,"dtype":"U8","y":)" + extra + R"(,"shape":[1],"data_offsets":[0,1]}})";
    CHECK(parse(header, 1).errors.empty());
  }
}

TEST_CASE("values of the wrong type are refused by name") {
  for (const char* value : {"1", "null", "\"x\"", "[]", "true", "1.5", "-1"})
    check_only_error(parse(std::string{"{\"t\":"} + value + "}", 0), "t", "not an object");
  for (const char* value : {"1", "null", "[]", "{}", "[\"U8\"]", "{\"dtype\":\"U8\"}", "true"})
    check_only_error(parse(std::string{R"({"t":{"dtype":)"} + value + R"(,"shape":[1],"data_offsets":[0,1]}})", 1), "t", "\"dtype\" is ");
  for (const char* value : {"1", "null", "\"x\"", "{}", "[-1]", "[1.0]", "[1e0]", "[-0]", "[null]", "[\"1\"]", "[[1]]", "[{}]", "[1,2,true,false,-3]",
                            "[18446744073709551616]"})
    check_only_error(parse(std::string{R"({"t":{"dtype":"U8","shape":)"} + value + R"(,"data_offsets":[0,1]}})", 1), "t", "\"shape\" ");
  for (const char* value : {"1", "null", "\"x\"", "{}", "[]", "[0]", "[0,1,2]", "[-1,1]", "[0.0,1]", "[0,1.0]", "[0,\"1\"]", "[[0,1]]", "[null,null]",
                            "[0,18446744073709551616]"})
    check_only_error(parse(std::string{R"({"t":{"dtype":"U8","shape":[1],"data_offsets":)"} + value + "}}", 1), "t", "\"data_offsets\" ");
}

TEST_CASE("metadata is an object of strings, or an error") {
  CHECK(parse(R"({"__metadata__":{}})", 0).errors.empty());
  for (const char* value : {"1", "null", "[]", "\"x\"", "true"})
    check_only_error(parse(std::string{"{\"__metadata__\":"} + value + "}", 0), "__metadata__", "");
  for (const char* value : {"1", "-1", "0.5", "null", "[]", "{}", "{\"a\":\"b\"}", "true"})
    check_only_error(parse(std::string{R"({"__metadata__":{"dtype":"x","shape":)"} + value + "}}", 0), "__metadata__", "not a string");
}

// Rule 4: the tiling of the data.
TEST_CASE("a hole before, between or after tensors is refused with its range") {
  check_only_error(parse("{" + entry("t", "U8", "[2]", "[1,3]") + "}", 3), "t", "no tensor uses the bytes [0, 1)");
  check_only_error(parse("{" + entry("a", "U8", "[2]", "[0,2]") + "," + entry("b", "U8", "[2]", "[5,7]") + "}", 7), "b",
                   "no tensor uses the bytes [2, 5)");
  check_only_error(parse("{" + entry("e", "U8", "[0]", "[1,1]") + "}", 1), "e", "no tensor uses the bytes [0, 1)");
}

TEST_CASE("overlapping tensors are refused with both names") {
  const parsed p = parse("{" + entry("a", "U8", "[4]", "[0,4]") + "," + entry("b", "U8", "[4]", "[2,6]") + "}", 6);
  check_only_error(p, "b", "[2, 6) overlap those of a, which end at 4");
  CHECK_FALSE(parse("{" + entry("a", "U8", "[4]", "[0,4]") + "," + entry("b", "U8", "[4]", "[0,4]") + "}", 4).errors.empty());
  check_only_error(parse("{" + entry("a", "U8", "[4]", "[0,4]") + "," + entry("b", "U8", "[1]", "[1,2]") + "}", 4), "b", "overlap those of a");
}

TEST_CASE("offsets that end before they begin are refused") {
  check_only_error(parse("{" + entry("t", "U8", "[2]", "[2,0]") + "}", 2), "t", "end before they begin: [2, 0]");
  check_only_error(parse("{" + entry("t", "U8", "[2]", "[18446744073709551615,1]") + "}", 2), "t", "end before they begin");
}

TEST_CASE("offsets that do not fit dtype and shape are refused with both numbers") {
  check_only_error(parse("{" + entry("t", "F32", "[2,3]", "[0,20]") + "}", 20), "t", "F32 of shape [2, 3] needs 24 bytes, data_offsets give 20");
  check_only_error(parse("{" + entry("t", "U8", "[]", "[0,0]") + "}", 0), "t", "U8 of shape [] needs 1 bytes, data_offsets give 0");
}

TEST_CASE("sizes above 64 bits are refused") {
  for (const char* shape : {"[4294967296,4294967296]", "[18446744073709551615]", "[18446744073709551615,2,0]", "[2305843009213693952]"})
    check_only_error(parse("{" + entry("t", "U8", shape, "[0,0]") + "}", 0), "t", "has a size above 64 bits");
  CHECK(parse("{" + entry("t", "U8", "[0,18446744073709551615,2]", "[0,0]") + "}", 0).errors.empty());  // the product is 0 from the start
}

TEST_CASE("elements of less than a byte must fill whole bytes") {
  check_only_error(parse("{" + entry("t", "F4", "[3]", "[0,1]") + "}", 1), "t", "F4 of shape [3] does not fill whole bytes");
  check_only_error(parse("{" + entry("t", "F6_E2M3", "[2]", "[0,1]") + "}", 1), "t", "does not fill whole bytes");
  check_only_error(parse("{" + entry("t", "F4", "[]", "[0,0]") + "}", 0), "t", "does not fill whole bytes");
  CHECK(parse("{" + entry("t", "F4", "[3,2]", "[0,3]") + "}", 3).errors.empty());
  CHECK(parse("{" + entry("t", "F6_E3M2", "[4]", "[0,3]") + "}", 3).errors.empty());
}

// Rule 5: the size of the file.
TEST_CASE("missing and trailing bytes are refused with their number") {
  const std::string header = "{" + entry("t", "U8", "[4]", "[0,4]") + "}";
  check_only_error(parse(header, 3), "", "its tensors need 4 bytes of data, it has 3");
  check_only_error(parse(header, 6), "", "2 bytes after the last tensor");
  check_only_error(parse("{}", 1), "", "1 bytes after the last tensor");
}

// Rule 6: scalars and empty tensors.
TEST_CASE("a scalar has one element; empty tensors take no bytes and may lie anywhere between others") {
  const parsed p =
      parse("{" + entry("s", "F32", "[]", "[0,4]") + "," + entry("e1", "F32", "[0]", "[4,4]") + "," + entry("e0", "F64", "[3,0,2]", "[0,0]") + "," +
                entry("t", "U8", "[1]", "[4,5]") + "," + entry("e2", "F64", "[0]", "[5,5]") + "," + entry("e3", "F64", "[0]", "[5,5]") + "}",
            5);
  REQUIRE(p.errors.empty());
  std::vector<std::string> names;
  for (const qlib::tensor_info& t : p.header.tensors) names.push_back(t.name);
  CHECK(names == std::vector<std::string>{"e0", "s", "e1", "t", "e2", "e3"});
  CHECK(p.header.tensors[1].elements() == 1);
  CHECK(p.header.tensors[0].elements() == 0);
}

// Rule 7: alignment.
TEST_CASE("data may start at an odd address and tensors may follow each other unaligned") {
  const temporary_folder folder;
  for (std::size_t spaces = 0; spaces < 8; ++spaces) {
    const std::string header = "{" + entry("a", "U8", "[3]", "[0,3]") + "," + entry("b", "F32", "[2]", "[3,11]") + "}" + std::string(spaces, ' ');
    qlib::safetensors_file file;
    REQUIRE(qlib::safetensors_file::open(folder.write("m.safetensors", safetensors_text(header, 11)), file).empty());
    CHECK(file.header().data_begin == 8 + header.size());
    REQUIRE(file.find("b"));
    CHECK(as_text(file.bytes(*file.find("b"))) == std::string_view("\3\4\5\6\7\10\11\12", 8));
  }
}

// Rule 8: dtypes.
TEST_CASE("every dtype is read by its name, and an unknown one is refused by name") {
  for (const char* name : {"BOOL", "F4",  "F6_E2M3", "F6_E3M2", "U8",  "I8",  "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
                           "I16",  "U16", "F16",     "BF16",    "I32", "U32", "F32",     "C64",     "F64",     "I64",         "U64"}) {
    const qlib::dtype t = *qlib::dtype_from_name(name);
    const std::size_t bytes = 4 * qlib::bits_of(t) / 8;
    const parsed p = parse("{" + entry("t", name, "[4]", "[0," + std::to_string(bytes) + "]") + "}", bytes);
    REQUIRE(p.errors.empty());
    CHECK(p.header.tensors[0].dtype == t);
  }
  for (const char* name : {"", "f32", "F128", "BF16 ", "FLOAT"})
    check_only_error(parse("{" + entry("layer.weight", name, "[1]", "[0,4]") + "}", 4), "layer.weight",
                     std::string{"unknown dtype \""} + name + "\"");
}

// Rule 9: duplicate keys and names.
TEST_CASE("a repeated key is refused by name at every level that is read") {
  check_only_error(parse("{" + entry("t", "U8", "[1]", "[0,1]") + "," + entry("t", "U8", "[1]", "[1,2]") + "}", 2), "t",
                   "the name appears more than once");
  check_only_error(parse("{" + entry("t", "U8", "[1]", "[0,1]") + "," + entry("\\u0074", "U8", "[1]", "[0,1]") + "}", 1), "t",
                   "appears more than once");
  check_only_error(parse(R"({"__metadata__":{},"__metadata__":{}})", 0), "__metadata__", "appears more than once");
  check_only_error(parse(R"({"__metadata__":{"a":"1","a":"1"}})", 0), "__metadata__", "the key \"a\" appears more than once");
  check_only_error(parse(R"({"t":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1), "t",
                   "the key \"dtype\" appears more than once");
  check_only_error(parse(R"({"t":{"dtype":"U8","shape":[2],"shape":[1],"data_offsets":[0,1]}})", 1), "t", "the key \"shape\" appears more than once");
}

TEST_CASE("names hold any UTF-8, escaped or not, with surrogate pairs") {
  const parsed p = parse("{" + entry("\\u6743\\u91cd.\\ud83d\\ude00.\\\"\\\\\\/\\n\\u0000", "U8", "[1]", "[0,1]") + "," +
                             entry("重\xf0\x9f\x98\x80", "U8", "[1]", "[1,2]") + "}",
                         2);
  REQUIRE(p.errors.empty());
  CHECK(p.header.tensors[0].name == std::string("权重.\xf0\x9f\x98\x80.\"\\/\n\0", 17));
  CHECK(p.header.tensors[1].name == "重\xf0\x9f\x98\x80");
  for (const char* name : {"\\ud83d", "\\ude00", "\\ud83dx", "\\ude00\\ud83d", "\\u12", "\\x41"})
    check_only_error(parse("{" + entry(name, "U8", "[1]", "[0,1]") + "}", 1), "", "not valid JSON");
}

TEST_CASE("all independent errors of a header are reported at once") {
  const parsed p =
      parse("{" + entry("a", "F99", "[1]", "[0,1]") + R"(,"b":{"shape":[-1,-2]},"c":3,"d":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 0);
  std::vector<std::string> subjects;
  for (const qlib::error& e : p.errors) subjects.push_back(e.subject);
  CHECK(subjects == std::vector<std::string>{"a", "b", "b", "b", "c", "d"});

  const parsed layout = parse("{" + entry("a", "F32", "[1]", "[0,3]") + "," + entry("b", "U8", "[2]", "[5,7]") + "}", 9);
  REQUIRE(layout.errors.size() == 3);  // the size of a, the hole before b, the bytes after b
}

TEST_CASE("offsets above 4 GiB are checked with 64 bits") {
  const std::uint64_t gib = std::uint64_t{1} << 30;
  const std::string header =
      "{" + entry("a", "BF16", "[2147483648,4]", "[0,17179869184]") + "," + entry("b", "U8", "[1073741824]", "[17179869184,18253611008]") + "}";
  const std::string start = safetensors_text(header, 0);
  qlib::safetensors_header out;
  CHECK(qlib::parse_safetensors_header(as_bytes(start), start.size() + 17 * gib, "m", out).empty());
  CHECK(out.tensors[1].begin == 16 * gib);
  CHECK(out.tensors[1].end == 17 * gib);
  CHECK(qlib::parse_safetensors_header(as_bytes(start), start.size() + 17 * gib - 1, "m", out).size() == 1);
  CHECK(qlib::parse_safetensors_header(as_bytes(start), start.size() + 13 * gib, "m", out).size() == 1);  // the same modulo 2^32
}

TEST_CASE("a mapped file finds tensors by name, gives pages back and survives moves") {
  const temporary_folder folder;
  const std::string header = "{" + entry("z", "U8", "[100000]", "[0,100000]") + "," + entry("a", "I16", "[2]", "[100000,100004]") + "}";
  const std::string text = safetensors_text(header, 100004);
  qlib::safetensors_file opened;
  REQUIRE(qlib::safetensors_file::open(folder.write("m.safetensors", text), opened).empty());
  const qlib::safetensors_file file = std::move(opened);
  REQUIRE(file.find("z"));
  CHECK(file.find("a")->begin == 100000);
  CHECK_FALSE(file.find("b"));
  CHECK_FALSE(file.find(""));
  const std::string_view expected = std::string_view{text}.substr(text.size() - 100004);
  CHECK(as_text(file.bytes(*file.find("z"))) == expected.substr(0, 100000));
  file.release(*file.find("z"), 0, UINT64_MAX);
  file.will_need(*file.find("z"), 5, UINT64_MAX);
  file.release(*file.find("a"), 9, 1);
  CHECK(as_text(file.bytes(*file.find("z"))) == expected.substr(0, 100000));
  CHECK(as_text(file.bytes(*file.find("a"))) == expected.substr(100000));
}

TEST_CASE("opening a file that is missing or wrong gives errors with its path") {
  const temporary_folder folder;
  qlib::safetensors_file file;
  REQUIRE(qlib::safetensors_file::open(folder.path("missing"), file).size() == 1);
  const std::string path = folder.write("m.safetensors", safetensors_text("{}", 1));
  const qlib::errors found = qlib::safetensors_file::open(path, file);
  REQUIRE(found.size() == 1);
  CHECK(found[0].where == path);
  CHECK(file.tensors().empty());
}

TEST_CASE("tensors are ordered for writing by dtype, widest first, then by name") {
  std::vector<qlib::tensor_info> tensors{{"b", qlib::dtype::i8, {3}},
                                         {"c", qlib::dtype::f32, {}},
                                         {"a", qlib::dtype::i8, {2}},
                                         {"d", qlib::dtype::i64, {0}},
                                         {"e", qlib::dtype::f4, {2}}};
  qlib::order_for_writing(tensors);
  const auto size = qlib::assign_offsets(tensors);
  REQUIRE(size);
  CHECK(*size == 10);
  CHECK(tensors == std::vector<qlib::tensor_info>{{"d", qlib::dtype::i64, {0}, 0, 0},
                                                  {"c", qlib::dtype::f32, {}, 0, 4},
                                                  {"a", qlib::dtype::i8, {2}, 4, 6},
                                                  {"b", qlib::dtype::i8, {3}, 6, 9},
                                                  {"e", qlib::dtype::f4, {2}, 9, 10}});
}

TEST_CASE("shapes without a size in whole bytes get no offsets") {
  for (const qlib::tensor_info& t : {qlib::tensor_info{"t", qlib::dtype::f4, {3}}, {"t", qlib::dtype::f32, {UINT64_MAX}}}) {
    std::vector<qlib::tensor_info> tensors{t};
    const auto size = qlib::assign_offsets(tensors);
    REQUIRE_FALSE(size);
    CHECK(size.error().subject == "t");
  }
}

TEST_CASE("a written header is a length, JSON and spaces up to a multiple of 8") {
  std::vector<qlib::tensor_info> tensors{{"a", qlib::dtype::f32, {2, 1}}, {"b", qlib::dtype::i8, {}}};
  REQUIRE(qlib::assign_offsets(tensors));
  const auto text = qlib::serialize_safetensors_header(tensors, {{"format", "pt"}});
  REQUIRE(text);
  const std::string json =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"b":{"dtype":"I8","shape":[],"data_offsets":[8,9]}})";
  CHECK(text->size() % 8 == 0);
  CHECK(text->substr(8) == json + std::string(text->size() - 8 - json.size(), ' '));
  std::uint64_t length = 0;
  std::memcpy(&length, text->data(), 8);
  CHECK(length == text->size() - 8);
  CHECK(*qlib::serialize_safetensors_header({}) == std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
}

TEST_CASE("a written header reads back the same, whatever the names") {
  std::string controls;
  for (char c = 0; c < 32; ++c) controls += c;
  std::vector<qlib::tensor_info> tensors{{"\"quoted\\\"", qlib::dtype::f16, {3, 0}},
                                         {controls, qlib::dtype::i8, {5}},
                                         {"权重\xf0\x9f\x98\x80\x7f", qlib::dtype::u8, {}},
                                         {"", qlib::dtype::bf16, {2}},
                                         {"{", qlib::dtype::f4, {2}}};
  qlib::order_for_writing(tensors);
  const auto size = qlib::assign_offsets(tensors);
  REQUIRE(size);
  const qlib::safetensors_metadata metadata{{"{", "\n{"}, {controls, "\\"}, {"", ""}};
  const auto text = qlib::serialize_safetensors_header(tensors, metadata);
  REQUIRE(text);
  const parsed p = parse_file(*text + std::string(*size, 'x'));
  REQUIRE(p.errors.empty());
  CHECK(p.header.metadata == metadata);
  std::vector<qlib::tensor_info> read = p.header.tensors;
  qlib::order_for_writing(read);
  CHECK(read == tensors);
}

TEST_CASE("what no reader accepts is not written") {
  std::vector<qlib::tensor_info> duplicate{{"t", qlib::dtype::u8, {1}, 0, 1}, {"t", qlib::dtype::u8, {1}, 1, 2}};
  CHECK_FALSE(qlib::serialize_safetensors_header(duplicate));
  CHECK_FALSE(qlib::serialize_safetensors_header(std::vector<qlib::tensor_info>{{"\xff", qlib::dtype::u8, {1}, 0, 1}}));
  CHECK_FALSE(qlib::serialize_safetensors_header(std::vector<qlib::tensor_info>{{"__metadata__", qlib::dtype::u8, {1}, 0, 1}}));
  CHECK_FALSE(qlib::serialize_safetensors_header(std::vector<qlib::tensor_info>{{"t", qlib::dtype::u8, {1}, 1, 2}}));
  CHECK_FALSE(qlib::serialize_safetensors_header({}, {{"a", "1"}, {"a", "2"}}));
  const auto large = qlib::serialize_safetensors_header({}, {{"a", std::string(100'000'000, 'x')}});
  REQUIRE_FALSE(large);
  CHECK(large.error().problem.find("at most 100000000") != std::string::npos);
}

TEST_CASE("20000 damaged files are refused, or every tensor of them lies inside the file and fits its shape") {
  const std::string original = safetensors_text("{" + entry("a", "F32", "[2,3]", "[0,24]") + R"(,"__metadata__":{"format":"pt"},)" +
                                                    entry("\\ud83d\\ude00", "U8", "[3]", "[24,27]") + "," + entry("e", "BF16", "[0]", "[27,27]") +
                                                    "," + entry("s", "BF16", "[]", "[27,29]") + "," + entry("f", "F4", "[2,4]", "[29,33]") + "}",
                                                33);
  REQUIRE(parse_file(original).errors.empty());
  std::mt19937_64 random{20240229};
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  constexpr std::string_view likely = "{}[]\",:0123456789-.eE \\u";
  std::size_t accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string file = original;
    for (std::size_t edits = 1 + below(4); edits != 0 && !file.empty(); --edits) {
      // Drawn one after the other: the order in which arguments are evaluated differs between compilers.
      const std::size_t at = below(2) != 0 ? below(std::min<std::size_t>(file.size(), 9)) : below(file.size());
      const std::size_t anywhere = below(file.size()), from = below(file.size()), length = below(40);
      const char drawn = likely[below(likely.size())];
      switch (below(6)) {
        case 0:
          file[at] = static_cast<char>(file[at] ^ (1 << below(8)));
          break;
        case 1:
          file[anywhere] = drawn;
          break;
        case 2:
          file.resize(at);
          break;
        case 3:
          file.insert(anywhere, 1, drawn);
          break;
        case 4:
          file.erase(anywhere, 1 + length % 3);
          break;
        default:
          file.insert(anywhere, file.substr(from, length));
          break;
      }
    }
    const std::vector<char> exact(file.begin(), file.end());  // no terminator behind the last byte: a sanitizer sees every overrun
    parsed p;
    p.errors = qlib::parse_safetensors_header(std::as_bytes(std::span{exact}), exact.size(), "m", p.header);
    if (!p.errors.empty()) {
      CHECK(p.header.tensors.empty());
      continue;
    }
    ++accepted;
    std::uint64_t end = 0;
    bool sound = p.header.data_begin >= 8 && p.header.data_begin <= file.size();
    for (const qlib::tensor_info& t : p.header.tensors) {
      sound = sound && t.begin == end && t.end >= t.begin && t.end <= file.size() - p.header.data_begin;
      sound = sound && qlib::byte_size(t.dtype, t.shape) == t.end - t.begin;
      end = t.end;
    }
    CHECK(sound);
    CHECK(p.header.data_begin + end == file.size());
  }
  CHECK(accepted > 100);  // damage to data and names only: otherwise nothing above was tested
}
