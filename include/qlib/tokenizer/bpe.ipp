#pragma once
#include <qlib/tokenizer/bpe.hpp>
#include <qlib/tokenizer/unicode_text.hpp>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

namespace qlib::inline v0 {
namespace text {

QLIB_INLINE bpe::bpe(bpe_options options) : options_{std::move(options)}, slots_(64) {
  of_byte_.fill(no_token);
  fallback_.fill(no_token);
}

QLIB_INLINE void bpe::finish(const vocabulary& words) {
  std::size_t slots = 64;
  while (slots < merges_.size() * 2) slots *= 2;
  slots_.assign(slots, {});
  for (std::size_t i = 0; i < merges_.size(); ++i) {
    constexpr std::size_t ahead = 16;  // the table is larger than a cache: its lines are asked for early
    if (i + ahead < merges_.size()) __builtin_prefetch(&slots_[first_slot_of(merges_[i + ahead].left, merges_[i + ahead].right)], 1);
    slots_[slot_of(merges_[i].left, merges_[i].right)] = merges_[i];
  }
  merges_ = {};
  for (unsigned b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(static_cast<unsigned char>(b));
    if (options_.bytes || b < 0x80) of_byte_[b] = words.find({&byte, 1});
    const char* hex = "0123456789ABCDEF";
    fallback_[b] = words.find(std::string{"<0x"} + hex[b >> 4] + hex[b & 15] + ">");
    has_fallback_ = has_fallback_ || fallback_[b] != no_token;
  }
  has_fallback_ = has_fallback_ && options_.byte_fallback;
}

QLIB_INLINE void bpe::add_symbols(std::string_view piece, const vocabulary& words, scratch& work) const {
  auto& symbols = work.symbols;
  symbols.clear();
  const bool affixes = !options_.continuing_prefix.empty() || !options_.word_suffix.empty();
  bool unknown = false;  // an unknown token waits for what follows
  const auto add = [&](token_id id) { symbols.push_back({id, 0, 0, no_rank, no_token}); };
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t length = options_.bytes ? 1 : character_at(piece, at).length;
    std::string_view one = piece.substr(at, length);
    if (affixes) {
      work.affixed = at == 0 ? "" : options_.continuing_prefix;
      work.affixed += one;
      if (at + length == piece.size()) work.affixed += options_.word_suffix;
      one = work.affixed;
    }
    const token_id id = one.size() == 1 ? of_byte_[static_cast<unsigned char>(one[0])] : words.find(one);
    at += length;
    if (id != no_token) {
      if (unknown) add(options_.unk);
      unknown = false;
      add(id);
      continue;
    }
    if (has_fallback_ && std::all_of(one.begin(), one.end(), [&](char b) { return fallback_[static_cast<unsigned char>(b)] != no_token; })) {
      for (const char b : one) add(fallback_[static_cast<unsigned char>(b)]);
      continue;  // a waiting unknown token stays behind these bytes: the reference does so
    }
    if (options_.unk == no_token) continue;
    if (unknown && !options_.fuse_unk) add(options_.unk);
    unknown = true;
  }
  if (unknown) add(options_.unk);
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    symbols[i].previous = static_cast<std::int32_t>(i) - 1;
    symbols[i].next = i + 1 < symbols.size() ? static_cast<std::int32_t>(i) + 1 : -1;
  }
}

QLIB_INLINE void bpe::rank_with_next(std::vector<scratch::symbol>& symbols, std::size_t at) const {
  auto& s = symbols[at];
  s.rank = no_rank;
  if (s.next < 0) return;
  const slot& found = slots_[slot_of(s.id, symbols[static_cast<std::size_t>(s.next)].id)];
  if (found.left == no_token) return;
  s.rank = found.rank;
  s.merged = found.merged;
}

/// Few symbols: looking at all of them costs less than a heap.
QLIB_INLINE void bpe::merge_by_scan(scratch& work) const {
  auto& symbols = work.symbols;
  for (;;) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < symbols.size(); ++i)
      if (symbols[i].rank < symbols[best].rank) best = i;
    if (symbols[best].rank == no_rank) return;
    symbols[best].id = symbols[best].merged;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    for (std::size_t i : {best, best - 1}) {
      if (i >= symbols.size()) continue;  // best - 1 of the first symbol wraps
      symbols[i].next = i + 1 < symbols.size() ? static_cast<std::int32_t>(i) + 1 : -1;
      rank_with_next(symbols, i);
    }
  }
}

QLIB_INLINE void bpe::merge_by_heap(scratch& work) const {
  auto& symbols = work.symbols;
  auto& heap = work.heap;
  heap.clear();
  const auto key = [&](std::size_t at) { return static_cast<std::uint64_t>(symbols[at].rank) << 32 | at; };
  for (std::size_t i = 0; i < symbols.size(); ++i)
    if (symbols[i].rank != no_rank) heap.push_back(key(i));
  const auto later = std::greater<std::uint64_t>{};
  std::make_heap(heap.begin(), heap.end(), later);
  const auto renew = [&](std::size_t at) {
    rank_with_next(symbols, at);
    if (symbols[at].rank == no_rank) return;
    heap.push_back(key(at));
    std::push_heap(heap.begin(), heap.end(), later);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const std::uint64_t top = heap.back();
    heap.pop_back();
    const std::size_t at = static_cast<std::uint32_t>(top);
    auto& s = symbols[at];
    if (s.id == no_token || s.rank != static_cast<std::uint32_t>(top >> 32)) continue;  // merged or renewed meanwhile
    auto& gone = symbols[static_cast<std::size_t>(s.next)];
    s.id = s.merged;
    s.next = gone.next;
    gone.id = no_token;
    if (s.next >= 0) symbols[static_cast<std::size_t>(s.next)].previous = static_cast<std::int32_t>(at);
    renew(at);
    if (s.previous >= 0) renew(static_cast<std::size_t>(s.previous));
  }
  std::erase_if(symbols, [](const auto& s) { return s.id == no_token; });
}

QLIB_INLINE void bpe::encode(std::string_view piece, const vocabulary& words, scratch& work, std::vector<token_id>& out) const {
  if (options_.ignore_merges) {
    if (const token_id whole = words.find(piece); whole != no_token) return out.push_back(whole);
  }
  add_symbols(piece, words, work);
  if (work.symbols.empty()) return;
  for (std::size_t i = 0; i < work.symbols.size(); ++i) rank_with_next(work.symbols, i);
  if (work.symbols.size() <= 24) merge_by_scan(work);
  else merge_by_heap(work);
  for (const auto& s : work.symbols) out.push_back(s.id);
}

}  // namespace text
}  // namespace qlib::inline v0
