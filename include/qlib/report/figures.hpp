/// The figures of the page, each `<figure>` with a caption that says how to read it. Drawn twice, for wide and for narrow windows.
#pragma once
#include <qlib/report/accuracy_report.hpp>
#include <qlib/report/svg.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// Kinds of linears, in order of appearance; a kind has the same colour and shape in every figure.
class kind_palette {
 public:
  explicit kind_palette(const accuracy_report& report);

  std::size_t shape_of(std::string_view kind) const { return index_of(kind) / colours % 3; }
  /// "c1" to "c8".
  std::string colour_of(std::string_view kind) const { return "c" + std::to_string(index_of(kind) % colours + 1); }
  const std::vector<std::string>& kinds() const { return kinds_; }

 private:
  static constexpr std::size_t colours = 8;
  std::size_t index_of(std::string_view kind) const;
  std::vector<std::string> kinds_;
};

/// Bytes of each kind of linear, of all else, and of the whole; before only where it is known.
std::string bytes_figure(const accuracy_report& report);

/// Relative error of the weights along depth; the worst ten by name. Empty when nothing was measured.
std::string weight_error_figure(const accuracy_report& report, const kind_palette& palette);

/// Smallest to largest value of each calibrated activation along depth, and what its codes cover. Empty without calibration.
std::string activation_range_figure(const accuracy_report& report, const kind_palette& palette);

/// Distribution of the activations with the highest range scores. Empty without histograms.
std::string histogram_figure(const accuracy_report& report);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/report/activation_figures.ipp>
#include <qlib/report/weight_figures.ipp>
#endif
