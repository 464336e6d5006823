#include <doctest/doctest.h>
#include <qlib/recipe/match.hpp>

#include <random>
#include <string>
#include <vector>

using namespace qlib;

namespace {

pattern_set compiled(std::vector<std::string> patterns, pattern_syntax syntax) {
  auto set = pattern_set::compile(patterns, syntax, "test");
  REQUIRE_MESSAGE(set, (set ? "" : set.error().text()));
  return *std::move(set);
}
bool glob(const std::string& pattern, std::string_view name) { return compiled({pattern}, pattern_syntax::glob).matches(name, ""); }
bool tensors(const std::string& pattern, std::string_view name, std::string_view type = "Linear") {
  return compiled({pattern}, pattern_syntax::compressed_tensors).matches(name, type);
}

/// `*`, `?` and brackets, character by character: the definition that the translation is compared with.
bool brute(std::string_view p, std::string_view s) {
  if (p.empty()) return s.empty();
  if (p[0] == '*') return brute(p.substr(1), s) || (!s.empty() && brute(p, s.substr(1)));
  if (p[0] == '[') {
    const bool negated = p.size() > 1 && (p[1] == '!' || p[1] == '^');
    const std::size_t first = negated ? 2 : 1, close = p.find(']', first + 1);
    if (close != p.npos) {
      if (s.empty()) return false;
      bool in = false;
      for (std::size_t i = first; i < close; ++i) {
        if (i + 2 < close && p[i + 1] == '-') {
          in = in || (p[i] <= s[0] && s[0] <= p[i + 2]);
          i += 2;
        } else {
          in = in || p[i] == s[0];
        }
      }
      return in != negated && brute(p.substr(close + 1), s.substr(1));
    }
  }
  return !s.empty() && (p[0] == '?' || p[0] == s[0]) && brute(p.substr(1), s.substr(1));
}

std::vector<std::string> braces(std::string_view glob) {
  auto all = detail::expand_braces(glob, "test");
  REQUIRE(all);
  return *all;
}
using list = std::vector<std::string>;

}  // namespace

TEST_CASE("a compressed-tensors pattern without re: equals the whole module name or the class name") {
  CHECK(tensors("lm_head", "lm_head"));
  CHECK_FALSE(tensors("lm_head", "model.lm_head"));
  CHECK(tensors("Linear", "model.layers.0.mlp.up_proj", "Linear"));
  CHECK(tensors("Linear", "model.layers.0.mlp.up_proj", "LinearBase"));
  CHECK_FALSE(tensors("LinearBase", "model.layers.0.mlp.up_proj", "Linear"));
  CHECK_FALSE(tensors("Linear", "model.embed_tokens", "Embedding"));
  CHECK_FALSE(tensors("model.*", "model.embed_tokens"));
}

TEST_CASE("a regex is anchored at the start only, like Python's re.match") {
  CHECK(tensors("re:.*q_proj", "model.layers.0.self_attn.q_proj"));
  CHECK(tensors("re:model", "model.layers.0"));
  CHECK_FALSE(tensors("re:layers", "model.layers.0"));
  CHECK(tensors("re:.*mlp.gate", "model.layers.0.mlp.gate_proj"));
  CHECK_FALSE(tensors("re:.*mlp.gate$", "model.layers.0.mlp.gate_proj"));
  CHECK(tensors(R"(re:.*layers\.\d+\.mlp\.experts\.\d+\.(gate|up|down)_proj$)", "model.layers.12.mlp.experts.7.up_proj"));
  CHECK(tensors("re:(?P<head>lm_)head", "lm_head"));
  CHECK(tensors(R"(re:\w+$)", "größe"));
  CHECK_FALSE(tensors("re:Linear", "lm_head", "Linear"));
}

TEST_CASE("a bad regex names the pattern, the offset and the reason") {
  const list patterns{"lm_head", "re:.*(q_proj"};
  const auto set = pattern_set::compile(patterns, pattern_syntax::compressed_tensors, "recipe.yaml:3");
  REQUIRE_FALSE(set);
  CHECK(set.error().text() == "recipe.yaml:3: re:.*(q_proj: bad regex at offset 9: missing closing parenthesis");
}

