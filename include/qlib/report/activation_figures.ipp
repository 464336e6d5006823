#pragma once
#include <qlib/report/figure_frame.hpp>
#include <qlib/report/figures.hpp>
#include <qlib/report/module_place.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

namespace qlib::inline v0 {

namespace report_parts {

/// One activation: what several linears read at one depth, or the inputs of one kind of expert joined.
struct activation {
  std::optional<std::size_t> depth;
  std::string kind, label;                  ///< kind of the first linear; label: "self_attn.q_proj, k_proj, v_proj"
  const reported_operand* worst = nullptr;  ///< with the highest range score
  range seen, covered;
  std::size_t tokens = 0, count = 1;
};

inline std::vector<activation> activations_of(const reported_calibration& c) {
  std::vector<activation> found;
  std::map<std::pair<std::size_t, std::string>, std::size_t> at;  // depth + 1, kind
  for (const reported_operand& o : c.operands) {
    if (!std::isfinite(o.seen.min) || !std::isfinite(o.seen.max)) continue;
    const module_place place = place_of(o.name);
    const auto [entry, added] = at.try_emplace({place.depth ? *place.depth + 1 : 0, place.kind}, found.size());
    if (added) {
      found.push_back({place.depth, place.kind, place.kind, &o, o.seen, o.covered, o.tokens, 1});
      continue;
    }
    activation& a = found[entry->second];
    ++a.count;
    a.tokens += o.tokens;
    a.seen = join(a.seen, o.seen);
    a.covered = join(a.covered, o.covered);
    if (o.range_score > a.worst->range_score) a.worst = &o;
  }
  std::vector<activation> merged;  // linears that read the same rows
  for (activation& a : found) {
    const auto same = std::find_if(merged.begin(), merged.end(), [&](const activation& b) {
      return a.depth == b.depth && a.seen.min == b.seen.min && a.seen.max == b.seen.max && a.tokens == b.tokens &&
             a.worst->range_score == b.worst->range_score;
    });
    if (same == merged.end()) merged.push_back(std::move(a));
    else same->label += ", " + a.kind.substr(a.kind.rfind('.') + 1);
  }
  return merged;
}

inline std::string range_text(const range& r) { return significant(r.min) + " to " + significant(r.max); }

inline std::string draw_ranges(const std::vector<activation>& all, const kind_palette& palette, const figure_size& size) {
  const double height = size.narrow ? 320 : 360, left = 62, right = size.width - 10, top = 10, bottom = height - 42;
  svg_drawing d{size.width, height, size.style, "Range of each activation along depth"};
  double low = 0, high = 0;
  std::vector<double> largest;
  std::size_t slots = 0;
  bool outside = false;
  std::map<std::size_t, std::size_t> at_depth;
  for (const activation& a : all) {
    low = std::min<double>(low, a.seen.min);
    high = std::max<double>(high, a.seen.max);
    largest.push_back(std::max(std::abs(a.seen.min), std::abs(a.seen.max)));
    if (a.depth) slots = std::max(slots, *a.depth + 1);
    else outside = true;
    ++at_depth[a.depth ? *a.depth + 1 : 0];
  }
  std::sort(largest.begin(), largest.end());
  const double median = std::max<double>(largest[largest.size() / 2], 1e-30);
  figure_axis y{low * 1.25, high * 1.25, bottom, top, axis_scale::symmetric, std::pow(10, std::floor(std::log10(median)) - 1)};
  if (!(y.high > y.low)) y.high = y.low + 1;
  const depth_axis x{slots, outside, left, right};
  draw_y_axis(d, y, left, right, 10, "value of the activation");
  std::map<std::size_t, std::size_t> placed;
  for (const activation& a : all) {
    const std::size_t key = a.depth ? *a.depth + 1 : 0;
    const double slot = x.step() * 0.86 / static_cast<double>(at_depth[key]);
    const double begin = x.middle(a.depth) - x.step() * 0.43 + slot * static_cast<double>(placed[key]++);
    const double width = std::clamp(slot * 0.72, 0.8, 14.0), px = begin + (slot - width) / 2;
    std::string tip = a.worst->name + " (" + a.label + "): " + range_text(a.seen) + "; codes cover " + range_text(a.covered) + "; range score " +
                      significant(a.worst->range_score);
    if (a.count > 1) tip += "; " + std::to_string(a.count) + " experts joined";
    const double over = slot < 5 ? 0 : 1.5;
    const double y1 = y.at(a.seen.max), y2 = y.at(a.seen.min);
    d.box(px, y1, width, std::max(1.0, y2 - y1), palette.colour_of(a.kind), tip);
    for (const float end : {a.covered.min, a.covered.max})
      if (std::isfinite(end)) d.line(px - over, y.at(end), px + width + over, y.at(end), over > 0 ? "covered" : "covered thin");
  }
  draw_depth_axis(d, x, bottom);
  return std::move(d).finish();
}

/// Places of values on both sides of a gap that stands for zero, each side logarithmic.
struct signed_log_axis {
  int lowest, highest;  ///< exponents of two at the inner and outer ends
  double from, to;
  static constexpr double gap = 16;

