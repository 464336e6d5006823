// Observers against PyTorch 2.14.0 (histc, quantile, HistogramObserver's search, MovingAverageMinMaxObserver), and against the published rules
// written out in NumPy and PyTorch: growth of torch's histogram up to 2.0 with float limits (with 1.13's truncated limits the same script
// gives the range (-6.7854, 5.0039) that msModelSlim's compiled observer was seen to give), LLM-Compressor's MSE search, msModelSlim's score.
#include <qlib/backend/scalar.hpp>
#include <qlib/io/safetensors.hpp>
#include <qlib/registry.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

namespace {

using namespace qlib;

struct golden_tensor {
  std::vector<float> values;
  std::size_t rows, cols;
  matrix_view<const float> view() const { return {values.data(), rows, cols}; }
};

class golden_file {
 public:
  explicit golden_file(const std::string& name) {
    const errors found = safetensors_file::open(QLIB_SOURCE_DIR "/tests/golden/observers/" + name, file_);
    REQUIRE_MESSAGE(found.empty(), (found.empty() ? std::string{} : found[0].text()));
  }
  bool contains(const std::string& name) const { return file_.find(name) != nullptr; }
  golden_tensor operator[](const std::string& name) const {
    const tensor_info* info = file_.find(name);
    REQUIRE_MESSAGE(info != nullptr, name);
    const auto bytes = file_.bytes(*info);
    golden_tensor out{{}, info->shape.size() < 2 ? 1 : static_cast<std::size_t>(info->shape[0]), static_cast<std::size_t>(info->shape.back())};
    if (info->dtype == dtype::f64) {
      std::vector<double> wide(bytes.size() / 8);
      std::memcpy(wide.data(), bytes.data(), bytes.size());
      out.values.assign(wide.begin(), wide.end());
    } else {
      out.values.resize(bytes.size() / 4);
      std::memcpy(out.values.data(), bytes.data(), bytes.size());
    }
    return out;
  }
  /// The samples of a case, in order.
  std::vector<golden_tensor> samples(const std::string& name) const {
    std::vector<golden_tensor> all;
    while (contains(name + "." + std::to_string(all.size()))) all.push_back((*this)[name + "." + std::to_string(all.size())]);
    return all;
  }

 private:
  safetensors_file file_;
};

const std::vector<std::string> case_names{"growing", "shrinking", "outliers", "one_sided", "far", "single", "clipped"};

template <class O>
O observed(O o, tile t, const std::vector<golden_tensor>& samples) {
  o.reset(t, grid_of(t, samples.at(0).rows, samples[0].cols));
  for (const golden_tensor& s : samples) o.observe(scalar_backend{}, s.view());
  return o;
}

}  // namespace

TEST_CASE("a histogram counts what torch.histc counts") {
  const golden_file file{"stats.safetensors"};
  const auto check = [&](const std::string& name, std::vector<float> x, range limits) {
    CAPTURE(name);
    const golden_tensor expected = file["histc." + name];
    if (!(limits.min < limits.max)) {  // torch takes the data's own limits
      std::vector<range> seen(1);
      scalar_backend{}.ranges(matrix_view<const float>{x.data(), 1, x.size()}, tile::per_tensor(), std::span{seen});
      limits = seen[0].min < seen[0].max ? seen[0] : range{seen[0].min - 1, seen[0].max + 1};
    }
    std::vector<std::uint32_t> counts(expected.values.size());
    scalar_backend{}.histogram(matrix_view<const float>{x.data(), 1, x.size()}, limits, std::span{counts});
    for (std::size_t i = 0; i < counts.size(); ++i) CHECK(static_cast<float>(counts[i]) == expected.values[i]);
  };
  const std::vector<float> a = file["a"].values, b = file["b"].values;
  std::vector<float> magnitudes = a;
  for (float& v : magnitudes) v = std::fabs(v);
  check("a_auto_100", a, {0, 0});
  check("a_2048", magnitudes, {0, 4.5f});
  check("a_clip", a, {-1, 2});
  check("b_10", b, {0, 1});
  check("b_7", b, {0, 1});
  check("a_abs_auto_2048", magnitudes, {0, 0});
  check("z_auto", std::vector<float>(10, 3.0f), {0, 0});
}

