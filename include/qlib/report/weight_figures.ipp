#pragma once
#include <qlib/report/figure_frame.hpp>
#include <qlib/report/figures.hpp>
#include <qlib/report/module_place.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace qlib::inline v0 {

QLIB_INLINE kind_palette::kind_palette(const accuracy_report& report) {
  std::set<std::string, std::less<>> seen;
  const auto add = [&](const std::string& name) {
    if (std::string kind = place_of(name).kind; seen.insert(kind).second) kinds_.push_back(std::move(kind));
  };
  for (const reported_layer& l : report.layers) add(l.name);
  if (report.calibration)
    for (const reported_operand& o : report.calibration->operands) add(o.name);
}

QLIB_INLINE std::size_t kind_palette::index_of(std::string_view kind) const {
  return static_cast<std::size_t>(std::find(kinds_.begin(), kinds_.end(), kind) - kinds_.begin());
}

namespace report_parts {

struct byte_row {
  std::string label;
  std::uint64_t before = 0, after = 0;
};

inline std::vector<byte_row> byte_rows(const accuracy_report& r) {
  std::vector<byte_row> rows{{"all tensors", r.input_bytes, r.output_bytes}};
  std::map<std::string, std::size_t> at;
  std::uint64_t before = 0, after = 0;
  for (const reported_layer& l : r.layers) {
    const auto [place, added] = at.try_emplace(place_of(l.name).kind, rows.size());
    if (added) rows.push_back({place->first, 0, 0});
    rows[place->second].before += l.bytes_before;
    rows[place->second].after += l.bytes_after;
    before += l.bytes_before;
    after += l.bytes_after;
  }
  std::stable_sort(rows.begin() + 1, rows.end(), [](const byte_row& a, const byte_row& b) { return a.after > b.after; });
  const auto rest = [](std::uint64_t all, std::uint64_t part) { return all > part ? all - part : 0; };
  byte_row others{"all else", rest(r.input_bytes, before), rest(r.output_bytes, after)};
  if (others.after > 0) rows.push_back(others);
  return rows;
}

inline std::string draw_bytes(const accuracy_report& r, const figure_size& size) {
  const std::vector<byte_row> rows = byte_rows(r);
  const bool both = r.input_bytes > 0;
  const double label = size.narrow ? 4 : 190, end = 96, bar = 11, above = size.narrow ? 18 : 0;
  const double row = above + (both ? 2 * bar + 3 : bar) + 11, top = 4;
  const double height = top + row * static_cast<double>(rows.size()) + 34;
  svg_drawing d{size.width, height, size.style, "Bytes before and after, by kind of layer"};
  std::uint64_t largest = 1;
  for (const byte_row& b : rows) largest = std::max({largest, b.before, b.after});
  double unit = 1;
  std::string unit_name = "B";
  for (const auto& [factor, name] : {std::pair{1e3, "kB"}, std::pair{1e6, "MB"}, std::pair{1e9, "GB"}, std::pair{1e12, "TB"}})
    if (static_cast<double>(largest) >= factor) unit = factor, unit_name = name;
  const figure_axis x{0, static_cast<double>(largest) / unit, label + 2, size.width - end};
  const double bottom = top + row * static_cast<double>(rows.size());
  for (const axis_tick& t : x.ticks(size.narrow ? 3 : 6)) {
    d.line(x.at(t.value), top, x.at(t.value), bottom, "grid");
    d.text(x.at(t.value), bottom + 14, t.label, "middle");
  }
  d.text((x.from + x.to) / 2, bottom + 29, unit_name, "unit middle");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const byte_row& b = rows[i];
    const double y = top + row * static_cast<double>(i) + 4 + above, middle = y + (both ? bar + 1.5 : bar / 2);
    if (size.narrow) d.text(2, y - 5, b.label, "label");
    else d.text(label - 8, middle + 4, shortened(b.label, 28), "label end");
    const auto draw = [&](std::uint64_t bytes, double at, const char* style, const char* when) {
      const std::string text = bytes_text(static_cast<double>(bytes));
      const double to = x.at(static_cast<double>(bytes) / unit);
      d.box(x.from, at, std::max(1.0, to - x.from), bar, style, b.label + " " + when + ": " + text);
      d.text(to + 5, at + bar - 1.5, text, "small");
    };
    if (both) draw(b.before, y, "before", "before");
    draw(b.after, both ? y + bar + 2 : y, "after", both ? "after" : "stored");
  }
  return std::move(d).finish();
}

/// The linears of one kind at one depth: one, or the experts.
struct error_point {
  std::optional<std::size_t> depth;
  std::string kind;
  const reported_layer* worst = nullptr;
  double low = 0, high = 0;
  std::size_t count = 0;
};

inline std::vector<error_point> error_points(const accuracy_report& r) {
  std::vector<error_point> points;
  std::map<std::pair<std::size_t, std::string>, std::size_t> at;  // depth + 1, kind
  for (const reported_layer& l : r.layers) {
    if (!l.error) continue;
    const module_place place = place_of(l.name);
    const double e = l.error->relative();
    const auto [found, added] = at.try_emplace({place.depth ? *place.depth + 1 : 0, place.kind}, points.size());
    if (added) points.push_back({place.depth, place.kind, &l, e, e, 0});
    error_point& p = points[found->second];
    ++p.count;
    p.low = std::min(p.low, e);
    if (e > p.high) p.high = e, p.worst = &l;
  }
  return points;
}

inline std::string decibel(double relative) { return relative > 0 ? fixed(-20 * std::log10(relative), 1) + " dB" : "exact"; }

