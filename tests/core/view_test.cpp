#include <qlib/core/view.hpp>

#include <doctest/doctest.h>

#include <numeric>
#include <type_traits>
#include <vector>

namespace {
using namespace qlib;
}

TEST_CASE("a view reads rows that are further apart than its columns") {
  std::vector<int> memory(20);
  std::iota(memory.begin(), memory.end(), 0);
  const matrix_view<int> m{memory.data() + 1, 4, 3, 5};
  CHECK(m.size() == 12);
  CHECK(m(0, 0) == 1);
  CHECK(m(3, 2) == 18);
  CHECK(m.row(2) == memory.data() + 11);
  const matrix_view<int> strip = m.strip(1, 2);
  CHECK(strip.rows() == 2);
  CHECK(strip.cols() == 3);
  CHECK(strip.stride() == 5);
  CHECK(strip(1, 1) == m(2, 1));
}

TEST_CASE("a view becomes one of constant elements, never the other way") {
  CHECK(std::is_convertible_v<matrix_view<int>, matrix_view<const int>>);
  CHECK(!std::is_convertible_v<matrix_view<const int>, matrix_view<int>>);
  int x = 7;
  const matrix_view<const int> constant = matrix_view<int>{&x, 1, 1};
  CHECK(constant(0, 0) == 7);
}

TEST_CASE("an empty view has no elements") {
  CHECK(matrix_view<int>{}.size() == 0);
  CHECK(matrix_view<int>{}.data() == nullptr);
}

TEST_CASE("a granularity is a tile, and its scales are a grid") {
  CHECK(grid_of(tile::per_tensor(), 6, 10) == grid{1, 1});
  CHECK(grid_of(tile::per_channel(), 6, 10) == grid{6, 1});
  CHECK(grid_of(tile::per_group(5), 6, 10) == grid{6, 2});
  CHECK(grid_of(tile::per_block(4, 4), 6, 10) == grid{2, 3});
  CHECK(grid_of(tile::per_block(100, 100), 6, 10) == grid{1, 1});
  CHECK(grid_of({0, 1}, 6, 10) == grid{1, 10});
  CHECK(grid_of(tile::per_block(4, 4), 6, 10).tiles() == 6);
}

TEST_CASE("matrices without rows or columns have grids, too") {
  CHECK(grid_of(tile::per_tensor(), 0, 0).tiles() == 0);
  CHECK(grid_of(tile::per_channel(), 0, 10) == grid{0, 1});
  CHECK(grid_of(tile::per_channel(), 3, 0).tiles() == 0);
  CHECK(grid_of(tile::per_group(4), 3, 0).tiles() == 0);
}

TEST_CASE("0 in a tile stands for the whole extent") {
  CHECK(resolve(tile::per_tensor(), 6, 10) == tile{6, 10});
  CHECK(resolve(tile::per_channel(), 6, 10) == tile{1, 10});
  CHECK(resolve(tile::per_group(5), 6, 10) == tile{1, 5});
  CHECK(resolve(tile::per_tensor(), 0, 0) == tile{1, 1});
}
