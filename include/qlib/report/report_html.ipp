#pragma once
#include <qlib/report/figure_frame.hpp>
#include <qlib/report/figures.hpp>
#include <qlib/report/median_error.hpp>
#include <qlib/report/page_style.hpp>
#include <qlib/report/report_html.hpp>
#include <qlib/version.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>

namespace qlib::inline v0 {

namespace report_parts {

/// More rows than this make pages slow; report.json has all.
inline constexpr std::size_t most_rows = 2000;

inline std::string tile(std::string_view label, const std::string& value, const std::string& note) {
  std::string out = "<div><dt>" + escaped(label) + "</dt><dd>" + escaped(value) + "</dd>";
  if (!note.empty()) out += "<dd>" + escaped(note) + "</dd>";
  return out + "</div>\n";
}

inline std::string size_tile(const accuracy_report& r) {
  const auto after = static_cast<double>(r.output_bytes), before = static_cast<double>(r.input_bytes);
  if (r.input_bytes == 0 || r.output_bytes == 0) return tile("Size", bytes_text(after), {});
  return tile("Size", bytes_text(after), "of " + bytes_text(before) + ": " + fixed(before / after, 2) + " times smaller");
}

inline std::string error_tile(const accuracy_report& r) {
  const auto median = median_error(r);
  if (!median) return {};
  double worst = 0;
  std::size_t layers = 0;
  for (const reported_layer& l : r.layers)
    if (l.error) worst = std::max(worst, l.error->relative()), ++layers;
  return tile("Weight error", percent(*median), "median of " + std::to_string(layers) + " layers; the worst " + percent(worst));
}

inline std::string evaluation_tiles(const reported_evaluation& e) {
  std::string out;
  const std::string tokens = "over " + std::to_string(e.tokens) + " tokens";
  if (e.ppl) {
    std::string note = tokens;
    if (e.ppl_reference && *e.ppl_reference > 0) {
      const double change = *e.ppl / *e.ppl_reference - 1;
      note = "was " + fixed(*e.ppl_reference, 3) + ": " + (change >= 0 ? "+" : "-") + percent(std::abs(change));
    }
    out += tile("Perplexity", fixed(*e.ppl, 3), note);
  }
  if (e.kl) out += tile("KL(reference‖model)", significant(*e.kl), "nats a token, " + tokens);
  if (e.top1) out += tile("Same next token", percent(*e.top1), "top-1 agreement, " + tokens);
  if (e.max_abs_logit_diff) out += tile("Largest logit change", significant(*e.max_abs_logit_diff), tokens);
  return out;
}

inline std::string tiles(const accuracy_report& r) {
  std::string out = "<dl class=\"tiles\">\n" + size_tile(r);
  out += tile("Quantized layers", std::to_string(r.quantized), std::to_string(r.floats) + " tensors stay as they are");
  out += error_tile(r);
  if (r.evaluation) out += evaluation_tiles(*r.evaluation);
  if (r.calibration) {
    const reported_calibration& c = *r.calibration;
    out += tile("Calibration", std::to_string(c.tokens) + " tokens", std::to_string(c.samples) + " samples, " + fixed(c.seconds, 1) + " s");
  }
  if (r.seconds > 0) out += tile("Run", fixed(r.seconds, 1) + " s", "peak memory " + bytes_text(static_cast<double>(r.peak_rss_bytes)));
  return out + "</dl>\n";
}

inline std::string warnings(const accuracy_report& r) {
  if (r.warnings.empty()) return {};
  std::string out = "<section id=\"warnings\" class=\"warnings\"><h2>Warnings</h2>\n<ul>";
  for (const std::string& w : r.warnings) out += "<li>" + escaped(w) + "</li>\n";
  return out + "</ul></section>\n";
}

/// A header cell that sorts; text columns are aligned to the left.
inline std::string column(std::string_view label, bool text = false) {
  return "<th scope=\"col\"" + std::string{text ? " class=\"text\"" : ""} + "><button type=\"button\">" + escaped(label) + "</button></th>";
}

inline std::string cell(const std::string& text, double value) {
  return "<td data-v=\"" + (std::isfinite(value) ? significant(value, 9) : std::string{"0"}) + "\">" + escaped(text) + "</td>";
}
inline std::string cell(double value) { return cell(significant(value), value); }
inline std::string size_cell(std::uint64_t bytes) { return cell(bytes_text(static_cast<double>(bytes)), static_cast<double>(bytes)); }

inline std::string layer_table(const accuracy_report& r) {
  if (r.layers.empty()) return {};
  std::vector<const reported_layer*> rows;
  bool errors = false, before = false;
  for (const reported_layer& l : r.layers) {
    rows.push_back(&l);
    errors = errors || l.error;
    before = before || l.bytes_before;
  }
  std::string out = "<section id=\"layers\"><h2>Layers</h2>\n";
  if (rows.size() > most_rows) {
    std::stable_sort(rows.begin(), rows.end(),
                     [](const auto* a, const auto* b) { return (a->error ? a->error->relative() : 0) > (b->error ? b->error->relative() : 0); });
    rows.resize(most_rows);
    out += "<p class=\"note\">The " + std::to_string(most_rows) + " of " + std::to_string(r.layers.size()) +
           " layers with the largest error; report.json has all.</p>\n";
  }
  std::map<std::string_view, double> scores;
  if (r.calibration)
    for (const reported_operand& o : r.calibration->operands) scores.emplace(o.name, o.range_score);
  out += "<div class=\"scroll\"><table><thead><tr>" + column("layer", true) + column("type", true);
  if (errors) out += column("relative error") + column("cosine") + column("largest error");
  if (before) out += column("before");
  out += column(before ? "after" : "bytes");
  if (!scores.empty()) out += column("range score of input");
  out += "</tr></thead><tbody>\n";
  for (const reported_layer* l : rows) {
    out += "<tr><td><code>" + breakable(l->name) + "</code></td><td class=\"text\">" + escaped(l->quant_type) + "</td>";
    if (errors) {
      const weight_error e = l->error.value_or(weight_error{});
      out += cell(l->error ? percent(e.relative()) : "", e.relative()) + cell(l->error ? fixed(e.cosine, 6) : "", e.cosine) +
             cell(l->error ? significant(e.max_abs_err) : "", e.max_abs_err);
    }
    if (before) out += size_cell(l->bytes_before);
    out += size_cell(l->bytes_after);
    if (!scores.empty()) {
      const auto at = scores.find(l->name);
      out += at == scores.end() ? "<td></td>" : cell(at->second);
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div></section>\n";
}

inline std::string operand_table(const accuracy_report& r) {
  if (!r.calibration || r.calibration->operands.empty()) return {};
  const auto& all = r.calibration->operands;
  std::string out = "<section id=\"operands\"><details><summary>Calibrated activations (" + std::to_string(all.size()) + ")</summary>\n";
  std::vector<const reported_operand*> rows;
  for (const reported_operand& o : all) rows.push_back(&o);
  if (rows.size() > most_rows) {
    std::stable_sort(rows.begin(), rows.end(), [](const auto* a, const auto* b) { return a->range_score > b->range_score; });
    rows.resize(most_rows);
    out += "<p class=\"note\">The " + std::to_string(most_rows) + " with the highest range score; report.json has all.</p>\n";
  }
  out += "<div class=\"scroll\"><table><thead><tr>" + column("activation", true) + column("observer", true) + column("tokens") + column("min") +
         column("max") + column("codes from") + column("codes to") + column("scale") + column("zero point") + column("range score") +
         "</tr></thead><tbody>\n";
  for (const reported_operand* o : rows) {
    out += "<tr><td><code>" + breakable(o->name) + "</code></td><td class=\"text\">" + escaped(o->observer) + "</td>" +
           cell(std::to_string(o->tokens), static_cast<double>(o->tokens)) + cell(o->seen.min) + cell(o->seen.max) + cell(o->covered.min) +
           cell(o->covered.max) + (o->scale ? cell(*o->scale) + cell(o->zero_point) : "<td>a channel</td><td></td>") + cell(o->range_score) +
           "</tr>\n";
  }
  return out + "</tbody></table></div></details></section>\n";
}

/// What outlier suppression did, sub-graph by sub-graph.
inline std::string subgraph_table(const accuracy_report& r) {
  if (r.subgraphs.empty()) return {};
  std::size_t kept = 0;
  bool clips = false;
  for (const suppression_report& g : r.subgraphs) {
    kept += g.kept;
    clips |= g.tiles > 0;
  }
  std::string out = "<section id=\"subgraphs\"><h2>Outlier suppression</h2>\n<p class=\"note\">" + std::to_string(kept) + " of " +
                    std::to_string(r.subgraphs.size()) +
                    " sub-graphs are rescaled. Errors are of the outputs of the linears behind each, quantized one sub-graph at a time." +
                    (clips ? " Clipping limits the largest weights of a tile where its own part of the output is then closer: gain clipped." : "") +
                    "</p>\n<div class=\"scroll\"><table><thead><tr>" + column("source", true) + column("kind", true) + column("suppressor", true) +
                    column("error before") + column("error after") + column("gain") + column("smallest scale") + column("largest scale") +
                    column("channels left") + (clips ? column("tiles clipped") + column("gain clipped") : "") + "</tr></thead><tbody>\n";
  for (std::size_t i = 0; i < r.subgraphs.size() && i < most_rows; ++i) {
    const suppression_report& g = r.subgraphs[i];
    const double before = std::sqrt(g.error_before), after = std::sqrt(g.error_after);
    out += "<tr><td><code>" + breakable(g.source) + "</code></td><td class=\"text\">" + escaped(g.kind) + "</td><td class=\"text\">" +
           escaped(g.suppressor) + "</td>";
    out += g.error_before > 0 ? cell(percent(before), before) + cell(percent(after), after) : "<td></td><td></td>";
    if (!g.kept) out += cell(g.error_after > g.error_before ? "left as it is" : "not reached", 0);
    else out += after > 0 && before > 0 ? cell(fixed(before / after, 2) + "x", before / after) : cell("kept", 1);
    out += cell(g.smallest) + cell(g.largest) + cell(std::to_string(g.dead + g.limited), static_cast<double>(g.dead + g.limited));
    if (clips && g.tiles > 0) {
      const double share = static_cast<double>(g.clipped) / static_cast<double>(g.tiles), gain = std::sqrt(g.clip_error_before / g.clip_error_after);
      out += cell(percent(share), share) + (g.clip_error_after > 0 ? cell(fixed(gain, 2) + "x", gain) : "<td></td>");
    } else if (clips) {
      out += "<td></td><td></td>";
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div></section>\n";
}

inline std::string about(const accuracy_report& r) {
  std::string text;
  for (const std::string& part : {r.model_type, r.quant_type, r.format})
    if (!part.empty()) text += (text.empty() ? "" : " · ") + part;
  return text;
}

}  // namespace report_parts

QLIB_INLINE std::string html_of(const accuracy_report& r) {
  const kind_palette palette{r};
  const std::string name = r.model.empty() ? (r.model_type.empty() ? "checkpoint" : r.model_type) : r.model;
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src "
      "'unsafe-inline'\">\n<title>" +
      escaped(name + (r.quant_type.empty() ? "" : " " + r.quant_type)) + " — quantization report</title>\n<style>";
  out += report_parts::page_style;
  out += "</style>\n</head>\n<body>\n<main>\n<h1>" + escaped(name) + "</h1>\n<p class=\"about\">" + escaped(report_parts::about(r)) + " · qlib " +
         escaped(QLIB_VERSION) + "</p>\n";
  out += report_parts::tiles(r);
  out += report_parts::warnings(r);
  out += bytes_figure(r);
  out += weight_error_figure(r, palette);
  out += activation_range_figure(r, palette);
  out += histogram_figure(r);
  out += report_parts::subgraph_table(r);
  out += report_parts::layer_table(r);
  out += report_parts::operand_table(r);
  out += "</main>\n<script>";
  out += report_parts::page_script;
  return out + "</script>\n</body>\n</html>\n";
}

}  // namespace qlib::inline v0
