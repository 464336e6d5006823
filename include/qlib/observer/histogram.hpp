#pragma once
#include <qlib/concepts.hpp>
#include <qlib/observer/growing_histogram.hpp>
#include <qlib/observer/merge_law.hpp>
#include <qlib/observer/tile_views.hpp>

#include <vector>

namespace qlib::inline v0 {

struct histogram_options {
  int bins = 2048;
  int levels = 256;
  int upsample = 16;

  static constexpr auto fields() {
    return std::tuple{
        field{"bins", &histogram_options::bins, "bins of the histogram"},
        field{"levels", &histogram_options::levels, "codes whose squared error the range minimises: 256 for int8"},
        field{"upsample", &histogram_options::upsample, "parts of a bin when the limits grow: 16 (msModelSlim v1), 128 (v0, torch 1.13)"}};
  }
};

/// The range of least squared quantization error by a histogram of each tile: outliers are clipped where that pays.
///
/// torch.ao's HistogramObserver and msModelSlim's `act_method 2` (specs: growth as in PyTorch up to 2.0, torch's search; see growing_histogram).
/// A sample whose values are all equal leaves the histogram as it is, and is the range only while nothing else was seen. A tile with a
/// NaN or an infinity becomes undefined. Cost: two reads of x and about 0.1 ms a tile in `ranges()`; memory: 8 bytes a bin and tile.
///
/// `merge` keeps portions apart; `ranges` joins them from the first to the last, growing the limits by the same rule. So it is associative, but
/// the counts of a later portion are then known by its own bins only, and the range differs a little from that of the whole.
class histogram_observer {
 public:
  static constexpr std::string_view name = "histogram";
  static constexpr merge_law law = merge_law::portions;
  using options = histogram_options;

  explicit histogram_observer(options o = {}) : options_{o} {}

  void reset(tile t, grid g) {
    tile_ = t;
    tiles_.assign(g.tiles(), {});
    ranges_.assign(g.tiles(), range::empty());
    searched_ = true;
  }

  /// x: [rows, cols], one sample.
  template <class B, class T>
  void observe(const B& backend, matrix_view<const T> x) {
    if (x.size() == 0) return;
    sample_.assign(tiles_.size(), range::empty());
    backend.ranges(x, tile_, std::span{sample_});
    for_each_tile(x, tile_, [&](std::size_t i, matrix_view<const T> part) {
      tile_state& state = tiles_[i];
      const range seen = sample_[i];
      if (!seen.defined() || seen.min == seen.max) {
        state.constants = join(state.constants, seen);
        return;
      }
      if (state.portions.empty()) state.portions.emplace_back();
      growing_histogram& live = state.portions.back();
      live.grow(seen, static_cast<std::size_t>(options_.bins), static_cast<std::size_t>(options_.upsample));
      for (std::size_t r = 0; r < part.rows();) {  // counts are of 32 bits
        const std::size_t rows = std::min(part.rows() - r, std::max<std::size_t>(1, (std::size_t{1} << 31) / part.cols()));
        counts_.assign(live.counts().size(), 0);
        backend.histogram(part.strip(r, rows), live.limits(), std::span{counts_});
        live.add(counts_);
        r += rows;
      }
    });
    searched_ = false;
  }

  /// `later` saw the samples that come next.
  void merge(const histogram_observer& later) {
    for (std::size_t i = 0; i < tiles_.size(); ++i) {
      tiles_[i].constants = join(tiles_[i].constants, later.tiles_[i].constants);
      tiles_[i].portions.insert(tiles_[i].portions.end(), later.tiles_[i].portions.begin(), later.tiles_[i].portions.end());
    }
    searched_ = false;
  }

  /// The first call after an `observe` or `merge` searches; it is not for several threads at once.
  std::span<const range> ranges() const {
    if (!searched_)
      for (std::size_t i = 0; i < tiles_.size(); ++i) ranges_[i] = search(tiles_[i]);
    searched_ = true;
    return ranges_;
  }

  /// The counts of a tile and their limits; empty while no sample had two different values. Portions that were merged are joined.
  growing_histogram histogram_of(std::size_t index) const { return joined(tiles_[index]); }

 private:
  struct tile_state {
    range constants;  ///< of samples whose values were all equal, or undefined
    std::vector<growing_histogram> portions;
  };

  growing_histogram joined(const tile_state& state) const {
    growing_histogram all;
    for (const growing_histogram& portion : state.portions) all.join_with(portion, static_cast<std::size_t>(options_.upsample));
    return all;
  }

  range search(const tile_state& state) const {
    if (state.portions.empty() || !state.constants.defined()) return state.constants;
    if (state.portions.size() == 1) return search(state.portions.front());
    return search(joined(state));
  }
  range search(const growing_histogram& h) const { return least_error_range(h.counts(), h.limits(), static_cast<std::size_t>(options_.levels)); }

  options options_;
  tile tile_;
  std::vector<tile_state> tiles_;
  std::vector<range> sample_;          ///< kept for its memory only
  std::vector<std::uint32_t> counts_;  ///< kept for its memory only
  mutable std::vector<range> ranges_;
  mutable bool searched_ = true;
};
static_assert(Observer<histogram_observer>);

}  // namespace qlib::inline v0
