/// Against the numpy constructions and products of data/numerics/hadamard.safetensors (README.md).
#include "quantized_folder.hpp"

#include <qlib/linalg/hadamard.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace qlib_test;

TEST_CASE("Paley's and Sylvester's matrices equal the ones that numpy constructs") {
  tensor_set set;
  set.open(QLIB_SOURCE_DIR "/tests/golden/data/numerics/hadamard.safetensors");
  for (std::size_t n : {12, 16, 20, 36, 44, 60, 76, 84, 108}) {  // over prime fields; 28, 52 and 100 order their fields' elements otherwise
    CAPTURE(n);
    CHECK(set.elements<std::int8_t>("H" + std::to_string(n)) == qlib::hadamard_matrix(n)->signs);
  }
  for (std::size_t n : {28, 52, 100}) CHECK(set.elements<std::int8_t>("H" + std::to_string(n)) != qlib::hadamard_matrix(n)->signs);
}

TEST_CASE("rotated rows equal numpy's products with its matrices, whose doublings are outermost") {
  tensor_set set;
  set.open(QLIB_SOURCE_DIR "/tests/golden/data/numerics/hadamard.safetensors");
  for (std::size_t n : {40, 108, 128}) {
    CAPTURE(n);
    const std::size_t base = qlib::hadamard_base(n), power = n / base;
    const auto x = set.elements<float>("x" + std::to_string(n)), y = set.elements<float>("y" + std::to_string(n));
    const auto r = qlib::hadamard_rotation::make(n);
    REQUIRE(r);
    // numpy's element a * base + i is ours at i * power + a.
    std::vector<float> ours(x.size());
    for (std::size_t t = 0; t < 5; ++t)
      for (std::size_t a = 0; a < power; ++a)
        for (std::size_t i = 0; i < base; ++i) ours[t * n + i * power + a] = x[t * n + a * base + i];
    r->rows({ours.data(), 5, n});
    float worst = 0;
    for (std::size_t t = 0; t < 5; ++t)
      for (std::size_t a = 0; a < power; ++a)
        for (std::size_t i = 0; i < base; ++i) worst = std::max(worst, std::fabs(ours[t * n + i * power + a] - y[t * n + a * base + i]));
    CHECK(worst < 2e-6f);  // values up to 4, of sums in f32; numpy's are f64, rounded once
  }
}
