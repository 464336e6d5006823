/// suppression_pass::clip. Part of suppress.ipp.
#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/pipeline/suppress.hpp>
#include <qlib/suppressor/weight_clip.hpp>

namespace qlib::inline v0 {

/// Clips the sub-graph's readers as they are behind the folds so far, whether it was rescaled or not. Tiles of several rows are left.
QLIB_INLINE status suppression_pass::clip(const planned_suppression& p, const channel_statistics& seen, suppression_report& report) {
  const channel_statistics::divided x = seen.after(folds_.column_scale(p.graph.targets.front()));
  for (const std::string& module : p.clipped) {
    const auto item = items_.find(module);
    if (item == items_.end()) continue;
    const quant_spec& spec = plan_.items[item->second].encoding->spec;
    if (!can_be_clipped(spec)) continue;
    auto linear = source_.linear(module);
    if (!linear) return std::move(linear).error();
    buffer memory{0};
    matrix_view<const float> w;
    if (const auto* f32 = std::get_if<matrix_view<const float>>(&linear->weight())) {
      w = *f32;
    } else {
      memory = buffer{linear->rows() * linear->cols() * sizeof(float)};
      if (memory.data() == nullptr) return error{.kind = error_kind::run_failed, .subject = module, .problem = "out of memory", .remedy = {}};
      const matrix_view<float> copy{reinterpret_cast<float*>(memory.data()), linear->rows(), linear->cols()};
      std::visit([&](auto v) { native_backend{}.to_float(v, copy); }, linear->weight());
      w = copy;
    }
    weight_clips found = search_clips(w, spec, x.view.inputs, products_);
    report.tiles += found.steps.size();
    report.clipped += found.clipped;
    report.clip_error_before += found.error_before;
    report.clip_error_after += found.error_after;
    if (found.clipped > 0) folds_.matrices[module].push_back(clipping{spec.granularity, std::move(found.steps)});
  }
  return {};
}

}  // namespace qlib::inline v0
