#pragma once
#include <qlib/tokenizer/unicode_text.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

namespace qlib::inline v0 {
namespace text {

/// Reads the large parts of tokenizer.json (500 thousand strings) from left to right without a tree. The first fault ends it: all
/// calls after that return nothing and move nothing.
class json_cursor {
 public:
  static constexpr std::size_t deepest = 100;

  explicit json_cursor(std::string_view s) : s_{s} {}

  bool failed() const { return !problem_.empty(); }
  /// What is wrong and at which byte; empty when nothing is.
  const std::string& problem() const { return problem_; }
  std::size_t at() const { return at_; }

  /// The next byte that is no white space, or 0 at the end and after a fault.
  char peek() {
    if (failed()) return 0;
    while (at_ < s_.size() && (s_[at_] == ' ' || s_[at_] == '\n' || s_[at_] == '\t' || s_[at_] == '\r')) ++at_;
    return at_ < s_.size() ? s_[at_] : '\0';
  }

  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }

  void expect(char c) {
    if (!take(c)) fail(std::string{"'"} + c + "' expected");
  }

  /// A string; valid until the next call.
  std::string_view string() {
    expect('"');
    if (failed()) return {};
    const std::size_t begin = at_;
    while (at_ < s_.size() && s_[at_] != '"' && s_[at_] != '\\') ++at_;
    if (at_ < s_.size() && s_[at_] == '"') return s_.substr(begin, at_++ - begin);
    decoded_.assign(s_, begin, at_ - begin);
    while (!failed()) {
      if (at_ >= s_.size()) fail("a string without its end");
      else if (s_[at_] == '"') return ++at_, std::string_view{decoded_};
      else if (s_[at_] == '\\') escape();
      else decoded_ += s_[at_++];
    }
    return {};
  }

  std::int64_t integer() {
    peek();
    std::int64_t value = 0;
    const auto end = std::from_chars(s_.data() + at_, s_.data() + s_.size(), value);
    if (end.ec != std::errc{}) return fail("an integer expected"), 0;
    at_ = static_cast<std::size_t>(end.ptr - s_.data());
    return value;
  }

  double number() {
    peek();
    double value = 0;
    const auto end = std::from_chars(s_.data() + at_, s_.data() + s_.size(), value);
    if (end.ec != std::errc{}) return fail("a number expected"), 0.0;
    at_ = static_cast<std::size_t>(end.ptr - s_.data());
    return value;
  }

  /// Passes over one value of any kind; only strings and the number of brackets are checked.
  void skip() {
    std::size_t depth = 0;
    do {
      const char c = peek();
      if (c == '"') string();
      else if (c == '{' || c == '[') {
        if (++depth > deepest) return fail("brackets nested too deep");
        ++at_;
      } else if (c == '}' || c == ']') {
        if (depth == 0) return fail("a value expected");
        --depth, ++at_;
      } else if (c == 0) return fail("the text ends within a value");
      else if (c == ',' || c == ':') {
        if (depth == 0) return fail("a value expected");
        ++at_;
      } else {
        while (at_ < s_.size() && std::string_view{",:]}\" \n\t\r"}.find(s_[at_]) == std::string_view::npos) ++at_;
      }
    } while (depth != 0 && !failed());
  }

  /// Calls member(key) for every key of an object; it has to read the value. The key is valid until then.
  template <class Member>
  void object(Member&& member) {
    expect('{');
    if (failed() || take('}')) return;
    do {
      const std::string_view key = string();
      const std::string kept{key};
      expect(':');
      if (!failed()) member(std::string_view{kept});
    } while (!failed() && take(','));
    expect('}');
  }

  template <class Element>
  void array(Element&& element) {
    expect('[');
    if (failed() || take(']')) return;
    do element();
    while (!failed() && take(','));
    expect(']');
  }

  void fail(const std::string& problem) {
    if (!failed()) problem_ = problem + " at byte " + std::to_string(at_);
  }

 private:
  void escape() {
    const char c = at_ + 1 < s_.size() ? s_[at_ + 1] : '\0';
    at_ += 2;
    switch (c) {
      case '"':
      case '\\':
      case '/':
        decoded_ += c;
        return;
      case 'b':
        decoded_ += '\b';
        return;
      case 'f':
        decoded_ += '\f';
        return;
      case 'n':
        decoded_ += '\n';
        return;
      case 'r':
        decoded_ += '\r';
        return;
      case 't':
        decoded_ += '\t';
        return;
      case 'u':
        break;
      default:
        return fail("an unknown escape in a string");
    }
    char32_t code = hex4();
    if (code >= 0xd800 && code < 0xdc00 && s_.substr(at_).starts_with("\\u")) {
      at_ += 2;
      const char32_t low = hex4();
      if (low < 0xdc00 || low > 0xdfff) return fail("half a surrogate pair in a string");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    if (code >= 0xd800 && code < 0xe000) return fail("half a surrogate pair in a string");
    append_utf8(decoded_, code);
  }

  char32_t hex4() {
    std::uint32_t value = 0;
    const std::string_view digits = s_.substr(std::min(at_, s_.size()), 4);
    const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (digits.size() < 4 || end.ptr != digits.data() + 4) return fail("four hexadecimal digits expected"), U'\0';
    at_ += 4;
    return value;
  }

  std::string_view s_;
  std::size_t at_ = 0;
  std::string problem_, decoded_;
};

}  // namespace text
}  // namespace qlib::inline v0
