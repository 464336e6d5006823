#pragma once
#include <qlib/backend/scalar.hpp>
#include <qlib/observer/merge_law.hpp>
#include <qlib/observer/percentile_range.hpp>
#include <qlib/observer/tile_views.hpp>

#include <optional>
#include <string>
#include <vector>

namespace qlib::inline v0 {

struct percentile_options {
  double lower = 0.1;
  double upper = 99.9;
  bool keep_values = true;

  static constexpr auto fields() {
    return std::tuple{field{"lower", &percentile_options::lower, "percentile that becomes the range's lower end, 0 to 100"},
                      field{"upper", &percentile_options::upper, "percentile that becomes the range's upper end, 0 to 100"},
                      field{"keep_values", &percentile_options::keep_values, "any number of samples; false: one sample, whose values are not kept"}};
  }
};

/// Two percentiles of each tile's values: exact, interpolated as torch.quantile does. Zero is added to the range where codes are solved.
///
/// An exact percentile of a stream needs the stream: 4 bytes an element are kept, and `ranges()` reads them. Without `keep_values` each tile
/// takes one sample (a weight, say), is solved at once from one read of x and keeps nothing; a second sample makes it undefined.
class percentile_observer {
 public:
  static constexpr std::string_view name = "percentile";
  static constexpr merge_law law = merge_law::elements;
  using options = percentile_options;

  explicit percentile_observer(options o = {}) : options_{o} {}

  static std::optional<std::string> check(const options& o) {
    if (!(o.lower >= 0 && o.upper <= 100)) return "lower and upper are percentiles, 0 to 100";
    if (!(o.lower < o.upper)) return "lower is not below upper";
    return std::nullopt;
  }

  void reset(tile t, grid g) {
    tile_ = t;
    for (auto& v : values_) v.clear();  // their memory serves the next matrix
    values_.resize(options_.keep_values ? g.tiles() : 0);
    ranges_.assign(g.tiles(), range::empty());
    solved_ = true;
  }

  /// x: [rows, cols].
  template <class B, class T>
  void observe(const B& backend, matrix_view<const T> x) {
    if (x.size() == 0) return;
    for_each_tile(x, tile_, [&](std::size_t i, matrix_view<const T> part) {
      if (!options_.keep_values) {
        ranges_[i] = only_one(ranges_[i], percentile_range(backend, part, options_.lower, options_.upper, scratch_));
        return;
      }
      std::vector<float>& kept = values_[i];
      const std::size_t before = kept.size();
      kept.resize(before + part.size());
      backend.to_float(part, matrix_view<float>{kept.data() + before, part.rows(), part.cols()});
      solved_ = false;
    });
  }

  void merge(const percentile_observer& other) {
    for (std::size_t i = 0; i < values_.size(); ++i) values_[i].insert(values_[i].end(), other.values_[i].begin(), other.values_[i].end());
    if (options_.keep_values) solved_ = false;
    else std::transform(ranges_.begin(), ranges_.end(), other.ranges_.begin(), ranges_.begin(), only_one);
  }

  /// The first call after an `observe` or `merge` selects; it is not for several threads at once.
  std::span<const range> ranges() const {
    if (!solved_)
      for (std::size_t i = 0; i < values_.size(); ++i)
        ranges_[i] = percentile_range(scalar_backend{}, matrix_view<const float>{values_[i].data(), 1, values_[i].size()}, options_.lower,
                                      options_.upper, scratch_);
    solved_ = true;
    return ranges_;
  }

 private:
  static range only_one(const range& a, const range& b) {
    if (a.min > a.max) return b;
    return b.min > b.max ? a : range::undefined();
  }

  options options_;
  tile tile_;
  std::vector<std::vector<float>> values_;
  mutable std::vector<range> ranges_;
  mutable std::vector<float> scratch_;  ///< kept for its memory only
  mutable bool solved_ = true;
};
static_assert(Observer<percentile_observer>);

}  // namespace qlib::inline v0
