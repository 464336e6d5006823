#pragma once
#include <qlib/report/svg.hpp>

#include <algorithm>
#include <cmath>

namespace qlib::inline v0 {

namespace report_parts {

/// One decimal, and none of a whole number: drawings hold thousands of them.
inline std::string pixels(double value) {
  std::string text = fixed(std::isfinite(value) ? value : 0, 1);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text == "-0" ? "0" : text;
}

inline std::string attribute(std::string_view name, double value) { return " " + std::string{name} + "=\"" + pixels(value) + "\""; }

inline std::string style_of(std::string_view style) { return style.empty() ? "" : " class=\"" + std::string{style} + "\""; }

inline double symmetric_log(double value, double unit) { return std::asinh(value / unit / 2) / std::log(10.0); }

}  // namespace report_parts

QLIB_INLINE std::string escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char ch : text) {
    if (ch == '&') out += "&amp;";
    else if (ch == '<') out += "&lt;";
    else if (ch == '>') out += "&gt;";
    else if (ch == '"') out += "&quot;";
    else if (ch == '\'') out += "&#39;";
    else if (static_cast<unsigned char>(ch) < 0x20 || ch == 0x7f) out += "\xef\xbf\xbd";
    else out += ch;
  }
  return out;
}

QLIB_INLINE double figure_axis::at(double value) const {
  const auto place = [&](double v) {
    switch (scale) {
      case axis_scale::logarithmic:
        return std::log10(v);
      case axis_scale::symmetric:
        return report_parts::symmetric_log(v, unit);
      default:
        return v;
    }
  };
  if (!(high > low)) return (from + to) / 2;
  const double inside = std::isnan(value) ? low : std::clamp(value, low, high);
  return from + (to - from) * (place(inside) - place(low)) / (place(high) - place(low));
}

QLIB_INLINE std::vector<axis_tick> figure_axis::ticks(std::size_t most) const {
  std::vector<axis_tick> found;
  const auto inside = [&](double v) { return v >= low - (high - low) * 1e-9 && v <= high + (high - low) * 1e-9; };
  const auto add = [&](double v) {
    if (inside(v)) found.push_back({v, significant(v)});
  };
  most = std::max<std::size_t>(most, 2);
  if (scale == axis_scale::linear || (scale == axis_scale::logarithmic && high <= low * 5)) {
    const double rough = (high - low) / static_cast<double>(most), power = std::pow(10, std::floor(std::log10(rough)));
    const double step = power * (rough / power <= 1 ? 1 : rough / power <= 2 ? 2 : rough / power <= 5 ? 5 : 10);
    for (double v = std::ceil(low / step) * step; found.size() < 50 && v <= high + step * 1e-9; v += step) add(std::abs(v) < step / 1e6 ? 0 : v);
    return found;
  }
  if (scale == axis_scale::logarithmic) {
    const int first = static_cast<int>(std::floor(std::log10(low))), last = static_cast<int>(std::ceil(std::log10(high)));
    const std::vector<double> steps = last - first <= 2 ? std::vector<double>{1, 2, 5} : std::vector<double>{1};
    const int every = std::max(1, (last - first) / static_cast<int>(most) + 1);
    for (int e = first; e <= last; e += steps.size() > 1 ? 1 : every)
      for (double m : steps)
        if (const double v = m * std::pow(10, e); v >= low * (1 - 1e-9) && v <= high * (1 + 1e-9)) found.push_back({v, significant(v, 1)});
    return found;
  }
  const double largest = std::max(std::abs(low), std::abs(high));
  const int first = static_cast<int>(std::ceil(std::log10(unit) - 1e-9)), last = static_cast<int>(std::floor(std::log10(largest) + 1e-9));
  const int every = std::max(1, 2 * (last - first + 1) / static_cast<int>(most));
  add(0);
  for (int e = last; e >= first; e -= every)
    for (double sign : {-1.0, 1.0}) add(sign * std::pow(10, e));
  std::sort(found.begin(), found.end(), [](const axis_tick& a, const axis_tick& b) { return a.value < b.value; });
  return found;
}

