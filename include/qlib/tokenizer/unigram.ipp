#pragma once
#include <qlib/tokenizer/unicode_text.hpp>
#include <qlib/tokenizer/unigram.hpp>

#include <algorithm>

namespace qlib::inline v0 {
namespace text {

QLIB_INLINE unigram::unigram(const vocabulary& words, std::vector<double> scores, token_id unk, bool byte_fallback)
    : scores_{std::move(scores)}, unk_{unk}, byte_fallback_{byte_fallback} {
  std::vector<std::pair<std::string, token_id>> all;
  all.reserve(words.size());
  for (token_id id = 0; static_cast<std::size_t>(id) < words.size(); ++id)
    if (words.contains(id)) all.emplace_back(words.token(id), words.find(words.token(id)));  // of equal tokens the last one counts
  trie_ = byte_trie{std::move(all)};
  double smallest = scores_.empty() ? 0.0 : scores_[0];
  for (const double s : scores_) smallest = std::min(smallest, s);
  unk_score_ = smallest - 10.0;
  for (unsigned b = 0; b < 256; ++b) {
    const char* hex = "0123456789ABCDEF";
    fallback_[b] = words.find(std::string{"<0x"} + hex[b >> 4] + hex[b & 15] + ">");
  }
}

QLIB_INLINE void unigram::encode(std::string_view piece, const vocabulary& words, scratch& work, std::vector<token_id>& out) const {
  auto& best = work.best;
  best.assign(piece.size() + 1, {0.0, -1, no_token});
  const auto offer = [&](std::size_t begin, std::size_t end, double score, token_id id) {
    auto& node = best[end];
    if (node.begin < 0 || score > node.score) node = {score, static_cast<std::ptrdiff_t>(begin), id};
  };
  for (std::size_t at = 0; at < piece.size();) {
    const double here = best[at].score;
    const std::size_t length = character_at(piece, at).length;
    bool single = false;
    trie_.prefixes(piece.substr(at), [&](std::size_t bytes, token_id id) {
      offer(at, at + bytes, scores_[static_cast<std::size_t>(id)] + here, id);
      single = single || bytes == length;
    });
    if (!single && unk_ == no_token) return out.push_back(missing_token);
    if (!single) offer(at, at + length, unk_score_ + here, no_token);
    at += length;
  }
  auto& path = work.path;
  path.clear();
  for (std::size_t end = piece.size(); end > 0;) {
    const auto node = best[end];
    // Unknown neighbours join: on the way back the later one is there already.
    const bool unknown = node.id == no_token || node.id == unk_;
    if (unknown && !path.empty() && path.back().second.id == no_token) path.back().second.begin = node.begin;
    else path.push_back({end, {node.score, node.begin, unknown ? no_token : node.id}});
    end = static_cast<std::size_t>(node.begin);
  }
  for (auto at = path.rbegin(); at != path.rend(); ++at) {
    if (at->second.id != no_token) {
      out.push_back(at->second.id);
      continue;
    }
    const auto begin = static_cast<std::size_t>(at->second.begin);
    const std::string_view unknown = piece.substr(begin, at->first - begin);
    if (const token_id whole = words.find(unknown); whole != no_token) {  // the unknown token, spelled out
      out.push_back(whole);
      continue;
    }
    const bool falls_back =
        byte_fallback_ && std::all_of(unknown.begin(), unknown.end(), [&](char b) { return fallback_[static_cast<unsigned char>(b)] != no_token; });
    if (falls_back)
      for (const char b : unknown) out.push_back(fallback_[static_cast<unsigned char>(b)]);
    else out.push_back(unk_);
  }
}

}  // namespace text
}  // namespace qlib::inline v0
