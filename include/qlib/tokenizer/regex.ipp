#pragma once
#include <qlib/tokenizer/regex.hpp>
#include <qlib/tokenizer/ruby_regex.hpp>
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

}  // namespace detail

QLIB_INLINE regex_scratch::regex_scratch() {
  data_ = {pcre2_match_data_create(1, nullptr), [](void* p) { pcre2_match_data_free(static_cast<pcre2_match_data*>(p)); }};
  stack_ = {pcre2_jit_stack_create(32 << 10, 16 << 20, nullptr), [](void* p) { pcre2_jit_stack_free(static_cast<pcre2_jit_stack*>(p)); }};
  context_ = {pcre2_match_context_create(nullptr), [](void* p) { pcre2_match_context_free(static_cast<pcre2_match_context*>(p)); }};
  pcre2_jit_stack_assign(static_cast<pcre2_match_context*>(context_.get()), nullptr, stack_.get());
}

QLIB_INLINE result<regex> regex::compile(std::string_view pattern, const std::string& where, const std::string& subject) {
  const auto fault = [&](const std::string& problem) {
    return error{error_kind::invalid_input, where, subject,
                 "regex `" +
                     (pattern.size() > 1000 ? std::string{pattern.substr(0, character_before(pattern, 1000))} + "..." : std::string{pattern}) +
                     "`: " + problem,
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
  if (from > subject.size() || !scratch.failure_.empty()) return false;
  const int answer = jit_ ? pcre2_jit_match(code, text, subject.size(), from, 0, data, context)
                          : pcre2_match(code, text, subject.size(), from, PCRE2_NO_UTF_CHECK, data, context);
  if (answer < 0) {
    if (answer != PCRE2_ERROR_NOMATCH) scratch.fail("a regular expression: " + detail::pcre2_message(answer));
    return false;
  }
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data);
  match = {ends[0], ends[1]};
  if (match.begin <= match.end) return true;
  scratch.fail("a regular expression: a match ends before it begins");
  return false;
}

}  // namespace text
}  // namespace qlib::inline v0
