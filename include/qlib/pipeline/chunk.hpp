/// A chunk is the unit of work, of memory and of resuming: some rows of one matrix, or some bytes of one copied tensor.
#pragma once
#include <qlib/pipeline/plan.hpp>

#include <algorithm>
#include <numeric>
#include <vector>

namespace qlib::inline v0 {

struct chunk {
  std::size_t item = 0;
  std::size_t first_row = 0, rows = 0;  ///< bytes for raw copies
};

/// Source bytes of a chunk. Its output then fits the L2 or L3 cache of one core while it is written, and a chunk costs a thousand times what
/// scheduling it costs.
inline constexpr std::size_t chunk_bytes = std::size_t{4} << 20;

/// Rows that chunks of a quantized matrix start at multiples of: of 64, of its tile's rows and of the source's blocks, so that no two chunks share a
/// tile, a packed row pair or a word of packed zero points (of 32 tiles' codes).
inline std::size_t rows_apart(const work_item& item) {
  const std::size_t tile_rows = item.encoding ? std::max<std::size_t>(1, item.encoding->spec.granularity.rows) : 1;
  const bool zeros = item.encoding && !item.encoding->spec.symmetric;
  const std::size_t tiles = tile_rows * (zeros && tile_rows > 1 ? 32 : 1);
  return std::lcm(std::lcm(std::size_t{64}, tiles), std::max<std::size_t>(1, item.source.block_rows));
}

/// Cuts the items into chunks, in order. A per-tensor scale keeps its matrix whole.
inline std::vector<chunk> cut_into_chunks(const quantization_plan& plan) {
  std::vector<chunk> out;
  for (std::size_t i = 0; i < plan.items.size(); ++i) {
    const work_item& item = plan.items[i];
    std::size_t step;
    if (item.raw) {
      step = chunk_bytes;
    } else if (item.vector || item.whole) {
      step = item.rows;
    } else {
      const std::size_t row_bytes = std::max<std::size_t>(1, item.cols * bits_of(item.type) / 8);
      const std::size_t unit = rows_apart(item);
      const bool per_tensor = item.encoding && item.encoding->spec.granularity.rows == 0;
      step = per_tensor ? std::max<std::size_t>(1, item.rows) : std::max<std::size_t>(1, chunk_bytes / (row_bytes * unit)) * unit;
    }
    std::size_t row = 0;
    do {  // an empty tensor is one chunk too: it counts as work done
      const std::size_t count = std::min(step, item.rows - row);
      out.push_back({i, row, count});
      row += count;
    } while (row < item.rows);
  }
  return out;
}

}  // namespace qlib::inline v0
