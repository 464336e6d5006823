#include <qlib/io/json_text.hpp>
#include <qlib/io/utf8.hpp>

#include <doctest/doctest.h>

#include <string>
#include <string_view>

TEST_CASE("JSON is checked with the place of the first error") {
  for (const char* text : {"{}", " [1, 2.5e3, \"\\u00e9\", null] ", "\"x\"", "{\"a\":{\"b\":1},\"c\":{\"b\":2}}"}) {
    const qlib::json_findings found = qlib::check_json(text, "f.json");
    CHECK_FALSE(found.syntax);
    CHECK(found.duplicate_keys.empty());
  }
  for (const char* text : {"", "{", "[1,]", "{} {}", "nul", "\"\xff\"", "\xef\xbb\xbf{}"}) CHECK(qlib::check_json(text, "f.json").syntax);
  const qlib::json_findings found = qlib::check_json("{\n  \"a\": x\n}", "f.json");
  REQUIRE(found.syntax);
  CHECK(found.syntax->where == "f.json");
  CHECK(found.syntax->problem.find("line 2") != std::string::npos);
  CHECK(qlib::check_json(std::string("{}\0x", 4), "f.json").syntax);
}

TEST_CASE("a syntax error quotes no more than a line of the text") {
  std::string text = "[\"";
  for (int i = 0; i < 1000; ++i) text += "\xe9\x87\x8d";
  const qlib::json_findings found = qlib::check_json(text, "f.json");
  REQUIRE(found.syntax);
  CHECK(found.syntax->problem.size() < 300);
  CHECK_FALSE(qlib::first_invalid_utf8(found.syntax->problem));
}

TEST_CASE("repeated keys are found at any depth, equal keys of different objects are not") {
  const qlib::json_findings found = qlib::check_json(R"([{"a":1,"b":{"c":1,"a":2,"c":3}},{"a":1,"\u0061":2}])", "f.json");
  CHECK_FALSE(found.syntax);
  REQUIRE(found.duplicate_keys.size() == 2);
  CHECK(found.duplicate_keys[0].subject == "c");
  CHECK(found.duplicate_keys[1].subject == "a");
}

TEST_CASE("Python's constants become strings for a parser of JSON, where they are values") {
  CHECK(qlib::detail::quote_constants(R"({"a": NaN,"b":[Infinity,-Infinity ]})") ==
        R"({"a": "\u0000NaN","b":["\u0000Infinity","\u0000-Infinity" ]})");
  for (const char* text :
       {R"({"NaN": "Infinity, NaN"})", R"({NaN: 1})", R"({"a": NaNs})", R"({"a": "\\\" NaN, "})", R"({"a": NaN, "b": "\u0000NaN"})", "{}"})
    CHECK(qlib::detail::quote_constants(text) == text);
}

TEST_CASE("strings are written with escapes only where JSON asks for them") {
  std::string out = "x";
  qlib::append_json_string(out, std::string_view("a\"b\\c/\b\f\n\r\t\x01\x1f\x7f\xc3\xa9\0z", 18));
  CHECK(out == "x\"a\\\"b\\\\c/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\xc3\xa9\\u0000z\"");
}

TEST_CASE("the first character that is not UTF-8 is found") {
  static_assert(!qlib::first_invalid_utf8("abc"));
  static_assert(qlib::first_invalid_utf8("ab\xff") == 2);
  for (const char* good :
       {"", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"})
    CHECK_FALSE(qlib::first_invalid_utf8(good));
  for (const char* bad : {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2x", "\xe0\x9f\xbf", "\xe1\x80", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                          "\xf1\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xfe"})
    CHECK(qlib::first_invalid_utf8("ok " + std::string{bad}) == 3);
}