QLIB_INLINE figure_axis logarithmic_axis(double low, double high, double from, double to) {
  const auto rounded = [](double v, bool up) {
    const double power = std::pow(10, std::floor(std::log10(v)));
    double best = up ? power * 10 : power;
    for (double m : {1.0, 2.0, 5.0}) {
      if (up && m * power >= v * (1 - 1e-9)) return m * power;
      if (!up && m * power <= v * (1 + 1e-9)) best = m * power;
    }
    return best;
  };
  figure_axis axis{rounded(low, false), rounded(high, true), from, to, axis_scale::logarithmic};
  if (axis.high / axis.low < 2) {  // noise should not look like structure
    axis.low = rounded(axis.low * 0.71, false);
    axis.high = rounded(axis.high * 1.41, true);
  }
  return axis;
}

QLIB_INLINE svg_drawing::svg_drawing(double width, double height, std::string_view style, std::string_view label) {
  out_ = "<svg class=\"" + std::string{style} + "\" viewBox=\"0 0 " + report_parts::pixels(width) + " " + report_parts::pixels(height) +
         "\" role=\"img\" aria-label=\"" + escaped(label) + "\">\n";
}

QLIB_INLINE void svg_drawing::close(std::string_view element, std::string_view tip) {
  if (tip.empty()) out_ += "/>\n";
  else out_ += "><title>" + escaped(tip) + "</title></" + std::string{element} + ">\n";
}

QLIB_INLINE void svg_drawing::line(double x1, double y1, double x2, double y2, std::string_view style) {
  using report_parts::attribute;
  out_ += "<line" + attribute("x1", x1) + attribute("y1", y1) + attribute("x2", x2) + attribute("y2", y2) + report_parts::style_of(style) + "/>\n";
}

QLIB_INLINE void svg_drawing::box(double x, double y, double width, double height, std::string_view style, std::string_view tip) {
  using report_parts::attribute;
  out_ += "<rect" + attribute("x", x) + attribute("y", y) + attribute("width", std::max(0.0, width)) + attribute("height", std::max(0.0, height)) +
          report_parts::style_of(style);
  close("rect", tip);
}

QLIB_INLINE void svg_drawing::mark(std::size_t shape, double x, double y, double r, std::string_view style, std::string_view tip) {
  using report_parts::attribute;
  using report_parts::pixels;
  if (shape == 0) {
    out_ += "<circle" + attribute("cx", x) + attribute("cy", y) + attribute("r", r) + report_parts::style_of(style);
    return close("circle", tip);
  }
  if (shape != 1) return box(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8, style, tip);
  const double d = r * 1.25;
  out_ += "<path d=\"M" + pixels(x) + " " + pixels(y - d) + "L" + pixels(x + d) + " " + pixels(y) + "L" + pixels(x) + " " + pixels(y + d) + "L" +
          pixels(x - d) + " " + pixels(y) + "Z\"" + report_parts::style_of(style);
  close("path", tip);
}

QLIB_INLINE void svg_drawing::text(double x, double y, std::string_view content, std::string_view style) {
  out_ += "<text" + report_parts::attribute("x", x) + report_parts::attribute("y", y) + report_parts::style_of(style) + ">" + escaped(content) +
          "</text>\n";
}

QLIB_INLINE void svg_drawing::upright_text(double x, double y, std::string_view content) {
  const std::string at = report_parts::pixels(x) + " " + report_parts::pixels(y);
  out_ += "<text class=\"unit middle\" transform=\"translate(" + at + ") rotate(-90)\">" + escaped(content) + "</text>\n";
}

QLIB_INLINE std::string svg_drawing::finish() && { return std::move(out_ += "</svg>\n"); }

}  // namespace qlib::inline v0
