#pragma once
#include <qlib/tokenizer/regex.hpp>
#include <qlib/tokenizer/unicode_text.hpp>

#if !defined(PCRE2_CODE_UNIT_WIDTH)
#define PCRE2_CODE_UNIT_WIDTH 8
#endif
#include <pcre2.h>

#include <array>
#include <utility>
#include <vector>

namespace qlib::inline v0 {
namespace text {

namespace detail {

QLIB_INLINE std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> message{};
  pcre2_get_error_message(code, message.data(), message.size());
  return reinterpret_cast<const char*>(message.data());
}

/// Translates one pattern from left to right.
class ruby_translation {
 public:
  explicit ruby_translation(std::string_view in) : in_{in} {}

  result<std::string> run() {
    while (at_ < in_.size() && problem_.empty()) step();
    if (!problem_.empty()) return error{error_kind::invalid_input, {}, {}, problem_ + " at offset " + std::to_string(at_), {}};
    return std::move(out_);
  }

 private:
  bool sees(std::string_view what) const { return in_.substr(at_).starts_with(what); }

  void step() {
    const char c = in_[at_];
    if (c == '(') {
      if (sees("(?m")) problem_ = "the option (?m)";
      open_.push_back(out_.size());
      take(1);
      while (sees("?") || sees("<") || sees("=") || sees("!")) take(1);  // of (?=, (?<!, (?:; quantifiers cannot follow a bracket
    } else if (c == ')') {
      if (!open_.empty()) atom_ = open_.back(), open_.pop_back();
      take(1);
    } else if (c == '{') {
      quantifier();
    } else if (c == '*' || c == '+' || c == '?' || c == '|') {
      take(1);
    } else {
      atom_ = out_.size();
      if (c == '\\') escape(false);
      else if (c == '[') out_ += char_class();
      else take(character_at(in_, at_).length);
    }
  }

  /// In Ruby `{1,3}+` is a repetition of a repetition; PCRE2 would take it for a possessive one.
  void quantifier() {
    const std::size_t end = in_.find('}', at_);
    const bool counts = end != in_.npos && end > at_ + 1 && in_.substr(at_ + 1, end - at_ - 1).find_first_not_of("0123456789,") == in_.npos;
    if (!counts) {
      atom_ = out_.size();
      out_ += "\\{";
      ++at_;
      return;
    }
    take(end + 1 - at_);
    if (at_ < in_.size() && in_[at_] == '+') {
      out_.insert(atom_, "(?:");
      out_ += ')';
    }
  }

  void take(std::size_t n) {
    out_ += in_.substr(at_, n);
    at_ += n;
  }

  void escape(bool in_class) {
    if (at_ + 1 >= in_.size()) return void(problem_ = "a backslash that ends the pattern");
    const char c = in_[at_ + 1];
    std::string_view put;
    switch (c) {
      case 's':
        put = "\\p{White_Space}";
        break;
      case 'S':
        put = "\\P{White_Space}";
        break;
      case 'w':
        put = in_class ? "\\p{L}\\p{M}\\p{N}\\p{Pc}" : "[\\p{L}\\p{M}\\p{N}\\p{Pc}]";
        break;
      case 'h':
        put = in_class ? "0-9a-fA-F" : "[0-9a-fA-F]";
        break;
      case 'W':
        if (in_class) problem_ = "\\W in brackets";
        put = "[^\\p{L}\\p{M}\\p{N}\\p{Pc}]";
        break;
      case 'H':
        if (in_class) problem_ = "\\H in brackets";
        put = "[^0-9a-fA-F]";
        break;
      default:
        break;
    }
    if (!put.empty()) {
      out_ += put;
      at_ += 2;
    } else if ((c == 'p' || c == 'P') && at_ + 2 < in_.size() && in_[at_ + 2] == '{') {
      const std::size_t end = in_.find('}', at_);
      if (end == in_.npos) return void(problem_ = "a property without its closing brace");
      const std::string_view name = in_.substr(at_ + 3, end - at_ - 3);
      if (name == "Han" || name == "^Han") out_ += std::string{"\\"} + c + (name[0] == '^' ? "{^sc:Han}" : "{sc:Han}");
      else out_ += in_.substr(at_, end + 1 - at_);
      at_ = end + 1;
    } else {
      out_ += '\\';
      ++at_;
      take(character_at(in_, at_).length);
    }
  }

