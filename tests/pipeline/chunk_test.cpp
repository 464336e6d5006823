/// Chunks can be made apart and in any order.
#include <doctest/doctest.h>
#include <qlib/pipeline/chunk.hpp>

using namespace qlib;

TEST_CASE("chunks cover every row once, and no two share a tile, a block of the source or a word of zero points") {
  for (const std::size_t tile_rows : {1, 2, 3, 48, 64, 96, 100, 128})
    for (const std::size_t block_rows : {0, 1, 32, 100, 128})
      for (const bool symmetric : {true, false}) {
        CAPTURE(tile_rows);
        CAPTURE(block_rows);
        CAPTURE(symmetric);
        quantization_plan plan;
        work_item item;
        item.encoding.emplace();
        item.encoding->spec.granularity = tile::per_block(tile_rows, 64);
        item.encoding->spec.symmetric = symmetric;
        item.source.block_rows = block_rows;
        item.rows = 20001;
        item.cols = 2048;
        item.type = dtype::f32;
        plan.items.push_back(item);
        std::size_t row = 0;
        for (const chunk& c : cut_into_chunks(plan)) {
          REQUIRE(c.first_row == row);
          REQUIRE(c.first_row % 64 == 0);
          REQUIRE(c.first_row % tile_rows == 0);
          if (block_rows > 0) REQUIRE(c.first_row % block_rows == 0);
          if (!symmetric)
            for (const std::size_t bits : {2, 3, 4, 8}) REQUIRE(c.first_row / tile_rows * bits % 32 == 0);
          row += c.rows;
        }
        CHECK(row == item.rows);
      }
}

TEST_CASE("a matrix with one scale is one chunk") {
  quantization_plan plan;
  work_item item;
  item.encoding.emplace();
  item.encoding->spec.granularity = tile::per_tensor();
  item.rows = 20001;
  item.cols = 2048;
  plan.items.push_back(item);
  CHECK(cut_into_chunks(plan).size() == 1);
}
