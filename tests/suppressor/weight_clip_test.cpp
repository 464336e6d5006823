/// Clipping: what the search promises, what it finds, and what folding makes of it.
#include "../conformance/matrices.hpp"

#include <qlib/backend/scalar.hpp>
#include <qlib/io/safetensors.hpp>
#include <qlib/suppressor/weight_clip.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

using namespace qlib;

namespace {

/// Rows of every kind: Gaussian, with outliers, all zero, constant, one-sided, tiny; inputs with a loud, a dead and a biased channel.
struct problem {
  law::matrix<float> w, x;

  problem(std::size_t rows, std::size_t cols, std::size_t tokens, unsigned seed)
      : w{law::gaussian(rows, cols, seed)}, x{law::gaussian(tokens, cols, seed + 1)} {
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < cols; ++c) {
        float& v = w.view()(r, c);
        switch (r % 7) {
          case 1:
            if ((c + r) % 11 == 0) v *= 8;
            break;
          case 2:
            v = 0;
            break;
          case 3:
            v = 0.3f;
            break;
          case 4:
            v = std::fabs(v);
            break;
          case 5:
            v *= 1e-30f;
            break;
          default:
            break;
        }
      }
    for (std::size_t t = 0; t < tokens; ++t) {
      x.view()(t, 2 % cols) *= 20;
      x.view()(t, 5 % cols) = 0;
      x.view()(t, cols - 1) += 1;
    }
  }
  matrix_view<const float> weight() const { return w.view(); }
  matrix_view<const float> inputs() const { return x.view(); }
};

const std::vector<quant_spec>& specs() {
  static const std::vector<quant_spec> all{int4_per_group{16},
                                           int4_per_group{16, false},
                                           int4_per_group{24, false, scale_rule::ascend},
                                           int4_per_channel{},
                                           int4_per_channel{scale_rule::compressed_tensors, false},
                                           int8_per_channel{},
                                           {.num_bits = 3, .granularity = tile::per_group(8)},
                                           fp8_per_channel{}};
  return all;
}

gemm reproducible(std::size_t threads = 1) { return gemm{{.kind = gemm_kind::reproducible, .threads = threads}}; }

/// Errors of the ten versions of a tile, in f64: the definition, written down.
std::vector<double> errors_of(const problem& p, const quant_spec& spec, std::size_t row, std::size_t first, std::size_t width) {
  law::matrix<float> tile_of_w{1, width}, clipped{1, width}, back{1, width};
  float largest = 0;
  for (std::size_t c = 0; c < width; ++c) {
    tile_of_w.elements[c] = p.weight()(row, first + c);
    largest = std::max(largest, std::fabs(tile_of_w.elements[c]));
  }
  quant_spec whole = spec;
  whole.granularity = tile::per_channel();
  std::vector<double> out;
  for (std::size_t step = 0; step < clip_steps; ++step) {
    const float limit = static_cast<float>(1.0 - static_cast<double>(step) / 20.0) * largest;
    for (std::size_t c = 0; c < width; ++c) clipped.elements[c] = std::clamp(tile_of_w.elements[c], -limit, limit);
    REQUIRE(scalar_backend{}.scaled_fake_quantize(std::as_const(clipped).view(), {}, whole, back.view()));
    double sum = 0;
    for (std::size_t t = 0; t < p.x.rows; ++t) {
      double difference = 0;
      for (std::size_t c = 0; c < width; ++c)
        difference +=
            static_cast<double>(p.inputs()(t, first + c)) * (static_cast<double>(back.elements[c]) - static_cast<double>(tile_of_w.elements[c]));
      sum += difference * difference;
    }
    out.push_back(sum / static_cast<double>(p.x.rows));
  }
  return out;
}

template <class T>
std::vector<T> elements(const safetensors_file& file, const std::string& name) {
  const tensor_info* t = file.find(name);
  REQUIRE_MESSAGE(t != nullptr, name);
  const auto from = file.bytes(*t);
  std::vector<T> out(from.size() / sizeof(T));
  std::memcpy(out.data(), from.data(), from.size());
  return out;
}

}  // namespace

