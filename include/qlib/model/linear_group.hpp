/// Linear layers that read the same input, as the decoder computes them.
#pragma once
#include <qlib/linalg/gemm.hpp>
#include <qlib/model/activations.hpp>
#include <qlib/model/description.hpp>
#include <qlib/model/forward_hook.hpp>
#include <qlib/model/parameters.hpp>

#include <cstddef>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// What the parts of a layer share while it runs.
struct layer_context {
  const model_description& model;
  const layer_description& layer;
  std::size_t index;
  const parameter_source& source;
  const gemm& products;    ///< with all threads
  const gemm& one_thread;  ///< for tasks that are parallel themselves
  std::size_t threads;
  forward_hook& hook;

  std::string name(const std::string& below) const { return layer.prefix + below; }
};

/// Consecutive samples that are computed together.
struct sample_chunk {
  std::size_t first_sample = 0, first_row = 0;
  std::vector<std::size_t> starts;  ///< first row of each sample within the chunk, then the number of rows

  std::size_t rows() const { return starts.back(); }
  std::size_t samples() const { return starts.size() - 1; }
};

/// Whole samples up to `tokens` rows a chunk, at least one sample.
std::vector<sample_chunk> cut_samples(std::span<const std::size_t> rows_of_sample, std::size_t tokens);

/// A tensor of gains or other constants as f32, whatever its shape; empty for an empty name. `offset` is added to each.
status read_constants(const parameter_source& source, const std::string& name, float offset, std::vector<float>& out);

/// The norm of this name, in full; inactive for an empty one.
status read_norm(const model_description& model, const parameter_source& source, const std::string& name, norm_weights& out);

class linear_group {
 public:
  /// One that is shown to the hook only when `computed` is false.
  void add(std::string module, bool computed = true);
  status load(const parameter_source& source);
  void release() { weights_.clear(); }

  std::size_t size() const { return modules_.size(); }
  const linear_weight& weight(std::size_t i) const { return weights_[i]; }
  std::size_t rows(std::size_t i) const { return weights_[i].rows(); }

  /// y = x' wᵀ + b, where x' is what the hook makes of x.
  status apply(const layer_context& context, matrix_view<const float> x, std::span<const std::size_t> rows_of_sample, std::size_t first_sample,
               std::size_t i, matrix_view<float> y) const;
  /// Makes room in `y` first.
  status apply(const layer_context& context, matrix_view<const float> x, const sample_chunk& chunk, std::size_t i, activations& y) const;

  /// Gives x to the hook for a linear whose product nobody needs, and returns what the hook makes of it.
  matrix_view<const float> show(const layer_context& context, matrix_view<const float> x, const sample_chunk& chunk, std::size_t i) const;

 private:
  std::vector<std::string> modules_;
  std::vector<bool> computed_;
  std::vector<linear_weight> weights_;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/model/linear_group.ipp>
#endif
