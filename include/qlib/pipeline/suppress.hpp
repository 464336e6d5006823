/// Outlier suppression of a model, a layer at a time: collects what the suppressors need while the float layer runs, solves its sub-graphs,
/// and notes what folding does.
#pragma once
#include <qlib/linalg/gemm.hpp>
#include <qlib/model/folds.hpp>
#include <qlib/model/forward_hook.hpp>
#include <qlib/observer/channel_statistics.hpp>
#include <qlib/pipeline/calibration.hpp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/registry.hpp>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace qlib::inline v0 {

struct suppress_options {
  std::size_t search_tokens = 512;                      ///< tokens that searches and the comparison of errors compute with
  std::uint64_t weight_bytes = std::uint64_t{1} << 29;  ///< of f32 weights of one sub-graph that searches see; of experts the first ones
  /// Keep a transform whatever the error, and do not let the gains' dtype decide the scale: as the peers do.
  bool as_peers = false;
};

class suppression_pass {
 public:
  /// All must outlive it. `folds` and `reports` receive what is found. `tokens`: of all samples.
  suppression_pass(const quantization_plan& plan, const parameter_source& source, std::size_t tokens, const gemm& products,
                   const suppress_options& options, model_folds& folds, std::vector<suppression_report>& reports);

  /// Whether the plan rescales something in this layer.
  bool has(std::size_t layer) const;

  /// What a forward_hook sees.
  void observe(const linear_input& in, std::size_t i);
  void observe_keys(std::size_t layer, matrix_view<const float> keys);

  /// After the layer ran: solves its sub-graphs in order. Errors: a weight that is not finite or cannot be read.
  status solve(std::size_t layer);

  /// How the input of a linear, or an operand of an attention ("….value", "….key", "….query"), changed so far: x becomes (x - shift) / scale, step
  /// after step, with a value a column.
  std::span<const transform> changes(std::string_view operand) const;

 private:
  struct weights;
  status load(const subgraph& g, weights& out) const;
  void limit(const planned_suppression& p, transform& t, const channel_statistics::divided& x, suppression_report& report) const;
  status keep_in_storage(const planned_suppression& p, std::span<const float> reader_absmax, transform& t, suppression_report& report) const;
  status round_to_source(const planned_suppression& p, transform& t);
  status apply(const planned_suppression& p, const transform& t);
  void change_latent(const std::string& module, const transform& t);
  status clip(const planned_suppression& p, const channel_statistics& seen, suppression_report& report);
  status solve_keys(const planned_suppression& p, suppression_report& report);

  const quantization_plan& plan_;
  folded_parameters source_;
  std::size_t tokens_;
  const gemm& products_;
  suppress_options options_;
  model_folds& folds_;
  std::vector<suppression_report>& reports_;
  std::map<std::string, needs, std::less<>> watched_;  // by first target
  std::map<std::string, std::size_t, std::less<>> items_;
  std::map<std::string, channel_statistics, std::less<>> statistics_;  // of the layer that runs
  std::map<std::string, std::vector<transform>, std::less<>> changes_;
  std::vector<float> keys_;  // largest |key| of each channel, of the layer that runs; empty: nobody asks
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/clip_weights.ipp>
#include <qlib/pipeline/suppress.ipp>
#endif