  double middle() const { return (from + to) / 2; }
  double at_power(double exponent, bool negative) const {
    const double inside = std::clamp<double>(exponent, lowest, highest) - lowest;
    const double offset = gap / 2 + inside / (highest - lowest) * ((to - from - gap) / 2);
    return negative ? middle() - offset : middle() + offset;
  }
  double at(double value) const { return value == 0 ? middle() : at_power(std::log2(std::abs(value)), value < 0); }
};

/// Share of values with magnitude below `limit`; values spread evenly within a power of two.
inline double share_below(const magnitude_histogram& h, double limit, bool negative) {
  const auto& counts = negative ? h.negative : h.positive;
  double sum = limit >= std::ldexp(1.0, magnitude_histogram::lowest) ? static_cast<double>(h.below) / 2 : 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double low = std::ldexp(1.0, magnitude_histogram::lowest + static_cast<int>(i));
    sum += static_cast<double>(counts[i]) * std::clamp(limit / low - 1, 0.0, 1.0);
  }
  return sum;
}

struct strip {
  const activation* from;
  const magnitude_histogram* histogram;
  double to_zero = 0, clipped = 0;  ///< shares; NaN without a single scale
};

inline strip strip_of(const activation& a) {
  strip s{&a, &*a.worst->histogram};
  const auto total = static_cast<double>(std::max<std::uint64_t>(1, s.histogram->total()));
  s.to_zero = std::nan("");
  if (a.worst->scale) {
    const double half = *a.worst->scale / 2.0;
    s.to_zero = (share_below(*s.histogram, half, false) + share_below(*s.histogram, half, true)) / total;
  }
  const range& c = a.worst->covered;
  // Beyond what was seen there is nothing, whatever the width of the last bin.
  const auto beyond = [&](double end, double seen, bool negative) {
    if (!std::isfinite(end) || end >= seen) return 0.0;
    const auto& counts = negative ? s.histogram->negative : s.histogram->positive;
    double all = static_cast<double>(s.histogram->below) / 2;
    for (std::uint64_t n : counts) all += static_cast<double>(n);
    return all - share_below(*s.histogram, end, negative);
  };
  s.clipped = (beyond(-c.min, -a.worst->seen.min, true) + beyond(c.max, a.worst->seen.max, false)) / total;
  return s;
}

inline std::string draw_histograms(const std::vector<strip>& strips, const figure_size& size) {
  const double name = size.narrow ? 36 : 18, bars = 44, row = name + bars + 12, left = 8, right = size.width - 8;
  const double bottom = row * static_cast<double>(strips.size()), height = bottom + 38;
  svg_drawing d{size.width, height, size.style, "Histograms of the activations with the highest range scores"};
  int first = magnitude_histogram::highest, last = magnitude_histogram::lowest;
  for (const strip& s : strips)
    for (std::size_t i = 0; i < magnitude_histogram::bins; ++i)
      if (s.histogram->negative[i] || s.histogram->positive[i]) {
        first = std::min(first, magnitude_histogram::lowest + static_cast<int>(i));
        last = std::max(last, magnitude_histogram::lowest + static_cast<int>(i));
      }
  last = std::max(last, magnitude_histogram::lowest);
  first = std::max(std::min(first, last), last - (size.narrow ? 15 : 23));
  const signed_log_axis x{first, last + 1, left, right};
  const int decades = static_cast<int>((x.highest - x.lowest) * 0.30103) + 1;
  const int every = std::max(1, static_cast<int>(decades * (size.narrow ? 36 : 44) / ((x.to - x.from) / 2)) + 1);
  for (int e = -7; e <= 5; ++e) {
    const double value = std::pow(10, e), power = std::log2(value);
    if (e % every != 0 || power < x.lowest + 0.5 || power > x.highest) continue;
    if (x.at_power(power, false) - x.middle() < 10 + 4 * static_cast<double>(significant(value).size())) continue;  // the label of zero is there
    for (const bool negative : {true, false}) {
      const double px = x.at_power(power, negative);
      d.line(px, 0, px, bottom, "grid");
      d.text(px, bottom + 14, (negative ? "-" : "") + significant(value), "middle");
    }
  }
  d.text(x.middle(), bottom + 14, "0", "middle");
  d.text(x.middle(), bottom + 31, "value of the activation", "unit middle");
  for (std::size_t i = 0; i < strips.size(); ++i) {
    const strip& s = strips[i];
    const double y = row * static_cast<double>(i) + name + bars;
    const reported_operand& o = *s.from->worst;
    const std::string facts = "score " + significant(o.range_score) + (std::isnan(s.to_zero) ? "" : ", ≈ " + percent(s.to_zero) + " become 0") +
                              ", ≈ " + percent(s.clipped) + " clipped";
    d.text(left, y - bars - (size.narrow ? 20 : 5), shortened(o.name, size.narrow ? 46 : 70), "label");
    if (size.narrow) d.text(left, y - bars - 6, facts, "small");
    else d.text(right, y - bars - 5, facts, "small end");
    if (o.scale) d.box(x.at(-*o.scale / 2.0), y - bars, x.at(*o.scale / 2.0) - x.at(-*o.scale / 2.0), bars, "band", "rounds to zero");
    std::uint64_t largest = 1, inner = s.histogram->below;
    for (std::size_t k = 0; k < magnitude_histogram::bins; ++k) {
      largest = std::max({largest, s.histogram->negative[k], s.histogram->positive[k]});
      if (magnitude_histogram::lowest + static_cast<int>(k) < first) inner += s.histogram->negative[k] + s.histogram->positive[k];
    }
    largest = std::max(largest, inner);
    const auto draw = [&](double x1, double x2, std::uint64_t n, const std::string& what) {
      if (n == 0) return;
      const double h = std::max(1.0, bars * std::log1p(static_cast<double>(n)) / std::log1p(static_cast<double>(largest)));
      d.box(x1 + 0.5, y - h, x2 - x1 - 1, h, "c1", what + ": " + std::to_string(n) + " values");
    };
    draw(x.middle() - x.gap / 2, x.middle() + x.gap / 2, inner, "nearer to zero than " + significant(std::ldexp(1.0, first)));
    for (std::size_t k = 0; k < magnitude_histogram::bins; ++k) {
      const int e = magnitude_histogram::lowest + static_cast<int>(k);
      if (e < first) continue;
      const std::string a = significant(std::ldexp(1.0, e)), b = significant(std::ldexp(1.0, e + 1));
      draw(x.at_power(e + 1, true), x.at_power(e, true), s.histogram->negative[k], "-" + b + " to -" + a);
      draw(x.at_power(e, false), x.at_power(e + 1, false), s.histogram->positive[k], a + " to " + b);
    }
    d.line(left, y, right, y, "axis");
    for (const float end : {o.covered.min, o.covered.max})
      if (std::isfinite(end)) d.line(x.at(end), y - bars, x.at(end), y + 4, "covered");
  }
  return std::move(d).finish();
}

}  // namespace report_parts

