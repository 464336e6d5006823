#pragma once
#include <qlib/concepts.hpp>
#include <qlib/observer/merge_law.hpp>
#include <qlib/observer/sample_history.hpp>
#include <qlib/observer/tile_views.hpp>

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace qlib::inline v0 {

struct mse_options {
  quant_spec spec{.rule = scale_rule::compressed_tensors};  ///< what the range is for; its granularity is not looked at
  int grid = 100;
  double maxshrink = 0.2;
  int patience = 0;
  double norm = 2.4;
  double expand = 1.0;
  double averaging_constant = 0.01;

  static constexpr auto fields() {
    return std::tuple{field{"grid", &mse_options::grid, "shrinking steps in the whole range"},
                      field{"maxshrink", &mse_options::maxshrink, "share of the range that shrinking may take off, below 1"},
                      field{"patience", &mse_options::patience, "stop after so many steps that improved no tile of the sample; 0: never"},
                      field{"norm", &mse_options::norm, "exponent of the error of a value"},
                      field{"expand", &mse_options::expand, "the range is searched from this multiple of the extremes"},
                      field{"averaging_constant", &mse_options::averaging_constant, "weight of each sample after the first"}};
  }
};

/// The multiple of each tile's extremes whose quantization error, sum of |x^ - x|^norm, is the smallest.
///
/// LLM-Compressor's `mse` (moving average over samples) and, fed once as weights are, its `memoryless_mse`: candidates are (1 - i / grid) times
/// both extremes, i = 0 ... int(maxshrink * grid) - 1, and a later one wins only if it is strictly better. Errors are summed in f64, where the
/// original sums in the weight's dtype. Its `patience` is 5 and counts over the whole tensor; off, a matrix may come in strips.
/// Cost: 20 quantizations and powers of each value; memory: 5 bytes an element of one tile.
class mse_observer {
 public:
  static constexpr std::string_view name = "mse";
  static constexpr merge_law law = merge_law::sequence;
  using options = mse_options;

  explicit mse_observer(options o = {}) : options_{o}, history_{o.averaging_constant} { ranges_are_for(o.spec); }

  static std::optional<std::string> check(const options& o) {
    if (o.grid < 1) return "grid is at least 1";
    if (!(o.maxshrink >= 0 && o.maxshrink < 1)) return "maxshrink is from 0 to below 1";
    if (static_cast<int>(o.maxshrink * o.grid) < 1) return "maxshrink * grid leaves no candidate";
    if (!(o.norm > 0 && o.norm <= 16)) return "norm is above 0, at most 16";
    if (!(o.expand > 0 && o.expand <= 16)) return "expand is above 0, at most 16";
    if (o.patience < 0) return "patience is at least 0";
    if (!(o.averaging_constant >= 0 && o.averaging_constant <= 1)) return "averaging_constant is from 0 to 1";
    return std::nullopt;
  }

  /// What the range is for, if it is not options().spec.
  void ranges_are_for(const quant_spec& spec) {
    options_.spec = spec;
    options_.spec.granularity = tile::per_tensor();
  }

  void reset(tile t, grid g) {
    tile_ = t;
    history_.reset(g.tiles());
  }

  /// x: [rows, cols], one sample.
  template <class B, class T>
  void observe(const B& backend, matrix_view<const T> x) {
    if (x.size() == 0) return;
    history_.add([&](std::span<range> sample) {
      backend.ranges(x, tile_, sample);
      search(backend, x, sample);
    });
  }

  /// `later` saw the samples that come next.
  void merge(const mse_observer& later) { history_.merge(later.history_); }

  std::span<const range> ranges() const { return history_.ranges(); }

 private:
  /// Replaces extremes by the best candidate.
  template <class B, class T>
  void search(const B& backend, matrix_view<const T> x, std::span<range> seen) {
    extremes_.assign(seen.begin(), seen.end());
    errors_.assign(seen.size(), std::numeric_limits<double>::infinity());
    const int steps = static_cast<int>(options_.maxshrink * options_.grid);
    for (int i = 0, idle = 0; i < steps && (options_.patience == 0 || idle < options_.patience); ++i, ++idle) {
      const float p = static_cast<float>(1 - static_cast<double>(i) / options_.grid), expand = static_cast<float>(options_.expand);
      for_each_tile(x, tile_, [&](std::size_t t, matrix_view<const T> part) {
        if (!extremes_[t].defined()) return;
        const range candidate{p * (expand * extremes_[t].min), p * (expand * extremes_[t].max)};
        const double e = error_of(backend, part, candidate, errors_[t]);
        if (!(e < errors_[t])) return;
        errors_[t] = e;
        seen[t] = candidate;
        idle = -1;
      });
    }
  }

  /// The error of a candidate, or a part of it that is no less than `best`.
  template <class B, class T>
  double error_of(const B& backend, matrix_view<const T> x, range candidate, double best) {
    const scale_and_zero q = solve_qparams(candidate, options_.spec);
    const bool zeros = !options_.spec.symmetric && options_.spec.type == number::integer;
    const const_qparams_view params{{1, 1}, {&q.scale, 1}, {&q.zero_point, zeros ? 1u : 0u}};
    codes_.resize(x.size());
    values_.resize(x.size());
    const matrix_view<std::int8_t> codes{codes_.data(), x.rows(), x.cols()};
    backend.quantize(x, options_.spec, params, codes);
    backend.dequantize(codes, options_.spec, params, matrix_view<float>{values_.data(), x.rows(), x.cols()});
    double sum = 0;
    const float norm = static_cast<float>(options_.norm);
    for (std::size_t r = 0; r < x.rows(); ++r)
      for (std::size_t c = 0; c < x.cols() && sum < best; ++c) {
        const float e = std::fabs(values_[r * x.cols() + c] - to_float(x(r, c)));
        sum += norm == 2.0f ? static_cast<double>(e) * e : static_cast<double>(std::pow(e, norm));
      }
    return sum;
  }

  options options_;
  tile tile_;
  sample_history history_;
  std::vector<range> extremes_;  // these are kept for their memory only
  std::vector<double> errors_;
  std::vector<std::int8_t> codes_;
  std::vector<float> values_;
};
static_assert(Observer<mse_observer>);

}  // namespace qlib::inline v0
