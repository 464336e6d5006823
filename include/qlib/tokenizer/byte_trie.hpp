#pragma once
#include <qlib/tokenizer/vocabulary.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlib::inline v0 {
namespace text {

/// Which of many strings begin at a place of a text. Immutable; children of a node are neighbours, in ascending order of bytes.
class byte_trie {
 public:
  byte_trie() = default;

  /// Of equal strings the first one counts; empty ones are left out.
  explicit byte_trie(std::vector<std::pair<std::string, token_id>> words) {
    std::erase_if(words, [](const auto& w) { return w.first.empty(); });
    if (words.empty()) return;
    std::stable_sort(words.begin(), words.end(), [](const auto& a, const auto& b) { return a.first < b.first; });  // as unsigned bytes
    struct range {
      std::size_t first, last, depth;
      std::uint32_t node;
    };
    nodes_.push_back({});
    std::vector<range> open{{0, words.size(), 0, 0}};
    for (std::size_t k = 0; k < open.size(); ++k) {
      auto [first, last, depth, node] = open[k];
      if (words[first].first.size() == depth) nodes_[node].id = words[first].second;
      while (first < last && words[first].first.size() == depth) ++first;
      nodes_[node].first_child = static_cast<std::uint32_t>(nodes_.size());
      while (first < last) {
        const char label = words[first].first[depth];
        std::size_t end = first + 1;
        while (end < last && words[end].first[depth] == label) ++end;
        open.push_back({first, end, depth + 1, static_cast<std::uint32_t>(nodes_.size())});
        nodes_.push_back({no_token, 0, 0, static_cast<unsigned char>(label)});
        ++nodes_[node].children;
        first = end;
      }
    }
    for (std::size_t c = 0; c < nodes_[0].children; ++c)
      roots_[nodes_[nodes_[0].first_child + c].label] = nodes_[0].first_child + static_cast<std::uint32_t>(c);
  }

  bool empty() const { return nodes_.empty(); }

  /// Whether a word begins with this byte.
  bool begins(char byte) const { return roots_[static_cast<unsigned char>(byte)] != 0; }

  /// Calls found(length, id) for every word that `s` begins with, shortest first.
  template <class Found>
  void prefixes(std::string_view s, Found&& found) const {
    if (s.empty()) return;
    std::uint32_t node = roots_[static_cast<unsigned char>(s[0])];
    for (std::size_t depth = 1; node != 0; ++depth) {
      if (nodes_[node].id != no_token) found(depth, nodes_[node].id);
      if (depth == s.size()) return;
      node = child(nodes_[node], static_cast<unsigned char>(s[depth]));
    }
  }

 private:
  struct node {
    token_id id = no_token;
    std::uint32_t first_child = 0;
    std::uint16_t children = 0;
    unsigned char label = 0;
  };

  /// 0, which is the root, stands for none.
  std::uint32_t child(const node& parent, unsigned char label) const {
    std::uint32_t first = parent.first_child, count = parent.children;
    while (count > 0) {
      const std::uint32_t half = count / 2;
      const unsigned char middle = nodes_[first + half].label;
      if (middle == label) return first + half;
      if (middle < label) first += half + 1, count -= half + 1;
      else count = half;
    }
    return 0;
  }

  std::vector<node> nodes_;
  std::array<std::uint32_t, 256> roots_{};
};

}  // namespace text
}  // namespace qlib::inline v0