TEST_CASE("an empty pattern is an error") {
  CHECK_FALSE(pattern_set::compile(list{""}, pattern_syntax::glob, "x"));
  CHECK_FALSE(pattern_set::compile(list{""}, pattern_syntax::compressed_tensors, "x"));
}

TEST_CASE("a regex that backtracks beyond the limit is reported by find and is no match") {
  const auto set = compiled({"re:(a+)+$"}, pattern_syntax::compressed_tensors);
  const std::string name = std::string(40, 'a') + "b";
  const auto found = set.find(name, "");
  REQUIRE_FALSE(found);
  CHECK(found.error().text().find("match limit") != std::string::npos);
  CHECK_FALSE(set.matches(name, ""));
}

TEST_CASE("exact names win over regexes, regexes over class names, then the alphabet decides") {
  const auto set = compiled({"Linear", "re:model.*up", "re:model.*", "model.up", "re:a"}, pattern_syntax::compressed_tensors);
  const auto best = [&](std::string_view name, std::string_view type) { return **set.find(name, type); };
  CHECK(best("model.up", "Linear") == pattern_match{match_kind::exact, "model.up", 3});
  CHECK(best("model.upper", "Linear") == pattern_match{match_kind::regex, "re:model.*", 2});
  CHECK(best("lm_head", "Linear") == pattern_match{match_kind::class_name, "Linear", 0});
  CHECK_FALSE(set.find("lm_head", "Embedding")->has_value());
  CHECK(best("model.up", "Linear") < best("model.upper", "Linear"));
  CHECK(best("model.upper", "Linear") < best("lm_head", "Linear"));
  CHECK(pattern_match{match_kind::regex, "re:a", 9} < pattern_match{match_kind::regex, "re:b", 0});
  CHECK(set.matching("model.up", "Linear") == std::vector<std::size_t>{0, 1, 2, 3});
  CHECK(set.matching("zzz", "X").empty());
  CHECK(set.size() == 5);
}

TEST_CASE("an empty set matches nothing, and a set can be copied") {
  CHECK(pattern_set{}.empty());
  CHECK_FALSE(pattern_set{}.matches("lm_head", "Linear"));
  pattern_set copy;
  {
    const auto original = compiled({"re:.*proj", "lm_head"}, pattern_syntax::compressed_tensors);
    copy = original;
  }
  CHECK(copy.matches("q_proj", ""));
  CHECK(copy.matches("lm_head", ""));
}

TEST_CASE("a glob matches whole names, and its star crosses dots") {
  CHECK(glob("*", "model.layers.0.self_attn.q_proj"));
  CHECK(glob("*self_attn*", "model.layers.0.self_attn.q_proj"));
  CHECK(glob("*mlp.gate", "model.layers.0.mlp.gate"));
  CHECK_FALSE(glob("*mlp.gate", "model.layers.0.mlp.gate_proj"));
  CHECK_FALSE(glob("layers", "model.layers"));
  CHECK(glob("model.layers.?.mlp", "model.layers.7.mlp"));
  CHECK_FALSE(glob("model.layers.?.mlp", "model.layers.17.mlp"));
  CHECK(glob("layers.[0-3].x", "layers.2.x"));
  CHECK_FALSE(glob("layers.[!0-3].x", "layers.2.x"));
  CHECK(glob("layers.[^0-3].x", "layers.4.x"));
  CHECK_FALSE(glob("a.c", "abc"));
  CHECK_FALSE(glob("Model.*", "model.x"));
  CHECK_FALSE(glob("Linear", "model.x"));
  CHECK(glob("größe?", "größeß"));
  CHECK(glob(R"(a\*b)", "a*b"));
  CHECK_FALSE(glob(R"(a\*b)", "axb"));
}

TEST_CASE("a glob matches the name that is written like it") {
  CHECK(glob("a[0]", "a0"));
  CHECK(glob("a[0]", "a[0]"));
  CHECK((*compiled({"a[0]"}, pattern_syntax::glob).find("a[0]", ""))->kind == match_kind::exact);
  CHECK((*compiled({"a*"}, pattern_syntax::glob).find("ab", ""))->kind == match_kind::regex);
  CHECK_FALSE(compiled({"Linear"}, pattern_syntax::glob).matches("x", "Linear"));
  CHECK(compiled({"a*", "b"}, pattern_syntax::glob).size() == 2);
}

