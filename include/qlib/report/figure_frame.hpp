/// What figures share: sizes, the axis of depth, legends.
#pragma once
#include <qlib/report/svg.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0::report_parts {

struct figure_size {
  double width;
  bool narrow;
  const char* style;  ///< the page shows one of both
};
inline constexpr std::array figure_sizes{figure_size{860, false, "wide"}, figure_size{352, true, "narrow"}};

/// Layers from left to right, and at the right end what lies outside of the stack.
struct depth_axis {
  std::size_t layers = 0;
  bool outside = false;
  double from = 0, to = 1;

  double step() const { return (to - from) / static_cast<double>(std::max<std::size_t>(1, layers + outside)); }
  double middle(std::optional<std::size_t> depth) const { return from + (static_cast<double>(depth.value_or(layers)) + 0.5) * step(); }
};

inline void draw_depth_axis(svg_drawing& d, const depth_axis& x, double y) {
  d.line(x.from, y, x.to, y, "axis");
  std::size_t every = 1;
  for (std::size_t m : {2, 5, 10, 20, 50, 100, 200, 500})
    if (x.step() * static_cast<double>(every) < 30) every = m;
  const double other = std::min(x.middle(std::nullopt), x.to - 14);
  for (std::size_t i = 0; i < x.layers; i += every) {
    if (x.outside && x.middle(i) > other - 30) break;
    d.line(x.middle(i), y, x.middle(i), y + 4, "axis");
    d.text(x.middle(i), y + 16, std::to_string(i), "middle");
  }
  if (x.outside) d.text(other, y + 16, "other", "middle");
  d.text((x.from + x.to) / 2, y + 34, "layer", "unit middle");
}

inline void draw_y_axis(svg_drawing& d, const figure_axis& y, double left, double right, std::size_t most, std::string_view unit) {
  std::vector<axis_tick> ticks = y.ticks(most);
  std::stable_partition(ticks.begin(), ticks.end(), [](const axis_tick& t) { return t.value == 0; });  // zero first: others give way
  std::vector<double> taken;
  for (const axis_tick& t : ticks) {
    const double at = y.at(t.value);
    if (std::any_of(taken.begin(), taken.end(), [&](double other) { return std::abs(other - at) < 14; })) continue;
    taken.push_back(at);
    d.line(left, at, right, at, t.value == 0 ? "zero" : "grid");
    d.text(left - 6, at + 4, t.label, "end");
  }
  d.upright_text(12, (y.from + y.to) / 2, unit);
}

inline std::string legend_entry(std::size_t shape, const std::string& colour, std::string_view label) {
  svg_drawing d{12, 12, "key", label};
  d.mark(shape, 6, 6, 4.5, colour);
  return "<span>" + std::move(d).finish() + escaped(label) + "</span>";
}

/// About `length` bytes at most: what is too long loses its beginning, which is the same for all.
inline std::string shortened(const std::string& text, std::size_t length) {
  if (text.size() <= length) return text;
  std::size_t from = text.size() - length + 1;
  while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xc0) == 0x80) ++from;  // not inside of a UTF-8 sequence
  return "…" + text.substr(from);
}

/// A dotted name that lines may break behind its dots.
inline std::string breakable(std::string_view name) {
  std::string out;
  for (std::size_t at = 0; at < name.size();) {
    const std::size_t dot = std::min(name.find('.', at), name.size());
    out += escaped(name.substr(at, dot - at));
    if (dot < name.size()) out += ".<wbr>";
    at = dot + 1;
  }
  return out;
}

}  // namespace qlib::inline v0::report_parts
