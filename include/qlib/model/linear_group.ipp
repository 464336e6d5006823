#pragma once
#include <qlib/model/linear_group.hpp>

namespace qlib::inline v0 {

QLIB_INLINE std::vector<sample_chunk> cut_samples(std::span<const std::size_t> rows_of_sample, std::size_t tokens) {
  std::vector<sample_chunk> chunks;
  for (std::size_t s = 0; s + 1 < rows_of_sample.size(); ++s) {
    const std::size_t first = rows_of_sample[s], length = rows_of_sample[s + 1] - first;
    if (chunks.empty() || chunks.back().rows() + length > tokens) chunks.push_back({.first_sample = s, .first_row = first, .starts = {0}});
    chunks.back().starts.push_back(chunks.back().rows() + length);
  }
  return chunks;
}

QLIB_INLINE status read_constants(const parameter_source& source, const std::string& name, float offset, std::vector<float>& out) {
  out.clear();
  if (name.empty()) return {};
  const auto shape = source.shape(name);
  if (!shape) return error{.where = source.where(), .subject = name, .problem = "is not in the checkpoint", .remedy = "give the complete model"};
  std::size_t rows = 1, cols = 1;
  if (shape->size() > 1) rows = (*shape)[0];
  for (std::size_t i = shape->size() > 1 ? 1 : 0; i < shape->size(); ++i) cols *= (*shape)[i];
  out.resize(rows * cols);
  if (status s = source.read(name, {out.data(), rows, cols}); !s) return s;
  if (offset != 0)
    for (float& v : out) v += offset;
  return {};
}

QLIB_INLINE status read_norm(const model_description& model, const parameter_source& source, const std::string& name, norm_weights& out) {
  out = {.kind = model.norm, .active = !name.empty(), .eps = model.eps};
  if (name.empty() || !model.norm_weights) return {};
  const float plus = model.gain == norm_gain::one_plus_weight ? 1.0f : 0.0f;
  if (status s = read_constants(source, name + ".weight", plus, out.gains); !s) return s;
  return model.norm_biases ? read_constants(source, name + ".bias", 0, out.biases) : status{};
}

QLIB_INLINE void linear_group::add(std::string module, bool computed) {
  modules_.push_back(std::move(module));
  computed_.push_back(computed);
}

QLIB_INLINE status linear_group::load(const parameter_source& source) {
  weights_.clear();
  for (std::size_t i = 0; i < modules_.size(); ++i) {
    if (!computed_[i]) {
      weights_.emplace_back();
      continue;
    }
    result<linear_weight> w = source.linear(modules_[i]);
    if (!w) return w.error();
    weights_.push_back(*std::move(w));
  }
  return {};
}

QLIB_INLINE status linear_group::apply(const layer_context& context, matrix_view<const float> x, std::span<const std::size_t> rows_of_sample,
                                       std::size_t first_sample, std::size_t i, matrix_view<float> y) const {
  const linear_input in{modules_, x, rows_of_sample, first_sample};
  const matrix_view<const float> used = context.hook.input(in, i);
  std::visit([&](auto w) { context.products(used, w, y); }, weights_[i].weight());
  if (const std::vector<float>& bias = weights_[i].bias; !bias.empty())
    for_rows(y.rows(), context.threads, [&](std::size_t first, std::size_t count) {
      for (std::size_t r = first; r < first + count; ++r)
        for (std::size_t c = 0; c < bias.size(); ++c) y(r, c) += bias[c];
    });
  return {};
}

QLIB_INLINE status linear_group::apply(const layer_context& context, matrix_view<const float> x, const sample_chunk& chunk, std::size_t i,
                                       activations& y) const {
  if (status s = y.reshape(x.rows(), rows(i)); !s) return s;
  return apply(context, x, chunk.starts, chunk.first_sample, i, y.view());
}

QLIB_INLINE matrix_view<const float> linear_group::show(const layer_context& context, matrix_view<const float> x, const sample_chunk& chunk,
                                                        std::size_t i) const {
  const linear_input in{modules_, x, chunk.starts, chunk.first_sample};
  return context.hook.input(in, i);
}

}  // namespace qlib::inline v0
