#pragma once
#include <qlib/config.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace qlib::inline v0::detail {

/// What an attention mask leaves of a sample: the positions of ones, which are one piece, with padding before or behind it. Empty: none is left.
struct attended_part {
  std::size_t begin = 0, end = 0;
  std::optional<std::size_t> hole;   ///< a zero between ones
  std::optional<std::size_t> wrong;  ///< neither 0 nor 1

  static attended_part of(std::span<const std::int64_t> mask) {
    attended_part part;
    std::optional<std::size_t> ended;
    for (std::size_t i = 0; i < mask.size(); ++i) {
      if (mask[i] != 0 && mask[i] != 1) {
        part.wrong = i;
        return part;
      }
      if (mask[i] == 0) {
        if (part.end != 0 && !ended) ended = i;
        continue;
      }
      if (ended && !part.hole) part.hole = ended;
      if (part.end == 0) part.begin = i;
      part.end = i + 1;
    }
    return part;
  }

  /// Problem and remedy; two empty strings if there is none.
  std::pair<std::string, std::string> fault() const {
    if (wrong) return {"position " + std::to_string(*wrong) + " of attention_mask is neither 0 nor 1", "write 1 for each token, 0 for padding"};
    if (hole)
      return {"position " + std::to_string(*hole) + " of attention_mask is 0 between ones: padding stands before or behind a text",
              "drop the positions within, or set them to 1"};
    return {};
  }
};

}  // namespace qlib::inline v0::detail
