/// What outlier suppression does to a model's weights, before they are quantized.
#pragma once
#include <qlib/model/parameters.hpp>
#include <qlib/suppressor/fold_step.hpp>

#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// Steps of matrices, and vectors that replace what the checkpoint stores.
struct model_folds {
  std::map<std::string, std::vector<fold_step>, std::less<>> matrices;  ///< by module; in the order in which they are applied
  /// By tensor: gains and biases, ones that the checkpoint does not have among them. They are rounded to its dtype when they are stored: gains
  /// and scaled biases are such values already, rotated biases are not.
  std::map<std::string, std::vector<float>, std::less<>> vectors;

  bool empty() const { return matrices.empty() && vectors.empty(); }

  /// The steps of a module; none for one that is not folded.
  std::span<const fold_step> steps(std::string_view module) const {
    const auto at = matrices.find(module);
    return at == matrices.end() ? std::span<const fold_step>{} : std::span<const fold_step>{at->second};
  }
  const std::vector<float>* vector(std::string_view tensor) const {
    const auto at = vectors.find(tensor);
    return at == vectors.end() ? nullptr : &at->second;
  }

  /// What the columns of a module were multiplied by, and so its inputs divided by; empty: nothing. Without rotations.
  std::vector<float> column_scale(std::string_view module) const {
    std::vector<float> out;
    for (const fold_step& step : steps(module)) {
      const auto* s = std::get_if<scaling>(&step);
      if (!s || s->columns.empty()) continue;
      if (out.empty()) out = s->columns;
      else
        for (std::size_t c = 0; c < out.size(); ++c) out[c] *= s->columns[c];
    }
    return out;
  }

  /// Then `later`, which was found on a model that had these folds already.
  void append(model_folds later) {
    for (auto& [module, steps] : later.matrices) {
      auto& to = matrices[module];
      to.insert(to.end(), std::make_move_iterator(steps.begin()), std::make_move_iterator(steps.end()));
    }
    for (auto& [tensor, values] : later.vectors) vectors[tensor] = std::move(values);
  }
};

/// A checkpoint with folds: what it computes is what the checkpoint computes, up to rounding.
class folded_parameters final : public parameter_source {
 public:
  /// Both must outlive it; folds may be added while it is in use.
  folded_parameters(const parameter_source& base, const model_folds& folds) : base_{&base}, folds_{&folds} {}

  std::vector<std::string> names() const override;
  bool contains(const std::string& name) const override { return folds_->vectors.contains(name) || base_->contains(name); }
  std::optional<std::vector<std::uint64_t>> shape(const std::string& name) const override;
  std::optional<dtype> type(const std::string& name) const override;
  status read(const std::string& name, matrix_view<float> out, std::size_t first_row = 0) const override;
  result<linear_weight> linear(const std::string& module) const override;
  std::string where() const override { return base_->where(); }

 private:
  const parameter_source* base_;
  const model_folds* folds_;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/model/folds.ipp>
#endif