TEST_CASE("the histogram observer grows and clips by torch's rule up to 2.0") {
  const golden_file file{"observers.safetensors"};
  for (const std::string& name : case_names)
    for (int upsample : {16, 128}) {
      CAPTURE(name);
      CAPTURE(upsample);
      const auto o = observed(histogram_observer{{.upsample = upsample}}, tile::per_tensor(), file.samples(name));
      const std::vector<float> expected = file[name + ".old" + std::to_string(upsample)].values;
      const growing_histogram h = o.histogram_of(0);
      CHECK(h.limits().min == expected[0]);
      CHECK(h.limits().max == expected[1]);
      CHECK(o.ranges()[0].min == expected[2] + 0.0f);
      CHECK(o.ranges()[0].max == expected[3]);
      double total = 0, tokens = 0;
      for (double count : h.counts()) total += count;
      for (const golden_tensor& s : file.samples(name)) tokens += static_cast<double>(s.values.size());
      CHECK(total == doctest::Approx(tokens).epsilon(1e-12));  // growth loses nothing
    }
}

TEST_CASE("after one sample the range is that of torch 2.14's HistogramObserver") {
  const golden_file file{"observers.safetensors"};
  for (const std::string& name : case_names) {
    CAPTURE(name);
    const auto o = observed(histogram_observer{}, tile::per_tensor(), {file.samples(name).at(0)});
    const std::vector<float> expected = file[name + ".torch_first"].values;
    CHECK(o.ranges()[0].min == expected[0] + 0.0f);
    CHECK(o.ranges()[0].max == expected[1]);
  }
}

TEST_CASE("after several samples the range lies within one grown bin of torch 2.14's, whose growth differs") {
  const golden_file file{"observers.safetensors"};
  for (const std::string& name : case_names) {
    CAPTURE(name);
    const auto o = observed(histogram_observer{{.upsample = 128}}, tile::per_tensor(), file.samples(name));
    const std::vector<float> torch = file[name + ".torch"].values;
    const float bin = (torch[1] - torch[0]) / 2048;
    CHECK(std::fabs(o.ranges()[0].min - torch[2]) <= 2 * bin);  // each rule's edges are whole bins, and bins differ by less than 1 %
    CHECK(std::fabs(o.ranges()[0].max - torch[3]) <= 2 * bin);
  }
}

TEST_CASE("the search for the least error is torch 2.14's") {
  const golden_file file{"observers.safetensors"};
  const auto above_zero = [](std::int64_t v) { return static_cast<double>(std::max<std::int64_t>(0, v)); };
  std::vector<double> hill(2048), slope(2048), two(2048);
  for (std::int64_t i = 0; i < 2048; ++i) {
    const auto k = static_cast<std::size_t>(i);
    hill[k] = above_zero(160000 - (i - 900) * (i - 900)) + 1;
    slope[k] = static_cast<double>((2048 - i) * (2048 - i) * (2048 - i) / 4096);
    two[k] = above_zero(90000 - (i - 400) * (i - 400)) + 3 * above_zero(2500 - (i - 1900) * (i - 1900));
  }
  const auto check = [&](const std::string& name, const std::vector<double>& counts) {
    CAPTURE(name);
    const range found = least_error_range(counts, {-1.5f, 2.25f}, 256);
    const std::vector<float> expected = file["search." + name].values;
    CHECK(found.min == expected[0]);
    CHECK(found.max == expected[1]);
  };
  check("hill", hill);
  check("slope", slope);
  check("two", two);
}

TEST_CASE("the moving average is torch's MovingAverageMinMaxObserver within an ulp a sample") {
  const golden_file file{"observers.safetensors"};
  for (const std::string& name : case_names) {
    CAPTURE(name);
    const auto samples = file.samples(name);
    const auto o = observed(moving_average_observer{}, tile::per_tensor(), samples);
    const std::vector<float> expected = file[name + ".moving"].values;  // torch adds c * (new - old): another order of the same terms
    const range& r = o.ranges()[0];
    const float ulps = 0x1p-22f * static_cast<float>(samples.size());
    CHECK(std::fabs(r.min - expected[0]) <= ulps * std::max(1e-6f, std::fabs(expected[0])));
    CHECK(std::fabs(r.max - expected[1]) <= ulps * std::max(1e-6f, std::fabs(expected[1])));
  }
}

