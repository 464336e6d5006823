#include "random_values.hpp"

#include <qlib/backend/scalar.hpp>
#include <qlib/linalg/hadamard.hpp>

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

using namespace qlib;

namespace {

/// Whether H Hᵀ = n I, exactly: rows as bit sets.
bool is_hadamard(const sign_matrix& h) {
  const std::size_t words = (h.order + 63) / 64;
  std::vector<std::uint64_t> bits(h.order * words);
  for (std::size_t r = 0; r < h.order; ++r)
    for (std::size_t c = 0; c < h.order; ++c) {
      if (h(r, c) != 1 && h(r, c) != -1) return false;
      if (h(r, c) < 0) bits[r * words + c / 64] |= std::uint64_t{1} << (c % 64);
    }
  for (std::size_t a = 0; a < h.order; ++a)
    for (std::size_t b = a + 1; b < h.order; ++b) {
      std::size_t differ = 0;
      for (std::size_t w = 0; w < words; ++w) differ += static_cast<std::size_t>(std::popcount(bits[a * words + w] ^ bits[b * words + w]));
      if (2 * differ != h.order) return false;
    }
  return true;
}

/// Element (r, c) of R, from the matrix and the documented generator.
class dense_rotation {
 public:
  dense_rotation(std::size_t block, std::optional<std::uint64_t> seed) : h_{*hadamard_matrix(block)}, signs_(block, 1) {
    if (!seed) return;
    std::uint64_t state = *seed;
    for (int& s : signs_) {
      state += 0x9e3779b97f4a7c15u;
      std::uint64_t z = state;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
      z ^= z >> 31;
      s = z >> 63 ? -1 : 1;
    }
  }
  double operator()(std::size_t r, std::size_t c) const {
    const std::size_t n = h_.order;
    return r / n != c / n ? 0.0 : signs_[r % n] * h_(r % n, c % n) / std::sqrt(static_cast<double>(n));
  }

 private:
  sign_matrix h_;
  std::vector<int> signs_;
};

struct rotation_case {
  std::size_t size, block;
  std::optional<std::uint64_t> seed;
};
const rotation_case cases[] = {{1, 0, 7},    {2, 0, {}},   {12, 0, 3},    {16, 0, 1},   {28, 0, {}},   {40, 0, 5},   {64, 16, 9},
                               {96, 24, 11}, {256, 0, 13}, {320, 160, 2}, {344, 0, 17}, {384, 128, 4}, {448, 0, 19}, {464, 0, 23}};

}  // namespace

TEST_CASE("every Hadamard matrix that is offered up to order 256 is one, and every base up to 1200") {
  std::set<std::size_t> missing;
  std::size_t offered = 0;
  for (std::size_t n = 1; n <= 1200; ++n) {
    if (!has_hadamard(n)) {
      if (n % 4 == 0 && n <= 256) missing.insert(n);
      continue;
    }
    CHECK((n <= 2 || n % 4 == 0));
    if (n > 256 && hadamard_base(n) != n) continue;
    ++offered;
    const auto h = hadamard_matrix(n);
    REQUIRE(h);
    CAPTURE(n);
    REQUIRE(h->order == n);
    REQUIRE(is_hadamard(*h));
  }
  CHECK(offered > 130);
  CHECK(missing == std::set<std::size_t>{188, 236});
}

TEST_CASE("the orders that models and peers use are offered, with the peers' bases or smaller ones") {
  for (std::size_t n : {12, 20, 28, 36, 40, 52, 60, 76, 108, 136, 140, 156, 160, 172, 200, 116, 92, 84, 44, 148}) CHECK(has_hadamard(n));
  for (std::size_t n :
       {896, 2304, 3072, 3584, 4864, 5120, 6656, 6912, 8960, 9216, 9728, 11008, 13824, 14336, 17920, 18432, 18944, 27648, 28672, 29568, 53248}) {
    CAPTURE(n);
    CHECK(has_hadamard(n));
  }
  CHECK(hadamard_base(4096) == 1);
  CHECK(hadamard_base(11008) == 172);
  CHECK(hadamard_base(5120) == 20);
  CHECK(hadamard_base(14336) == 28);
}

TEST_CASE("an order that there is not names the nearest ones") {
  const auto none = hadamard_matrix(188);
  REQUIRE(!none);
  CHECK(none.error().text() ==
        "a Hadamard matrix of order 188: no construction here gives it: the nearest are 184 and 192; or rotate blocks of a size that divides the "
        "channels");
  CHECK(hadamard_matrix(0).error().text().find("there is none") != std::string::npos);
  CHECK(hadamard_matrix(6).error().text().find("4 and 8") != std::string::npos);
  CHECK(hadamard_rotation::make(100, {.block_size = 64}).error().text() ==
        "a rotation of 100 channels: is not a multiple of the block size 64: choose a block size that divides it");
  CHECK(!hadamard_rotation::make(188));
  CHECK(!hadamard_rotation::make(0));
  CHECK(hadamard_rotation::make(188, {.block_size = 4}));
}