TEST_CASE("braces expand to lists, nested lists and ranges") {
  CHECK(braces("a") == list{"a"});
  CHECK(braces("{a,b}c") == list{"ac", "bc"});
  CHECK(braces("x{a,b{1,2}}y") == list{"xay", "xb1y", "xb2y"});
  CHECK(braces("{a,}b") == list{"ab", "b"});
  CHECK(braces("{1..3}") == list{"1", "2", "3"});
  CHECK(braces("{3..1}") == list{"3", "2", "1"});
  CHECK(braces("{08..10}") == list{"08", "09", "10"});
  CHECK(braces("{-1..1}") == list{"-1", "0", "1"});
  CHECK(braces("{0..6..3}") == list{"0", "3", "6"});
  CHECK(braces("{a..c}") == list{"a", "b", "c"});
  CHECK(braces("{a,b}{1..2}") == list{"a1", "a2", "b1", "b2"});
  CHECK(glob("*layers.{1,2,3}.mlp.down_proj", "model.layers.2.mlp.down_proj"));
  CHECK_FALSE(glob("*layers.{1,2,3}.mlp.down_proj", "model.layers.12.mlp.down_proj"));
  CHECK(glob("*.layers.{0..31}.mlp.{up,gate}_proj", "model.layers.31.mlp.gate_proj"));
  CHECK_FALSE(glob("*.layers.{0..31}.mlp.{up,gate}_proj", "model.layers.32.mlp.gate_proj"));
}

TEST_CASE("braces that are no list stay as they are") {
  CHECK(braces("{a}") == list{"{a}"});
  CHECK(braces("{}") == list{"{}"});
  CHECK(braces("{a,b") == list{"{a,b"});
  CHECK(braces("a}") == list{"a}"});
  CHECK(braces("{{a,b}}") == list{"{a}", "{b}"});
  CHECK(braces("{{a,b}") == list{"{a", "{b"});
  CHECK(braces(R"(\{a,b})") == list{R"(\{a,b})"});
  CHECK(braces("{1..x}") == list{"{1..x}"});
  CHECK(glob("{a}", "{a}"));
}

TEST_CASE("braces that stand for too much, and classes that are not supported, are errors") {
  CHECK_FALSE(detail::expand_braces("{0..1000}", "x"));
  CHECK_FALSE(detail::expand_braces("{0..999999999}", "x"));
  CHECK_FALSE(detail::expand_braces("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", "x"));
  CHECK_FALSE(detail::expand_braces(std::string(5000, '{'), "x"));
  CHECK(braces(std::string(4000, '{')).size() == 1);
  CHECK(detail::glob_to_regex("[[:digit:]]", "x.yaml:1").error().text() ==
        "x.yaml:1: [[:digit:]]: character classes like [[:digit:]] are not supported: write a range like [0-9]");
}

TEST_CASE("property: the translated glob matches what the definition matches") {
  std::mt19937 random{7};
  const std::string pattern_chars = "ab.*?[]!-^c", name_chars = "ab.c]-!";
  const auto draw = [&](const std::string& from, std::size_t longest) {
    std::string s(random() % (longest + 1), ' ');
    for (char& c : s) c = from[random() % from.size()];
    return s;
  };
  int matched = 0;
  for (int i = 0; i < 4000; ++i) {
    const std::string pattern = "a" + draw(pattern_chars, 7);
    const auto set = compiled({pattern}, pattern_syntax::glob);
    for (int k = 0; k < 10; ++k) {
      const std::string name = "a" + draw(name_chars, 5);
      const bool expected = brute(pattern, name) || pattern == name;
      CAPTURE(pattern);
      CAPTURE(name);
      CHECK(set.matches(name, "") == expected);
      matched += expected;
    }
  }
  CHECK(matched > 500);
}

TEST_CASE("property: no glob, however broken, crashes or fails to compile as a regex") {
  std::mt19937 random{11};
  const std::string chars = "ab{},.*?[]\\!^-1(|$+#&~\xC3\xA9";
  for (int i = 0; i < 4000; ++i) {
    std::string pattern(1 + random() % 12, ' ');
    for (char& c : pattern) c = chars[random() % (chars.size() - 2)];
    CAPTURE(pattern);
    CHECK(pattern_set::compile(list{pattern}, pattern_syntax::glob, "x"));
  }
}