TEST_CASE("minmax without running is the mean of the samples' extremes") {
  const golden_file file{"observers.safetensors"};
  const golden_tensor expected = file["mean"];
  for (std::size_t i = 0; i < case_names.size(); ++i) {
    const auto o = observed(minmax_observer{{.running = false}}, tile::per_tensor(), file.samples(case_names[i]));
    CHECK(o.ranges()[0].min == expected.view()(i, 0) + 0.0f);
    CHECK(o.ranges()[0].max == expected.view()(i, 1));
  }
}

TEST_CASE("percentiles are torch.quantile's, but for torch's f32 rounding of the place") {
  const golden_file file{"stats.safetensors"};
  const std::vector<float> p = file["q.p"].values;
  const auto check = [&](std::vector<float> x, std::size_t i, float expected) {
    percentile_observer o{{.lower = 100.0 * static_cast<double>(p[i]), .upper = 100}};
    o.reset(tile::per_tensor(), {1, 1});
    o.observe(scalar_backend{}, matrix_view<const float>{x.data(), 1, x.size()});
    std::sort(x.begin(), x.end());
    const double n = static_cast<double>(x.size()), place = static_cast<double>(p[i]) * (n - 1);
    const auto k = static_cast<std::size_t>(place);
    const auto gap = static_cast<double>(x[std::min(k + 2, x.size() - 1)]) - x[k == 0 ? 0 : k - 1];
    // The place is wrong by half an ulp of itself, which moves the value by as much of the gap; then two roundings of the value.
    const double bound = gap * place * 0x1p-23 + 0x1p-22 * std::fabs(expected);
    CAPTURE(p[i]);
    CHECK(std::fabs(o.ranges()[0].min - expected) <= bound);
    CHECK(o.ranges()[0].max == x.back());
  };
  const golden_tensor a = file["a"], linear = file["quantile.a.linear"], m = file["m"], columns = file["quantile.m.dim0.linear"];
  for (std::size_t i = 0; i < p.size(); ++i) {
    check(a.values, i, linear.values[i]);
    for (std::size_t c = 0; c < m.cols; ++c) {
      std::vector<float> column(m.rows);
      for (std::size_t r = 0; r < m.rows; ++r) column[r] = m.view()(r, c);
      check(column, i, columns.view()(i, c));
    }
  }
}

TEST_CASE("the MSE search finds LLM-Compressor's ranges") {
  const golden_file file{"observers.safetensors"};
  const golden_tensor w = file["mse.w"];
  const auto check = [&](const std::string& name, const mse_options& options, tile t) {
    CAPTURE(name);
    const auto o = observed(mse_observer{options}, t, {w});
    const golden_tensor expected = file["mse." + name];
    REQUIRE(expected.cols == o.ranges().size());
    for (std::size_t i = 0; i < expected.cols; ++i) {
      CAPTURE(i);
      CHECK(o.ranges()[i].min == expected.view()(0, i));
      CHECK(o.ranges()[i].max == expected.view()(1, i));
    }
  };
  const auto spec = [](int bits, bool symmetric) {
    return quant_spec{.num_bits = bits, .symmetric = symmetric, .rule = scale_rule::compressed_tensors};
  };
  check("channel4", {.spec = spec(4, true)}, tile::per_channel());
  check("channel8", {.spec = spec(8, true)}, tile::per_channel());
  check("channel4_asym", {.spec = spec(4, false)}, tile::per_channel());
  check("group4", {.spec = spec(4, true)}, tile::per_group(32));
  check("norm2", {.spec = spec(4, true), .norm = 2}, tile::per_channel());
}

TEST_CASE("the range score is msModelSlim's formula, or its halved one") {
  const golden_file file{"observers.safetensors"};
  const golden_tensor expected = file["score"];
  for (std::size_t i = 0; i < case_names.size(); ++i) {
    CAPTURE(case_names[i]);
    range_score score, halved{5, true};
    for (const golden_tensor& s : file.samples(case_names[i])) {
      score.observe(scalar_backend{}, s.view());
      halved.observe(scalar_backend{}, s.view());
    }
    // The shift and the differences are rounded to f32: 2^-24 of values up to the score times sigma.
    CHECK(score.score() == doctest::Approx(expected.view()(i, 0)).epsilon(1e-6));
    CHECK(halved.score() == doctest::Approx(expected.view()(i, 1)).epsilon(1e-6));
  }
}
