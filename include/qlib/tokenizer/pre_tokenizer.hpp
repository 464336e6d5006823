#pragma once
#include <qlib/tokenizer/normalizer.hpp>

#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace qlib::inline v0 {
namespace text {

/// What becomes of the parts that a pattern matches.
enum class split_behavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };

struct split_stage {
  text::pattern pattern;
  split_behavior behavior = split_behavior::isolated;
  bool invert = false;
};
/// Splits at characters of a class.
struct class_stage {
  bool (*belongs)(char32_t);
  split_behavior behavior = split_behavior::isolated;
};
enum class prepend_scheme { always, first, never };
struct metaspace_stage {
  std::string replacement = "\xe2\x96\x81";  ///< U+2581
  prepend_scheme scheme = prepend_scheme::always;
  bool split = true;
};
/// A space before every piece that has none.
struct prefix_space_stage {};
/// Bytes become characters of the byte alphabet. Left out where it is the last stage and the model works on bytes.
struct byte_alphabet_stage {};
/// Pieces of so many characters; the last may be shorter.
struct fixed_length_stage {
  std::size_t length = 5;  ///< not 0
};

using pre_tokenizer_stage = std::variant<split_stage, class_stage, metaspace_stage, prefix_space_stage, byte_alphabet_stage, fixed_length_stage>;

/// A text and the pieces that models encode one by one.
struct pieces {
  std::string text;
  std::vector<extent> parts;
};

/// Runs all stages over `work.text`; `first`: how many of its first bytes come from the first character of the whole text.
void split_into_pieces(pieces& work, std::size_t first, const std::vector<pre_tokenizer_stage>& stages, regex_scratch& scratch);

}  // namespace text
}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/tokenizer/pre_tokenizer.ipp>
#endif
