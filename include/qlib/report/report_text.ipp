#pragma once
#include <qlib/report/median_error.hpp>
#include <qlib/report/number_text.hpp>
#include <qlib/report/report_text.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace qlib::inline v0 {

QLIB_INLINE std::string text_of(const accuracy_report& r) {
  std::string out;
  const auto line = [&](std::string label, const std::string& text) {
    label.resize(20, ' ');
    out += label + text + "\n";
  };
  const auto before = static_cast<double>(r.input_bytes), after = static_cast<double>(r.output_bytes);
  line("model", r.model + (r.model_type.empty() ? "" : " (" + r.model_type + ")"));
  line("type", r.quant_type + ", " + r.format + ", " + std::to_string(r.quantized) + " layers quantized");
  line("size", r.input_bytes && r.output_bytes ? bytes_text(before) + " -> " + bytes_text(after) + " (" + fixed(before / after, 2) + "x)"
                                               : bytes_text(after));
  std::vector<const reported_layer*> worst;
  for (const reported_layer& l : r.layers)
    if (l.error) worst.push_back(&l);
  std::stable_sort(worst.begin(), worst.end(), [](const auto* a, const auto* b) { return a->error->relative() > b->error->relative(); });
  if (!worst.empty()) line("weight error", "median " + percent(*median_error(r)) + ", worst " + percent(worst.front()->error->relative()));
  if (r.calibration) line("calibration", std::to_string(r.calibration->samples) + " samples, " + std::to_string(r.calibration->tokens) + " tokens");
  if (!r.subgraphs.empty()) {
    std::size_t kept = 0, tiles = 0, clipped = 0;
    double before = 0, after = 0;
    for (const suppression_report& g : r.subgraphs) {
      kept += g.kept;
      tiles += g.tiles;
      clipped += g.clipped;
      if (g.clip_error_before > 0) before += 1, after += std::sqrt(g.clip_error_after / g.clip_error_before);
    }
    line("suppression", std::to_string(kept) + " of " + std::to_string(r.subgraphs.size()) + " sub-graphs rescaled by " + r.subgraphs[0].suppressor);
    if (tiles > 0)
      line("clipping", percent(static_cast<double>(clipped) / static_cast<double>(tiles)) + " of " + std::to_string(tiles) + " tiles" +
                           (before > 0 ? ", their errors " + percent(after / before) + " of what they were (mean of sub-graphs)" : ""));
  }
  if (r.evaluation) {
    const reported_evaluation& e = *r.evaluation;
    if (e.ppl) line("perplexity", fixed(*e.ppl, 4) + (e.ppl_reference ? " (was " + fixed(*e.ppl_reference, 4) + ")" : ""));
    if (e.kl) line("KL to reference", significant(*e.kl, 4) + " nats a token");
    if (e.top1) line("same next token", percent(*e.top1));
  }
  for (std::size_t i = 0; i < worst.size() && i < 5; ++i)
    line(i ? "" : "worst layers", worst[i]->name + "  " + percent(worst[i]->error->relative()) + "  " + worst[i]->quant_type);
  return out;
}

}  // namespace qlib::inline v0