  /// The class that begins at `at_`. `[X&&[Y]]` becomes a look-ahead for Y before [X]; other classes in classes have no PCRE2 form.
  std::string char_class() {
    const std::string before = std::exchange(out_, {});
    take(1);
    if (at_ < in_.size() && in_[at_] == '^') take(1);
    bool first = true;
    std::string conditions;
    while (at_ < in_.size() && problem_.empty()) {
      const char c = in_[at_];
      if (c == ']' && !first) {
        take(1);
        std::string made = std::exchange(out_, before);
        return conditions.empty() ? made : "(?:" + conditions + made + ")";
      }
      first = false;
      if (c == '\\') {
        escape(true);
      } else if (sees("[:")) {
        const std::size_t end = in_.find(":]", at_ + 2);
        if (end == in_.npos) problem_ = "a POSIX class without its end";
        else take(end + 2 - at_);
      } else if (sees("&&[") && out_[1] != '^') {
        at_ += 2;
        conditions += "(?=" + char_class() + ")";
      } else if (c == '[' || sees("&&")) {
        problem_ = "a class within a class";
      } else {
        take(character_at(in_, at_).length);
      }
    }
    if (problem_.empty()) problem_ = "a class without its closing bracket";
    return {};
  }

  std::string_view in_;
  std::size_t at_ = 0, atom_ = 0;  // atom_: where the last thing that a quantifier can follow begins in out_
  std::string out_, problem_;
  std::vector<std::size_t> open_;
};

}  // namespace detail

QLIB_INLINE result<std::string> pcre2_pattern(std::string_view ruby) { return detail::ruby_translation{ruby}.run(); }

QLIB_INLINE regex_scratch::regex_scratch() {
  data_ = {pcre2_match_data_create(1, nullptr), [](void* p) { pcre2_match_data_free(static_cast<pcre2_match_data*>(p)); }};
  stack_ = {pcre2_jit_stack_create(32 << 10, 16 << 20, nullptr), [](void* p) { pcre2_jit_stack_free(static_cast<pcre2_jit_stack*>(p)); }};
  context_ = {pcre2_match_context_create(nullptr), [](void* p) { pcre2_match_context_free(static_cast<pcre2_match_context*>(p)); }};
  pcre2_jit_stack_assign(static_cast<pcre2_match_context*>(context_.get()), nullptr, stack_.get());
}

QLIB_INLINE result<regex> regex::compile(std::string_view pattern, const std::string& where, const std::string& subject) {
  const auto fault = [&](const std::string& problem) {
    return error{error_kind::invalid_input, where, subject, "regex `" + std::string{pattern} + "`: " + problem,
                 "tokenize with another program and pass the ids with --calib_ids"};
  };
  const auto translated = pcre2_pattern(pattern);
  if (!translated) return fault(translated.error().problem + " is not supported");
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE offset = 0;
  // MULTILINE: in Ruby `$` and `^` match at every line.
  pcre2_code* compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated->data()), translated->size(),
                                       PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &offset, context);
  pcre2_compile_context_free(context);
  if (!compiled) return fault(detail::pcre2_message(code));
  regex made;
  made.jit_ = pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE) == 0;
  made.code_ = {compiled, [](const void* p) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(p))); }};
  return made;
}

QLIB_INLINE bool regex::find(std::string_view subject, std::size_t from, regex_scratch& scratch, extent& match) const {
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  auto* data = static_cast<pcre2_match_data*>(scratch.data_.get());
  auto* context = static_cast<pcre2_match_context*>(scratch.context_.get());
  const auto* text = reinterpret_cast<PCRE2_SPTR>(subject.data());
  while (from < subject.size()) {
    const int answer = jit_ ? pcre2_jit_match(code, text, subject.size(), from, 0, data, context)
                            : pcre2_match(code, text, subject.size(), from, PCRE2_NO_UTF_CHECK, data, context);
    if (answer < 0) {
      if (answer != PCRE2_ERROR_NOMATCH && scratch.failure_.empty()) scratch.failure_ = detail::pcre2_message(answer);
      return false;
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data);
    match = {ends[0], ends[1]};
    if (match.end > match.begin) return true;
    if (match.begin >= subject.size()) return false;
    from = match.begin + character_at(subject, match.begin).length;
  }
  return false;
}

}  // namespace text
}  // namespace qlib::inline v0
