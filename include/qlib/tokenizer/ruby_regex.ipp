#pragma once
#include <qlib/tokenizer/ruby_classes.hpp>
#include <qlib/tokenizer/ruby_regex.hpp>
#include <qlib/tokenizer/unicode_text.hpp>

#include <utility>
#include <vector>

namespace qlib::inline v0 {
namespace text {

namespace detail {

inline constexpr std::string_view any_character = "(?s:.)";

/// Translates one pattern from left to right.
class ruby_translation {
 public:
  explicit ruby_translation(std::string_view in) : in_{in} {}

  result<std::string> run() {
    while (at_ < in_.size() && problem_.empty()) step();
    if (!problem_.empty()) return error{error_kind::invalid_input, {}, {}, problem_ + " at offset " + std::to_string(at_), {}};
    out_.append(options_at_top_, ')');
    return std::move(out_);
  }

 private:
  struct group {
    std::size_t begin;          ///< in out_
    std::size_t options = 0;    ///< groups to close that options in the middle have opened
    bool ignored_case = false;  ///< before it
  };

  bool sees(std::string_view what) const { return in_.substr(at_).starts_with(what); }
  void fail(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
  }
  void take(std::size_t n) {
    out_ += in_.substr(at_, n);
    at_ += n;
  }
  void put(std::string_view s, std::size_t taken) {
    out_ += s;
    at_ += taken;
  }

  /// Where case is ignored, Oniguruma also takes one character for several: sharp s for ss, ligatures for their letters.
  void check_case(std::string_view literal) {
    constexpr std::string_view pairs[] = {"ss", "ff", "fi", "fl", "st", "\xca\xbcn"};
    for (const char c : literal) literal_ += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    for (const std::string_view pair : pairs)
      if (literal_.ends_with(pair)) fail("the text " + std::string{pair} + " where case is ignored");
    const char32_t code = character_at(literal, 0).code;
    const bool several = code == 0xdf || code == 0x130 || code == 0x149 || code == 0x1f0 || code == 0x390 || code == 0x3b0 || code == 0x587 ||
                         (code >= 0x1e96 && code <= 0x1e9e) || (code >= 0x1f50 && code <= 0x1ffc) || (code >= 0xfb00 && code <= 0xfb17) ||
                         (code >= 0x300 && code <= 0x345);
    if (several) fail("the character " + std::string{literal} + " where case is ignored");
  }

  void step() {
    const char c = in_[at_];
    if (!ignores_case_ || c == '|' || c == '(' || c == ')' || c == '[' || c == '\\') literal_.clear();
    if (c == '(') {
      open();
    } else if (c == ')') {
      if (!open_.empty()) {
        out_.append(open_.back().options, ')');
        atom_ = open_.back().begin;
        ignores_case_ = open_.back().ignored_case;
        open_.pop_back();
      }
      take(1);
    } else if (c == '{') {
      quantifier();
    } else if (c == '*' || c == '+' || c == '?') {
      take(1);
      if (sees("?") || sees("+")) take(1);
      if (sees("*") || sees("+") || sees("?") || sees("{")) regroup();
    } else if (c == '|') {
      take(1);
    } else if (extended_ && (c == '#' || is_white_space(static_cast<unsigned char>(c)))) {
      const std::size_t end = c == '#' ? in_.find('\n', at_) : at_ + 1;
      at_ = end == in_.npos ? in_.size() : end;
    } else {
      atom_ = out_.size();
      if (c == '\\') escape();
      else if (c == '[') out_ += char_class();
      else {
        const std::size_t length = character_at(in_, at_).length;
        if (ignores_case_) check_case(in_.substr(at_, length));
        take(length);
      }
    }
  }

  /// What a quantifier follows becomes one thing, for another quantifier.
  void regroup() {
    out_.insert(atom_, "(?:");
    out_ += ')';
  }

  void open() {
    if (!sees("(?")) {
      open_.push_back({out_.size(), 0, ignores_case_});
      return sees("(*") ? fail("a verb") : take(1);
    }
    if (sees("(?#")) {
      const std::size_t end = in_.find(')', at_);
      if (end == in_.npos) return fail("a comment without its end");
      at_ = end + 1;
      return;
    }
    for (const std::string_view plain : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (!sees(plain)) continue;
      open_.push_back({out_.size(), 0, ignores_case_});
      return take(plain.size());
    }
    if (sees("(?<") && at_ + 3 < in_.size() && is_word(character_at(in_, at_ + 3).code)) {
      open_.push_back({out_.size(), 0, ignores_case_});
      const std::size_t end = in_.find('>', at_);
      if (end == in_.npos) return fail("a name without its end");
      return take(end + 1 - at_);
    }
    options();
  }