TEST_CASE("rows and columns are multiplied by the documented matrix, forward and back") {
  for (const rotation_case& k : cases) {
    CAPTURE(k.size);
    CAPTURE(k.block);
    const auto r = hadamard_rotation::make(k.size, {.block_size = k.block, .seed = k.seed});
    REQUIRE(r);
    const std::size_t n = k.size, others = 21;
    const dense_rotation dense{r->block_size(), k.seed};
    // Each sum has a relative error of (1 + log2 n + base) 2^-24 of the root of its squares, in the worst case times sqrt(block).
    const double bound = 64 * 0x1p-24 * std::sqrt(static_cast<double>(r->block_size())) * 8;
    const std::vector<float> x = random_values(others * n, static_cast<unsigned>(n));
    for (bool back : {false, true}) {
      std::vector<float> rows(others * (n + 3), 77.0f), columns(n * (others + 2), 77.0f);
      for (std::size_t i = 0; i < others; ++i)
        for (std::size_t c = 0; c < n; ++c) rows[i * (n + 3) + c] = columns[c * (others + 2) + i] = x[i * n + c];
      const matrix_view<float> by_rows{rows.data(), others, n, n + 3}, by_columns{columns.data(), n, others, others + 2};
      if (back) r->rows_back(by_rows), r->columns_back(by_columns);
      else r->rows(by_rows), r->columns(by_columns);
      double worst_row = 0, worst_column = 0;
      for (std::size_t i = 0; i < others; ++i)
        for (std::size_t c = 0; c < n; ++c) {
          double expected = 0;
          for (std::size_t j = 0; j < n; ++j) expected += x[i * n + j] * (back ? dense(c, j) : dense(j, c));  // columns: Rᵀ w, which is the same
          worst_row = std::max(worst_row, std::fabs(by_rows(i, c) - expected));
          worst_column = std::max(worst_column, std::fabs(by_columns(c, i) - expected));
        }
      CHECK(worst_row < bound);
      CHECK(worst_column < bound);
      for (std::size_t i = 0; i < others; ++i)
        for (std::size_t c = n; c < n + 3; ++c) CHECK(rows[i * (n + 3) + c] == 77.0f);
      for (std::size_t c = 0; c < n; ++c)
        for (std::size_t i = others; i < others + 2; ++i) CHECK(columns[c * (others + 2) + i] == 77.0f);
    }
  }
}

TEST_CASE("integers come back exactly from a rotation whose block is a power of four") {
  std::mt19937 random{41};
  for (std::size_t n : {1, 4, 16, 64, 256, 1024, 4096}) {
    CAPTURE(n);
    const auto r = hadamard_rotation::make(n, {.seed = n});
    std::vector<float> x(3 * n);
    for (float& v : x) v = static_cast<float>(static_cast<int>(random() % 2047) - 1023);  // 1023 * 4096 < 2^24 / 4
    std::vector<float> y = x, z = x;
    r->rows({y.data(), 3, n});
    r->rows_back({y.data(), 3, n});
    CHECK(y == x);
    r->columns({z.data(), n, 3});
    r->columns_back({z.data(), n, 3});
    CHECK(z == x);
  }
}

TEST_CASE("what was rotated comes back within rounding, and no length changes") {
  for (const rotation_case& k : cases) {
    CAPTURE(k.size);
    const auto r = hadamard_rotation::make(k.size, {.block_size = k.block, .seed = k.seed});
    const std::size_t n = k.size;
    const std::vector<float> x = random_values(5 * n, 3);
    std::vector<float> y = x;
    r->rows({y.data(), 5, n});
    for (std::size_t i = 0; i < 5; ++i) {
      double before = 0, after = 0, moved = 0;
      for (std::size_t c = 0; c < n; ++c) before += std::pow(x[i * n + c], 2), after += std::pow(y[i * n + c], 2);
      CHECK(std::fabs(after / before - 1) < 1e-5);
      std::vector<float> back(y.begin() + static_cast<std::ptrdiff_t>(i * n), y.begin() + static_cast<std::ptrdiff_t>((i + 1) * n));
      r->rows_back({back.data(), 1, n});
      for (std::size_t c = 0; c < n; ++c) moved += std::pow(back[c] - x[i * n + c], 2);
      // Two ulp of the row's root mean square: errors of stages are independent and of half an ulp.
      CHECK(std::sqrt(moved / before) < 2 * 0x1p-23);
    }
  }
}

TEST_CASE("one huge channel is spread over all of them") {
  const auto r = hadamard_rotation::make(3584, {.seed = 1234});
  std::vector<float> x = random_values(3584, 5);
  x[77] = 1000;
  r->rows({x.data(), 1, x.size()});
  float largest = 0;
  for (float v : x) largest = std::max(largest, std::fabs(v));
  CHECK(largest < 1000 / std::sqrt(3584.0f) + 5);
}

TEST_CASE("the number of threads changes no bit of a rotation") {
  for (std::size_t n : {448, 1024}) {
    const std::vector<float> x = random_values(n * 1000, 8);
    std::vector<float> one = x, three = x;
    const auto a = hadamard_rotation::make(n, {.seed = 1}), b = hadamard_rotation::make(n, {.seed = 1, .threads = 3});
    a->rows({one.data(), 1000, n});
    b->rows({three.data(), 1000, n});
    CHECK(std::memcmp(one.data(), three.data(), x.size() * sizeof(float)) == 0);
    a->columns({one.data(), n, 1000});
    b->columns({three.data(), n, 1000});
    CHECK(std::memcmp(one.data(), three.data(), x.size() * sizeof(float)) == 0);
  }
}
