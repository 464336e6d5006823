/// Parts of figures: axes, marks and text as inline SVG. Colours are classes of the page's style sheet.
#pragma once
#include <qlib/report/number_text.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// `text` for HTML content and attributes in quotes. Control characters become U+FFFD.
std::string escaped(std::string_view text);

enum class axis_scale {
  linear,
  logarithmic,  ///< needs positive bounds
  symmetric,    ///< linear below `unit`, logarithmic in both directions beyond
};

struct axis_tick {
  double value = 0;
  std::string label;
};

/// Maps [low, high] to [from, to] of the drawing.
struct figure_axis {
  double low = 0, high = 1, from = 0, to = 1;
  axis_scale scale = axis_scale::linear;
  double unit = 1;

  /// Values beyond the bounds land on them.
  double at(double value) const;
  /// At most about `most`, at powers of ten where the scale is logarithmic.
  std::vector<axis_tick> ticks(std::size_t most) const;
};

/// Bounds of a logarithmic axis that holds [low, high]: the next 1, 2 or 5 times a power of ten.
figure_axis logarithmic_axis(double low, double high, double from, double to);

/// One drawing. Lengths are pixels at full size; `style` is a list of classes.
class svg_drawing {
 public:
  svg_drawing(double width, double height, std::string_view style, std::string_view label);

  void line(double x1, double y1, double x2, double y2, std::string_view style);
  /// `tip` is shown while the pointer rests on it.
  void box(double x, double y, double width, double height, std::string_view style, std::string_view tip = {});
  /// shape 0: disc, 1: diamond, 2: square.
  void mark(std::size_t shape, double x, double y, double radius, std::string_view style, std::string_view tip = {});
  void text(double x, double y, std::string_view content, std::string_view style = {});
  /// Along the left side, read from bottom to top.
  void upright_text(double x, double y, std::string_view content);

  std::string finish() &&;

 private:
  void close(std::string_view element, std::string_view tip);
  std::string out_;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/report/svg.ipp>
#endif