  /// `(?i)`, which holds to the end of the group and makes a group of what follows, and `(?i:`.
  void options() {
    std::size_t end = at_ + 2;
    std::string letters;
    bool off = false, ignores = ignores_case_;
    for (; end < in_.size() && in_[end] != ')' && in_[end] != ':'; ++end) {
      const char c = in_[end];
      if (c == '-') off = true;
      else if (c == 'x') extended_ = !off;
      else if (c == 'i') ignores = !off;
      else if (c != 'm') return fail("the group " + std::string{in_.substr(at_, end + 1 - at_)});
      if (c != 'x') letters += c == 'm' ? 's' : c;
    }
    if (end >= in_.size()) return fail("a group without its end");
    if (extended_ && !open_.empty()) return fail("the option x within a group");
    if (letters == "-") letters.clear();
    if (in_[end] == ':') open_.push_back({out_.size(), 0, ignores_case_});
    else ++(open_.empty() ? options_at_top_ : open_.back().options);
    if (extended_ && in_[end] == ':') return fail("the option x within a group");
    ignores_case_ = ignores;
    put("(?" + letters + ":", end + 1 - at_);
  }

  /// In Ruby `{1,3}+` is a repetition of a repetition, `{3}?` an option; PCRE2 would take them for possessive and lazy ones.
  void quantifier() {
    const std::size_t end = in_.find('}', at_);
    const std::string_view inside = end == in_.npos ? std::string_view{} : in_.substr(at_ + 1, end - at_ - 1);
    const std::size_t comma = inside.find(',');
    const bool counts = !inside.empty() && inside != "," && inside.find_first_not_of("0123456789,") == inside.npos &&
                        (comma == inside.npos || inside.find(',', comma + 1) == inside.npos);
    if (!counts) {
      atom_ = out_.size();
      return put("\\{", 1);
    }
    out_ += comma == 0 ? "{0" + std::string{inside} + "}" : "{" + std::string{inside} + "}";
    at_ = end + 1;
    if (comma != inside.npos && sees("?")) take(1);
    if (sees("*") || sees("+") || sees("?") || sees("{")) regroup();
  }

