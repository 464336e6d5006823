// Histograms, and values outside of an interval: every backend gives the bits of scalar_backend (backends.hpp).
#include "backends.hpp"
#include "loose_matrix.hpp"

#include <qlib/backend/scalar.hpp>

#include <doctest/doctest.h>

#include <limits>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace qlib;

using law::all_data, law::data, law::device_work, law::for_each_backend, law::loose_matrix, law::make, law::narrowed;

constexpr std::size_t widths[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 160, 192, 255, 256, 257, 288, 300};

/// Counts by one backend, added to counts that are there.
template <class T, class B>
std::vector<std::uint32_t> counts_by(const B& backend, matrix_view<const T> x, range limits, std::size_t bins) {
  std::vector<std::uint32_t> counts(bins, 7);
  backend.histogram(x, limits, std::span{counts});
  return counts;
}

}  // namespace

TEST_CASE_TEMPLATE("histograms equal the scalar ones", T, float, bf16, f16) {
  for_each_backend({device_work::histogram}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{22};
    for (std::size_t bins : {1, 2, 7, 100, 256, 2048, 2049})
      for (data kind : all_data)
        for (std::size_t cols : {31, 700, 1500}) {
          auto x = make<T>(17, cols, kind, random);
          if (cols != 700) {  // a device counts what is finite
            x.view()(3, 5) = narrowed<T>(std::numeric_limits<float>::quiet_NaN());
            x.view()(4, 6) = narrowed<T>(std::numeric_limits<float>::infinity());
            x.view()(16, 30) = narrowed<T>(-std::numeric_limits<float>::infinity());
          }
          const float largest = std::numeric_limits<float>::max();
          for (range limits : {range{-0.1f, 0.2f}, range{-1e-3f, 1e-3f}, range{0.0f, 1.0f}, range{-0x1p-140f, 0x1p-141f}, range{0.0f, 0x1p-149f},
                               range{-largest, largest}, range{1e37f, largest}, range{-0x1p100f, 0x1p90f}, range{1.0f, 1.0f + 0x1p-23f}}) {
            INFO("bins ", bins, ", kind ", static_cast<int>(kind), ", cols ", cols, ", limits ", limits.min, " ", limits.max);
            const matrix_view<const T> view{x.view()};
            REQUIRE(counts_by(backend, view, limits, bins) == counts_by(scalar_backend{}, view, limits, bins));
          }
        }
  });
}

TEST_CASE("values at and beside every edge of a bin are counted as the scalar backend does") {
  for_each_backend({device_work::histogram}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{23};
    for (int round = 0; round < 20; ++round)
      for (std::size_t bins : {100, 1000, 2048}) {
        const float low = -static_cast<float>(random() % 1000) / 777, high = low + static_cast<float>(1 + random() % 5000) / 333;
        loose_matrix<float> x{5, 5 * bins};
        for (std::size_t i = 0; i < 5 * bins; ++i) {
          const double edge = low + (static_cast<double>(high) - low) * static_cast<double>(i / 5) / static_cast<double>(bins);
          float v = static_cast<float>(edge);
          for (std::size_t step = 0; step < 5; ++step) {
            const int ulps = static_cast<int>(step) - 2 + static_cast<int>(i % 5) * 5 - 10;
            float w = v;
            for (int u = 0; u < std::abs(ulps); ++u) w = std::nextafter(w, ulps < 0 ? -1e9f : 1e9f);
            x.view()(step, i) = w;
          }
        }
        INFO("bins ", bins, ", low ", low, ", high ", high);
        const matrix_view<const float> view{x.view()};
        REQUIRE(counts_by(backend, view, {low, high}, bins) == counts_by(scalar_backend{}, view, {low, high}, bins));
      }
  });
}

TEST_CASE_TEMPLATE("values outside of an interval equal the scalar ones, in order, and are counted where they do not fit", T, float, bf16, f16) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  for_each_backend({}, [](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::mt19937 random{24};
    for (std::size_t cols : widths)
      for (data kind : all_data) {
        auto x = make<T>(6, cols, kind, random);
        x.view()(2, cols / 2) = narrowed<T>(std::numeric_limits<float>::quiet_NaN());
        x.view()(3, cols / 3) = narrowed<T>(-inf);
        for (range inner : {range{-0.05f, 0.06f}, range{-0.12f, 0.12f}, range{0.0f, 0.0f}, range{-inf, inf}, range{1.0f, -1.0f}})
          for (std::size_t room : {std::size_t{0}, std::size_t{5}, cols, 6 * cols}) {
            std::vector<float> fast(room + 4, -77.0f), slow = fast;
            INFO("cols ", cols, ", kind ", static_cast<int>(kind), ", inner ", inner.min, " ", inner.max, ", room ", room);
            const std::size_t n = backend.outside(matrix_view<const T>{x.view()}, inner, std::span{fast}.first(room));
            REQUIRE(n == scalar_backend{}.outside(matrix_view<const T>{x.view()}, inner, std::span{slow}.first(room)));
            const std::size_t kept = std::min(n, room);
            for (std::size_t i = 0; i < kept; ++i) REQUIRE((fast[i] == slow[i] || (std::isnan(fast[i]) && std::isnan(slow[i]))));
            for (std::size_t i = room; i < room + 4; ++i) REQUIRE(fast[i] == -77.0f);  // nothing past the end
          }
      }
  });
}

TEST_CASE("every pattern of bf16 is outside of an interval exactly where its value is, ends at and beside it and zeros of both signs too") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  loose_matrix<bf16> x{256, 256};
  for (std::uint32_t i = 0; i < 65536; ++i) x.view()(i / 256, i % 256) = bf16{static_cast<std::uint16_t>(i)};
  const matrix_view<const bf16> all{x.view()};
  std::vector<float> ends{0.0f, -0.0f, 0x1p-149f, -0x1p-149f, inf, -inf, std::numeric_limits<float>::max(), std::numeric_limits<float>::quiet_NaN()};
  for (float v : {1.0f, -1.0f, 0.0625f, -3.140625f, 0x1p-130f, -0x1p-130f})
    for (float end : {v, std::nextafter(v, inf), std::nextafter(v, -inf)}) ends.push_back(end);
  for_each_backend({}, [&](const auto& backend, const std::string& name) {
    CAPTURE(name);
    std::vector<float> fast(65536), slow(65536);
    for (float low : ends)
      for (float high : ends) {
        INFO("from ", low, " to ", high);
        const std::size_t n = backend.outside(all, {low, high}, std::span{fast});
        REQUIRE(n == scalar_backend{}.outside(all, {low, high}, std::span{slow}));
        REQUIRE(std::memcmp(fast.data(), slow.data(), n * sizeof(float)) == 0);
      }
  });
}