TEST_CASE("clipping never makes a tile's error worse, and is as good as the best of a naive double loop") {
  // Products in f32 tell errors apart that differ by more than their rounding, 1e-5 of the error here.
  constexpr double slack = 1e-5;
  std::size_t clipped = 0, tiles = 0;
  for (const quant_spec& spec : specs())
    for (const std::size_t tokens : {std::size_t{1}, std::size_t{7}, std::size_t{40}}) {
      const problem p{21, 72, tokens, static_cast<unsigned>(17 + tokens)};
      const weight_clips found = search_clips(p.weight(), spec, p.inputs(), reproducible());
      const std::size_t width = resolve(spec.granularity, p.w.rows, p.w.cols).cols, of_a_row = grid_of(spec.granularity, p.w.rows, p.w.cols).cols;
      REQUIRE(found.steps.size() == p.w.rows * of_a_row);
      double before = 0, after = 0;
      std::size_t changed = 0;
      for (std::size_t i = 0; i < found.steps.size(); ++i) {
        CAPTURE(i);
        const std::size_t first = i % of_a_row * width;
        const std::vector<double> errors = errors_of(p, spec, i / of_a_row, first, std::min(width, p.w.cols - first));
        const std::size_t step = found.steps[i];
        REQUIRE(step < clip_steps);
        const double lowest = *std::min_element(errors.begin(), errors.end());
        CHECK(errors[step] <= errors[0]);
        CHECK(errors[step] <= lowest * (1 + slack));
        if (i / of_a_row % 7 == 2) CHECK(step == 0);  // zeros: all are equal
        before += errors[0];
        after += errors[step];
        changed += step != 0;
      }
      CHECK(found.clipped == changed);
      CHECK(found.error_before == doctest::Approx(before).epsilon(1e-4));
      CHECK(found.error_after == doctest::Approx(after).epsilon(1e-4));
      clipped += changed;
      tiles += found.steps.size();
    }
  CHECK(clipped > tiles / 10);
}

TEST_CASE("clips are the same for any number of threads and for any rows beside them") {
  for (const quant_spec& spec : std::vector<quant_spec>{int4_per_group{32}, int4_per_channel{}}) {
    const problem p{700, 96, 64, 5};  // several blocks of rows
    const weight_clips one = search_clips(p.weight(), spec, p.inputs(), reproducible());
    CHECK(one.clipped > 100);
    for (const std::size_t threads : {2, 5}) {
      const weight_clips again = search_clips(p.weight(), spec, p.inputs(), reproducible(threads));
      CHECK(again.steps == one.steps);
      CHECK(again.error_before == one.error_before);
      CHECK(again.error_after == one.error_after);
    }
    const std::size_t of_a_row = one.steps.size() / p.w.rows;
    for (const std::size_t first : {std::size_t{0}, std::size_t{1}, std::size_t{333}}) {
      const weight_clips part = search_clips(p.weight().strip(first, 130), spec, p.inputs(), reproducible());
      CHECK(std::equal(part.steps.begin(), part.steps.end(), one.steps.begin() + static_cast<std::ptrdiff_t>(first * of_a_row)));
    }
  }
}

TEST_CASE("clips are those of a numpy program (tests/golden/clipping/make_goldens.py)") {
  safetensors_file file;
  REQUIRE(safetensors_file::open(QLIB_SOURCE_DIR "/tests/golden/clipping/goldens.safetensors", file).empty());
  const auto ct = scale_rule::compressed_tensors;
  const std::vector<std::pair<std::string, quant_spec>> cases{{"int4_g16_symmetric", int4_per_group{16}},
                                                              {"int4_g16_asymmetric", int4_per_group{16, false}},
                                                              {"int4_g24_last_tile_smaller", int4_per_group{24, true, scale_rule::ascend}},
                                                              {"int4_channel_asymmetric_ascend", int4_per_channel{scale_rule::ascend, false}},
                                                              {"int3_channel_few_tokens", {.num_bits = 3}},
                                                              {"int4_one_token", {.num_bits = 4, .granularity = tile::per_group(8), .rule = ct}}};
  for (const auto& one : cases)
    for (const gemm_kind kind : {gemm_kind::reproducible, gemm_kind::fastest}) {
      const std::string& name = one.first;
      const quant_spec& spec = one.second;
      CAPTURE(name);
      std::vector<float> w = elements<float>(file, name + ".weight");
      const std::vector<float> x = elements<float>(file, name + ".inputs"), clipped = elements<float>(file, name + ".clipped");
      const std::vector<double> errors = elements<double>(file, name + ".errors");
      const std::size_t rows = file.find(name + ".weight")->shape[0], cols = w.size() / rows;
      const weight_clips found = search_clips({w.data(), rows, cols}, spec, {x.data(), x.size() / cols, cols}, gemm{{.kind = kind}});
      CHECK(found.steps == elements<std::uint8_t>(file, name + ".steps"));
      CHECK(found.error_before == doctest::Approx(errors[0]).epsilon(1e-5));
      CHECK(found.error_after == doctest::Approx(errors[1]).epsilon(1e-5));
      const std::vector<fold_step> steps{clipping{spec.granularity, found.steps}};
      fold(steps, matrix_view<float>{w.data(), rows, cols});
      CHECK(w == clipped);
    }
}