inline std::string draw_errors(const std::vector<error_point>& points, const std::vector<const error_point*>& worst, const kind_palette& palette,
                               const figure_size& size) {
  const double height = size.narrow ? 300 : 340, left = 62, right = size.width - 14, top = 10, bottom = height - 42;
  svg_drawing d{size.width, height, size.style, "Relative error of the weights along depth"};
  double low = 0, high = 0;
  for (const error_point& p : points) {
    if (p.low > 0) low = low > 0 ? std::min(low, p.low) : p.low;
    high = std::max(high, p.high);
  }
  const figure_axis y = low > 0 ? logarithmic_axis(low, high, bottom, top) : logarithmic_axis(1e-4, 1, bottom, top);
  std::size_t slots = 0;
  bool outside = false;
  for (const error_point& p : points) {
    if (p.depth) slots = std::max(slots, *p.depth + 1);
    else outside = true;
  }
  const depth_axis x{slots, outside, left, right};
  draw_y_axis(d, y, left, right, 6, "relative error");
  draw_depth_axis(d, x, bottom);
  std::map<std::string, double> shift;  // kinds side by side within a layer
  for (std::size_t k = 0; k < palette.kinds().size(); ++k) {
    const auto n = static_cast<double>(palette.kinds().size());
    shift[palette.kinds()[k]] = n > 1 ? (static_cast<double>(k) / (n - 1) - 0.5) * 0.7 * x.step() : 0;
  }
  const double radius = std::clamp(x.step() / 5, size.narrow ? 2.5 : 3.0, 4.5);
  for (const error_point& p : points) {
    const double px = x.middle(p.depth) + (p.depth ? shift[p.kind] : 0);
    if (p.count > 1) d.line(px, y.at(p.low), px, y.at(p.high), "whisker");
    std::string tip = p.worst->name + ": " + percent(p.high) + ", " + decibel(p.high) + ", " + p.worst->quant_type;
    if (p.count > 1) tip += "; the worst of " + std::to_string(p.count) + ", the best " + percent(p.low);
    d.mark(palette.shape_of(p.kind), px, y.at(p.high), radius, palette.colour_of(p.kind) + " dot", tip);
  }
  std::vector<std::pair<double, double>> taken;
  for (std::size_t i = 0; i < worst.size(); ++i) {
    const error_point& p = *worst[i];
    const double px = x.middle(p.depth) + (p.depth ? shift[p.kind] : 0);
    double py = y.at(p.high) - radius - 4;
    const auto clash = [&](double at) {
      return std::any_of(taken.begin(), taken.end(), [&](const auto& t) { return std::abs(t.first - px) < 13 && std::abs(t.second - at) < 11; });
    };
    while (py > top + 8 && clash(py)) py -= 4;
    if (clash(py) || py <= top) continue;  // the list below has it
    taken.emplace_back(px, py);
    d.text(px, py, std::to_string(i + 1), "rank middle");
  }
  return std::move(d).finish();
}

}  // namespace report_parts

QLIB_INLINE std::string bytes_figure(const accuracy_report& report) {
  const bool both = report.input_bytes > 0;
  std::string out = "<figure id=\"bytes\"><h2>" + std::string{both ? "Bytes before and after" : "Bytes"} + "</h2>\n";
  if (both) out += "<p class=\"legend\"><span><i class=\"before\"></i>before</span><span><i class=\"after\"></i>after</span></p>\n";
  for (const report_parts::figure_size& size : report_parts::figure_sizes) out += report_parts::draw_bytes(report, size);
  out += "<figcaption>";
  out += both ? "Each pair of bars is one kind of linear, summed over all layers: the weights as they were, and all that is stored for them now "
                "(codes, scales, zero points)."
              : "Each bar is one kind of quantized linear, summed over all layers: codes, scales and zero points.";
  out += " “All else” was left as it was: embeddings, norms, biases and layers kept float. 1 MB is 10<sup>6</sup> bytes.</figcaption></figure>\n";
  return out;
}

QLIB_INLINE std::string weight_error_figure(const accuracy_report& report, const kind_palette& palette) {
  const auto points = report_parts::error_points(report);
  if (points.empty()) return {};
  std::vector<const report_parts::error_point*> worst;
  for (const auto& p : points) worst.push_back(&p);
  std::stable_sort(worst.begin(), worst.end(), [](const auto* a, const auto* b) { return a->high > b->high; });
  if (worst.size() > 10) worst.resize(10);
  std::string out = "<figure id=\"weights\"><h2>Weight error along depth</h2>\n<p class=\"legend\">";
  for (const std::string& kind : palette.kinds())
    if (std::any_of(points.begin(), points.end(), [&](const auto& p) { return p.kind == kind; }))
      out += report_parts::legend_entry(palette.shape_of(kind), palette.colour_of(kind), kind);
  out += "</p>\n";
  for (const report_parts::figure_size& size : report_parts::figure_sizes) out += report_parts::draw_errors(points, worst, palette, size);
  out +=
      "<figcaption>Root of the mean square error of a weight matrix over the root of its mean square, on a logarithmic axis: 1 % is 40 dB. "
      "Lower is better; a dot far above its kind is a layer to look at. Where a dot stands for several experts it is the worst of them, and a "
      "line reaches down to the best. The worst are numbered:</figcaption>\n<ol class=\"worst\">";
  for (const auto* p : worst)
    out += "<li><code>" + report_parts::breakable(p->worst->name) + "</code> <span>" + percent(p->high) + ", " + report_parts::decibel(p->high) +
           ", " + escaped(p->worst->quant_type) + "</span></li>\n";
  return out + "</ol></figure>\n";
}

}  // namespace qlib::inline v0
