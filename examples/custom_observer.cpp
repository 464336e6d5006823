// A policy of one's own: 30 lines, and it composes with everything that is there.
#include <qlib/quantize.hpp>

#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

struct mean_magnitude_options {
  float multiple = 4.0f;
  static constexpr auto fields() { return std::tuple{qlib::field{"multiple", &mean_magnitude_options::multiple, "clip at this many means of |x|"}}; }
};

/// Clips each tile at a multiple of the mean of |x|: few outliers then no longer cost all others their resolution.
struct mean_magnitude_observer {
  static constexpr std::string_view name = "mean_magnitude";
  using options = mean_magnitude_options;

  explicit mean_magnitude_observer(options o = {}) : options_{o} {}

  void reset(qlib::tile t, qlib::grid g) {
    tile_ = t;
    sums_.assign(g.tiles(), {});
    seen_.assign(g.tiles(), qlib::range::empty());
    clipped_ = seen_;
  }
  template <class B, class T>
  void observe(const B& backend, qlib::matrix_view<const T> x) {
    backend.ranges(x, tile_, std::span{seen_});  // finds NaN and infinity, too: such a tile becomes undefined
    const qlib::tile shape = qlib::resolve(tile_, x.rows(), x.cols());
    const std::size_t grid_cols = qlib::grid_of(tile_, x.rows(), x.cols()).cols;
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t c = 0; c < x.cols(); ++c) {
        sum& s = sums_[r / shape.rows * grid_cols + c / shape.cols];
        s.magnitude += std::abs(qlib::to_float(x(r, c)));
        ++s.count;
      }
    clip();
  }
  void merge(const mean_magnitude_observer& other) {
    for (std::size_t i = 0; i < seen_.size(); ++i) {
      seen_[i] = qlib::join(seen_[i], other.seen_[i]);
      sums_[i].magnitude += other.sums_[i].magnitude;
      sums_[i].count += other.sums_[i].count;
    }
    clip();
  }
  std::span<const qlib::range> ranges() const { return clipped_; }

 private:
  struct sum {
    double magnitude = 0;
    std::size_t count = 0;
  };
  void clip() {
    for (std::size_t i = 0; i < seen_.size(); ++i) {
      const float limit = static_cast<float>(options_.multiple * sums_[i].magnitude / static_cast<double>(std::max<std::size_t>(1, sums_[i].count)));
      clipped_[i] = seen_[i].defined() ? qlib::range{std::max(seen_[i].min, -limit), std::min(seen_[i].max, limit)} : seen_[i];
    }
  }
  options options_;
  qlib::tile tile_;
  std::vector<sum> sums_;
  std::vector<qlib::range> seen_, clipped_;
};
static_assert(qlib::Observer<mean_magnitude_observer>);

/// Mean absolute error of all elements but the outliers.
template <class Quantized>
double error_of_the_rest(const std::vector<float>& w, const Quantized& q) {
  double sum = 0;
  for (std::size_t i = 0; i < w.size(); ++i)
    if (std::abs(w[i]) < 1) sum += std::abs(w[i] - static_cast<float>(q.codes()(0, i)) * q.scales()[0]);
  return sum / static_cast<double>(w.size());
}

int main() {
  std::mt19937 random{7};
  std::vector<float> w(1024);
  for (float& x : w) x = static_cast<float>(random() % 2001) / 10000.0f - 0.1f;
  w[100] = 3.0f;  // one outlier in a row of values up to 0.1
  const qlib::matrix_view<const float> weight{w.data(), 1, w.size()};

  const auto plain = qlib::quantize(weight, qlib::int8_per_channel{});
  const auto clipped = qlib::quantize<mean_magnitude_observer>(weight, qlib::int8_per_channel{});
  if (!plain || !clipped) return 1;
  const double before = error_of_the_rest(w, *plain), after = error_of_the_rest(w, *clipped);
  std::printf("mean error without the outlier: minmax %.6f, mean_magnitude %.6f\n", before, after);
  return after < before ? 0 : 1;
}