  /// \u0041 and \x41, whose value is in `code`; false when it is something else.
  bool number(char32_t& code) {
    const bool four = sees("\\u"), braces = sees("\\x{");
    if (!four && !sees("\\x")) return false;
    std::size_t at = at_ + (braces ? 3 : 2), digits = 0;
    code = 0;
    for (const std::size_t most = four ? 4 : braces ? 8 : 2; digits < most && at < in_.size(); ++digits, ++at) {
      const char c = in_[at];
      if (c >= '0' && c <= '9') code = code * 16 + static_cast<char32_t>(c - '0');
      else if (c >= 'a' && c <= 'f') code = code * 16 + static_cast<char32_t>(c - 'a' + 10);
      else if (c >= 'A' && c <= 'F') code = code * 16 + static_cast<char32_t>(c - 'A' + 10);
      else break;
    }
    if (braces && (at >= in_.size() || in_[at] != '}')) return fail("a number without its brace"), false;
    if (digits == 0 || (four && digits != 4) || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return fail("a number of a character"), false;
    if (!four && !braces && code >= 0x80) return fail("a byte of a character"), false;
    at_ = at + (braces ? 1 : 0);
    return true;
  }
  static std::string written(char32_t code) {
    std::string hex;
    do hex.insert(hex.begin(), "0123456789abcdef"[code & 15]);
    while ((code >>= 4) != 0);
    return "\\x{" + hex + "}";
  }

  /// The members of \s, \p{..} and such, which it passes over; empty when `at_` is at something else. A '^' comes first when the members are
  /// those that do not belong.
  std::string members() {
    if (at_ + 1 >= in_.size()) return fail("a backslash that ends the pattern"), "";
    const char c = in_[at_ + 1];
    std::string_view known;
    if (c == 's' || c == 'S') known = R"(\p{White_Space})";
    else if (c == 'w' || c == 'W') known = ruby_word_class;
    else if (c == 'h' || c == 'H') known = "0-9a-fA-F";
    else if (c == 'd' || c == 'D') known = R"(\p{Nd})";
    if (!known.empty()) {
      at_ += 2;
      return (c < 'a' ? "^" : "") + std::string{known};
    }
    if (!sees("\\p{") && !sees("\\P{")) return {};
    const std::size_t end = in_.find('}', at_);
    if (end == in_.npos) return fail("a property without its closing brace"), "";
    std::string_view name = in_.substr(at_ + 3, end - at_ - 3);
    bool outside = c == 'P';
    if (name.starts_with('^')) outside = !outside, name.remove_prefix(1);
    std::string plain;
    for (const char letter : name)
      if (letter >= 'A' && letter <= 'Z') plain += static_cast<char>(letter + 32);
      else if (letter != ' ' && letter != '_' && letter != '-') plain += letter;
    std::string found{ruby_class(plain, false)};
    if (found.empty()) found = (shared_property(plain) ? "\\p{" : "\\p{sc:") + plain + "}";
    if (plain.starts_with("in") && !shared_property(plain) && plain != "inherited" && !plain.starts_with("inscription"))
      return fail("the block " + std::string{name}), "";
    at_ = end + 1;
    if (!outside) return found;
    return found[0] == '^' ? found.substr(1) : "^" + found;
  }

  /// Outside brackets.
  void escape() {
    if (std::string inside = members(); !inside.empty()) {
      if (inside.ends_with(ruby_word_class)) inside += latin_numbers;
      out_ += inside.size() > 4 && inside.starts_with("\\p{") && inside.find('}') == inside.size() - 1 ? inside : "[" + inside + "]";
      return;
    }
    if (!problem_.empty()) return;
    char32_t code = 0;
    if (number(code)) return void(out_ += written(code));
    if (!problem_.empty()) return;
    const char c = in_[at_ + 1];
    const std::string word = std::string{ruby_word_class} + std::string{latin_numbers};
    if (c == 'b') return put("(?:(?<=[" + word + "])(?![" + word + "])|(?<![" + word + "])(?=[" + word + "]))", 2);
    if (c == 'B') return put("(?:(?<=[" + word + "])(?=[" + word + "])|(?<![" + word + "])(?![" + word + "]))", 2);
    if (c == 'v') return put("\\x0b", 2);
    if (c == 'N') return put("[^\\n]", 2);
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter && std::string_view{"aefnrtAzZGRXKkg"}.find(c) == std::string_view::npos) return fail(std::string{"\\"} + c);
    out_ += '\\';
    ++at_;
    if (c == 'k' || c == 'g') {
      const std::size_t end = in_.find('>', at_);
      if (end == in_.npos) return fail("a name without its end");
      return take(end + 1 - at_);
    }
    if (c == '0' || !(c >= '1' && c <= '9')) return take(character_at(in_, at_).length);
    while (at_ < in_.size() && in_[at_] >= '0' && in_[at_] <= '9') take(1);
  }

  /// One operand of `&&`: plain members of a PCRE2 class, and classes that have no such form.
  struct operand {
    std::string items;
    std::vector<std::string> others;
    bool empty() const { return items.empty() && others.empty(); }
    /// An expression that matches one character.
    std::string text() const {
      if (others.empty()) return "[" + items + "]";
      std::string all = items.empty() ? "" : "[" + items + "]|";
      for (const std::string& one : others) all += one + "|";
      all.pop_back();
      return "(?:" + all + ")";
    }
  };

  void add_members(operand& to, const std::string& inside) {
    if (inside[0] == '^') to.others.push_back("[" + inside + "]");
    else to.items += inside;
  }

  /// A character in brackets, as PCRE2 writes it.
  std::string class_character() {
    char32_t code = 0;
    if (in_[at_] == '\\') {
      if (number(code)) return written(code);
      if (at_ + 1 >= in_.size()) return fail("a backslash that ends the pattern"), "";
      const char c = in_[at_ + 1];
      constexpr std::pair<char, char32_t> known[] = {{'n', 10}, {'t', 9}, {'r', 13}, {'f', 12}, {'v', 11}, {'a', 7}, {'e', 27}, {'b', 8}};
      for (const auto& [letter, value] : known)
        if (letter == c) return at_ += 2, written(value);
      const bool other = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
      if (other && !(c == '0')) return fail(std::string{"\\"} + c + " in brackets"), "";
      if (c == '0') return at_ += 2, written(0);
      ++at_;
    }
    const character one = character_at(in_, at_);
    at_ += one.length;
    return written(one.code);
  }

