#pragma once
#include <qlib/io/utf8.hpp>
#include <qlib/tokenizer/byte_alphabet.hpp>
#include <qlib/tokenizer/token_decoder.hpp>

#include <algorithm>
#include <string_view>
#include <utility>

namespace qlib::inline v0 {
namespace text {

namespace detail {

/// 0..255 for a token like <0x0A>, else -1.
QLIB_INLINE int byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    int digit = 0;
    if (c >= '0' && c <= '9') digit = c - '0';
    else if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
    else if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
    else return -1;
    value = value * 16 + digit;
  }
  return value;
}

QLIB_INLINE void replace_all(std::string& s, std::string_view from, std::string_view to) {
  if (from.empty()) return;
  for (std::size_t at = s.find(from); at != s.npos; at = s.find(from, at + to.size())) s.replace(at, from.size(), to);
}

QLIB_INLINE void clean_up(std::string& t) {
  constexpr std::pair<const char*, const char*> rules[] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                                           {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                                           {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : rules) replace_all(t, from, to);
}

struct decoding {
  std::vector<std::string> tokens;
  regex_scratch& scratch;

  void operator()(const byte_level_decoding&) {
    std::string bytes, one;
    for (const std::string& t : tokens) bytes += from_byte_alphabet(t, one) ? one : t;
    tokens = {valid_utf8(bytes)};
  }
  void operator()(const byte_fallback_decoding&) {
    std::vector<std::string> out;
    std::string bytes;
    const auto flush = [&] {
      if (bytes.empty()) return;
      if (!first_invalid_utf8(bytes)) out.push_back(bytes);
      else out.insert(out.end(), bytes.size(), "\xef\xbf\xbd");
      bytes.clear();
    };
    for (std::string& t : tokens) {
      const int byte = byte_of_token(t);
      if (byte >= 0) {
        bytes += static_cast<char>(static_cast<unsigned char>(byte));
        continue;
      }
      flush();
      out.push_back(std::move(t));
    }
    flush();
    tokens = std::move(out);
  }
  void operator()(const fuse_decoding&) {
    std::string all;
    for (const std::string& t : tokens) all += t;
    tokens = {std::move(all)};
  }
  void operator()(const replace_step& step) {
    const std::vector<normalizer_step> steps{step};
    for (std::string& t : tokens) t = normalized(std::move(t), steps, scratch);
  }
  void operator()(const strip_decoding& step) {
    for (std::string& t : tokens) {
      std::string_view rest = t;
      for (std::size_t i = 0; i < step.start && !step.content.empty() && rest.starts_with(step.content); ++i) rest.remove_prefix(step.content.size());
      for (std::size_t i = 0; i < step.stop && !step.content.empty() && rest.ends_with(step.content); ++i) rest.remove_suffix(step.content.size());
      t = std::string{rest};
    }
  }
  void operator()(const metaspace_decoding& step) {
    for (std::size_t i = 0; i < tokens.size(); ++i) replace_all(tokens[i], step.replacement, i == 0 && step.prepended ? "" : " ");
  }
  void operator()(const word_piece_decoding& step) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      std::string& t = tokens[i];
      if (i != 0) {
        if (t.starts_with(step.prefix)) t.erase(0, step.prefix.size());
        else t.insert(0, " ");
      }
      if (step.cleanup) clean_up(t);
    }
  }
  void operator()(const bpe_decoding& step) {
    for (std::size_t i = 0; i < tokens.size(); ++i) replace_all(tokens[i], step.suffix, i + 1 < tokens.size() ? " " : "");
  }
  void operator()(const ctc_decoding& step) {
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    for (std::string& t : tokens) {
      replace_all(t, step.pad, "");
      if (!step.cleanup) continue;
      clean_up(t);
      replace_all(t, step.word_delimiter, " ");
    }
    std::erase(tokens, "");
  }
};

}  // namespace detail

QLIB_INLINE std::string decoded(std::vector<std::string> tokens, const std::vector<decoder_step>& steps, regex_scratch& scratch) {
  detail::decoding work{std::move(tokens), scratch};
  for (const decoder_step& step : steps) std::visit(work, step);
  std::string out;
  for (std::size_t i = 0; i < work.tokens.size(); ++i) {
    if (i != 0 && steps.empty()) out += ' ';
    out += work.tokens[i];
  }
  return out;
}

}  // namespace text
}  // namespace qlib::inline v0