QLIB_INLINE std::string activation_range_figure(const accuracy_report& report, const kind_palette& palette) {
  if (!report.calibration) return {};
  const auto all = report_parts::activations_of(*report.calibration);
  if (all.empty()) return {};
  std::string out = "<figure id=\"ranges\"><h2>Activation ranges along depth</h2>\n<p class=\"legend\">";
  std::vector<std::string> listed;
  for (const auto& a : all) {
    if (std::find(listed.begin(), listed.end(), a.label) != listed.end()) continue;
    listed.push_back(a.label);
    out += report_parts::legend_entry(2, palette.colour_of(a.kind), a.label);
  }
  out += "<span><i class=\"covered\"></i>ends of what codes can express</span></p>\n";
  for (const report_parts::figure_size& size : report_parts::figure_sizes) out += report_parts::draw_ranges(all, palette, size);
  return out +
         "<figcaption>A bar reaches from the smallest to the largest value that a linear’s input took in calibration. The axis is logarithmic in "
         "both "
         "directions and linear near zero. The two ticks on a bar are the ends of the range that the codes cover: values beyond them are clipped, "
         "and a range far wider than its neighbours spends its codes on outliers. Linears that read the same input share a bar; experts of a "
         "layer are joined.</figcaption></figure>\n";
}

QLIB_INLINE std::string histogram_figure(const accuracy_report& report) {
  if (!report.calibration) return {};
  const auto all = report_parts::activations_of(*report.calibration);
  std::vector<report_parts::strip> strips;
  for (const auto& a : all)
    if (a.worst->histogram) strips.push_back(report_parts::strip_of(a));
  if (strips.empty()) return {};
  std::stable_sort(strips.begin(), strips.end(),
                   [](const auto& a, const auto& b) { return a.from->worst->range_score > b.from->worst->range_score; });
  if (strips.size() > 8) strips.resize(8);
  std::string out =
      "<figure id=\"histograms\"><h2>Activations with the most outliers</h2>\n<p class=\"legend\"><span><i class=\"c1\"></i>values in "
      "a power of two</span><span><i class=\"covered\"></i>ends of what codes can express</span><span><i class=\"band\"></i>rounds to "
      "zero</span></p>\n";
  for (const report_parts::figure_size& size : report_parts::figure_sizes) out += report_parts::draw_histograms(strips, size);
  return out +
         "<figcaption>The inputs with the highest range scores (largest magnitude over standard deviation), one strip each; negative values left of "
         "the middle. A bar counts the values within a power of two; its height is logarithmic, so that single outliers show. Long thin "
         "tails at the outer ends force a coarse step: then more of the bulk falls into the shaded band around zero. Shares are estimates from "
         "these counts.</figcaption></figure>\n";
}

}  // namespace qlib::inline v0