  /// The class that begins at `at_`, as an expression for one character. `into`: the class around it, which takes in what it can.
  std::string char_class(operand* into = nullptr) {
    if (++depth_ > 50) return fail("classes nested too deep"), "";
    ++at_;
    const bool negated = at_ < in_.size() && in_[at_] == '^';
    if (negated) ++at_;
    std::vector<operand> operands(1);
    for (bool first = true; at_ < in_.size() && problem_.empty(); first = false) {
      operand& now = operands.back();
      if (in_[at_] == ']' && !first) {
        ++at_;
        --depth_;
        return finished(operands, negated, into);
      }
      if (sees("&&")) {
        operands.emplace_back();
        at_ += 2;
      } else if (sees("[:")) {
        posix_class(now);
      } else if (in_[at_] == '[') {
        const std::string inner = char_class(&now);
        if (!inner.empty()) now.others.push_back(inner);
      } else if (const std::string inside = in_[at_] == '\\' ? members() : ""; !inside.empty()) {
        add_members(now, inside);
      } else if (problem_.empty()) {
        const std::string low = class_character();
        if (!problem_.empty()) break;
        const bool ranges =
            in_.substr(at_, 1) == "-" && at_ + 1 < in_.size() && in_[at_ + 1] != ']' && in_[at_ + 1] != '[' && in_.substr(at_, 3) != "-&&";
        if (!ranges) {
          now.items += low;
          continue;
        }
        const std::size_t hyphen = at_++;
        if (in_[at_] == '\\' && !members().empty()) {  // [a-\d]: the hyphen is one
          at_ = hyphen;
          now.items += low;
          continue;
        }
        now.items += low + "-" + class_character();
      }
    }
    fail("a class without its closing bracket");
    return {};
  }

  void posix_class(operand& to) {
    const std::size_t end = in_.find(":]", at_ + 2);
    if (end == in_.npos) return fail("a POSIX class without its end");
    std::string_view name = in_.substr(at_ + 2, end - at_ - 2);
    const bool outside = name.starts_with('^');
    if (outside) name.remove_prefix(1);
    const std::string inside{ruby_class(name, true)};
    if (inside.empty()) return fail("the POSIX class " + std::string{name});
    add_members(to, !outside ? inside : inside[0] == '^' ? inside.substr(1) : "^" + inside);
    at_ = end + 2;
  }

  std::string finished(std::vector<operand>& operands, bool negated, operand* into) {
    std::erase_if(operands, [](const operand& o) { return o.empty(); });
    if (operands.empty()) return fail("an empty class"), "";
    operand& only = operands[0];
    if (operands.size() == 1 && !negated && into) {
      into->items += only.items;
      into->others.insert(into->others.end(), only.others.begin(), only.others.end());
      return {};
    }
    if (operands.size() == 1 && !negated) return only.text();
    if (operands.size() == 1 && only.others.empty()) return "[^" + only.items + "]";
    if (operands.size() == 1) return "(?:(?!" + only.text() + ")" + std::string{any_character} + ")";
    std::string all;
    for (std::size_t i = 1; i < operands.size(); ++i) all += "(?=" + operands[i].text() + ")";
    all += only.text();
    return negated ? "(?:(?!" + all + ")" + std::string{any_character} + ")" : "(?:" + all + ")";
  }

  std::string_view in_;
  std::size_t at_ = 0, atom_ = 0;  // atom_: where the last thing that a quantifier can follow begins in out_
  std::string out_, problem_;
  std::vector<group> open_;
  std::size_t options_at_top_ = 0, depth_ = 0;
  bool extended_ = false, ignores_case_ = false;
  std::string literal_;  ///< the literal text before at_, in small letters, where case is ignored
};

}  // namespace detail

QLIB_INLINE result<std::string> pcre2_pattern(std::string_view ruby) { return detail::ruby_translation{ruby}.run(); }

}  // namespace text
}  // namespace qlib::inline v0