TEST_CASE("folding clips each tile of any strip to its own limit, in the order of the steps") {
  const std::size_t rows = 9, cols = 20;
  const tile shape = tile::per_group(8);  // the last tile of a row has four columns
  const law::matrix<float> w = law::gaussian(rows, cols, 3);
  clipping c{shape, {}};
  for (std::size_t i = 0; i < rows * 3; ++i) c.steps.push_back(static_cast<std::uint8_t>(i % clip_steps));
  scaling before, after;
  for (std::size_t k = 0; k < cols; ++k) {
    before.columns.push_back(k % 3 == 0 ? 4.0f : 1.0f);
    after.columns.push_back(k % 5 == 0 ? 0.5f : 1.0f);
  }
  const std::vector<fold_step> steps{before, c, after};
  law::matrix<float> whole = w;
  fold(steps, whole.view());
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t k = 0; k < cols; ++k) {
      const std::size_t t = k / 8, step = c.steps[r * 3 + t];
      float largest = 0;
      for (std::size_t j = 8 * t; j < std::min(cols, 8 * t + 8); ++j) largest = std::max(largest, std::fabs(w.view()(r, j) * before.columns[j]));
      const float limit = static_cast<float>(1 - static_cast<double>(step) / 20) * largest;
      CHECK(whole.view()(r, k) == std::clamp(w.view()(r, k) * before.columns[k], -limit, limit) * after.columns[k]);
    }
  for (const std::size_t count : {1, 2, 4}) {
    law::matrix<float> strips = w;
    for (std::size_t r = 0; r < rows; r += count) {
      const std::size_t n = std::min(count, rows - r);
      fold(steps, strips.view().strip(r, n), r);
    }
    CHECK(strips.elements == whole.elements);
  }
}

TEST_CASE("a weight that is not finite, and inputs that are not, clip nothing; a NaN stays for whoever reports it") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  problem p{14, 32, 9, 23};
  CHECK(search_clips(p.weight(), int4_per_group{16}, p.inputs(), reproducible()).clipped > 0);
  p.x.view()(4, 3) = std::numeric_limits<float>::infinity();
  CHECK(search_clips(p.weight(), int4_per_channel{}, p.inputs(), reproducible()).clipped == 0);
  p = {14, 32, 9, 23};
  p.w.view()(13, 3) = nan;
  const weight_clips found = search_clips(p.weight(), int4_per_group{16}, p.inputs(), reproducible());
  CHECK(found.clipped == 0);
  CHECK(found.steps == std::vector<std::uint8_t>(28, 0));
  fold(clipping{tile::per_group(16), std::vector<std::uint8_t>(28, 5)}, p.w.view());
  CHECK(std::isnan(p.w.view()(13, 3)));
  CHECK(search_clips(p.weight(), int4_per_group{16}, {nullptr, 0, 32}, reproducible()).steps.size() == 28);  // no token
}

TEST_CASE("groups and channels of rows can be clipped; whole tensors and blocks are left") {
  CHECK(can_be_clipped(int4_per_group{32}));
  CHECK(can_be_clipped(fp8_per_channel{}));
  CHECK_FALSE(can_be_clipped({.granularity = tile::per_tensor()}));
  CHECK_FALSE(can_be_clipped({.granularity = tile::per_block(128, 128)}));
}

TEST_CASE("what a search allocates is forecast") {
  // Gram matrices of 2 MiB, and a MiB or so a thread: far less than ten versions of the weight.
  const std::uint64_t bytes = clip_search_bytes(4096, 4096, int4_per_group{128}, 512, 2);
  CHECK(bytes > 4096 * 128 * sizeof(float));
  CHECK(bytes < (std::uint64_t{8} << 20));
  CHECK(clip_search_bytes(4096, 4096, int4_per_channel{}, 512, 1) < (std::uint64_t{4} << 20));
}
