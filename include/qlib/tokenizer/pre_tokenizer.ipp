#pragma once
#include <qlib/tokenizer/byte_alphabet.hpp>
#include <qlib/tokenizer/pre_tokenizer.hpp>
#include <qlib/tokenizer/unicode_versions.hpp>

#include <algorithm>
#include <utility>

namespace qlib::inline v0 {
namespace text {

namespace detail {

/// Takes the matched and unmatched parts of a piece from left to right, and leaves what the behavior makes of them.
class part_collector {
 public:
  part_collector(std::vector<extent>& out, split_behavior behavior) : out_{out}, behavior_{behavior}, first_{out.size()} {}

  /// Empty parts count too: an empty match stands between its neighbours.
  void add(extent part, bool matched) {
    const bool follows = out_.size() > first_;
    switch (behavior_) {
      case split_behavior::isolated:
        out_.push_back(part);
        break;
      case split_behavior::removed:
        if (!matched) out_.push_back(part);
        break;
      case split_behavior::contiguous:
        if (follows && matched == previous_) out_.back().end = part.end;
        else out_.push_back(part);
        break;
      case split_behavior::merged_with_previous:
        if (matched && !previous_ && follows) out_.back().end = part.end;
        else out_.push_back(part);
        break;
      case split_behavior::merged_with_next:  // read from the right: a match joins what follows unless that is a match
        if (!matched && previous_ && follows) out_.back().end = part.end;
        else out_.push_back(part);
        break;
    }
    previous_ = matched;
  }

 private:
  std::vector<extent>& out_;
  split_behavior behavior_;
  std::size_t first_;
  bool previous_ = false;
};

struct splitting {
  pieces& work;
  std::size_t first;
  regex_scratch& scratch;

  void operator()(const split_stage& stage) {
    const std::optional<std::string> seen = stage.pattern.expression ? with_stand_ins(work.text) : std::nullopt;
    each_part(stage.behavior, [&](extent part, part_collector& collect) {
      const std::string_view s = std::string_view{seen ? *seen : work.text}.substr(part.begin, part.size());
      std::size_t at = part.begin;
      stage.pattern.each_match(s, scratch, [&](extent match) {
        if (at < part.begin + match.begin) collect.add({at, part.begin + match.begin}, stage.invert);
        collect.add({part.begin + match.begin, part.begin + match.end}, !stage.invert);
        at = part.begin + match.end;
      });
      if (at < part.end) collect.add({at, part.end}, stage.invert);
    });
  }

  void operator()(const class_stage& stage) {
    each_part(stage.behavior, [&](extent part, part_collector& collect) {
      std::size_t begin = part.begin;
      for (std::size_t at = part.begin; at < part.end;) {
        const character c = character_at(work.text, at);
        if (stage.belongs(c.code)) {
          if (begin < at) collect.add({begin, at}, false);
          collect.add({at, at + c.length}, true);
          begin = at + c.length;
        }
        at += c.length;
      }
      if (begin < part.end) collect.add({begin, part.end}, false);
    });
  }

  void operator()(const fixed_length_stage& stage) {
    std::vector<extent> out;
    for (const extent part : work.parts) {
      std::size_t begin = part.begin, characters = 0;
      for (std::size_t at = part.begin; at < part.end;) {
        at += character_at(work.text, at).length;
        if (++characters % stage.length != 0) continue;
        out.push_back({begin, at});
        begin = at;
      }
      if (begin < part.end) out.push_back({begin, part.end});
    }
    work.parts = std::move(out);
  }

  void operator()(const metaspace_stage& stage) {
    rewrite([&](std::string_view part, bool begins, std::string& out) {
      const bool wanted = stage.scheme == prepend_scheme::always || (stage.scheme == prepend_scheme::first && begins);
      if (wanted && part[0] != ' ' && !part.starts_with(stage.replacement)) out += stage.replacement;
      for (const char c : part)
        if (c == ' ') out += stage.replacement;
        else out += c;
    });
    if (stage.split) (*this)(split_stage{{stage.replacement}, split_behavior::merged_with_next});
  }

  void operator()(const prefix_space_stage&) {
    rewrite([](std::string_view part, bool, std::string& out) {
      if (part[0] != ' ') out += ' ';
      out += part;
    });
  }

  void operator()(const byte_alphabet_stage&) {
    rewrite([](std::string_view part, bool, std::string& out) { append_in_byte_alphabet(out, part); });
  }

 private:
  template <class Split>
  void each_part(split_behavior behavior, Split&& split) {
    std::vector<extent> out;
    out.reserve(work.parts.size() + work.text.size() / 4);
    for (const extent part : work.parts) {
      part_collector collect{out, behavior};
      split(part, collect);
    }
    std::erase_if(out, [](const extent& part) { return part.size() == 0; });
    work.parts = std::move(out);
  }

  /// Calls write(piece, whether it begins with the first character of the whole text, out) for every piece.
  template <class Write>
  void rewrite(Write&& write) {
    std::string out;
    std::size_t now_first = 0;
    out.reserve(work.text.size() + work.text.size() / 4);
    for (extent& part : work.parts) {
      const std::size_t begin = out.size();
      const bool begins = part.begin < first;
      write(std::string_view{work.text}.substr(part.begin, part.size()), begins, out);
      if (begins) {
        std::string covered;
        write(std::string_view{work.text}.substr(part.begin, std::min(first, part.end) - part.begin), begins, covered);
        now_first = begin + covered.size();
      }
      part = {begin, out.size()};
    }
    first = now_first;
    work.text = std::move(out);
  }
};

}  // namespace detail

QLIB_INLINE void split_into_pieces(pieces& work, std::size_t first, const std::vector<pre_tokenizer_stage>& stages, regex_scratch& scratch) {
  work.parts.clear();
  if (!work.text.empty()) work.parts.push_back({0, work.text.size()});
  detail::splitting split{work, first, scratch};
  for (const pre_tokenizer_stage& stage : stages) std::visit(split, stage);
}

}  // namespace text
}  // namespace qlib::inline v0
