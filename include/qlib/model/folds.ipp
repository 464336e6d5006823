#pragma once
#include <qlib/model/folds.hpp>

#include <algorithm>

namespace qlib::inline v0 {

QLIB_INLINE std::vector<std::string> folded_parameters::names() const {
  std::vector<std::string> out = base_->names();
  for (const auto& [name, values] : folds_->vectors)
    if (!base_->contains(name)) out.push_back(name);
  return out;
}

QLIB_INLINE std::optional<std::vector<std::uint64_t>> folded_parameters::shape(const std::string& name) const {
  if (auto stored = base_->shape(name)) return stored;
  if (const std::vector<float>* v = folds_->vector(name)) return std::vector<std::uint64_t>{v->size()};
  return std::nullopt;
}

QLIB_INLINE std::optional<dtype> folded_parameters::type(const std::string& name) const {
  if (const auto stored = base_->type(name)) return stored;
  return contains(name) ? std::optional{dtype::f32} : std::nullopt;
}

QLIB_INLINE status folded_parameters::read(const std::string& name, matrix_view<float> out, std::size_t first_row) const {
  if (const std::vector<float>* v = folds_->vector(name)) {
    std::copy(v->begin(), v->end(), out.data());
    return {};
  }
  if (status s = base_->read(name, out, first_row); !s) return s;
  constexpr std::string_view tail = ".weight";
  if (name.ends_with(tail)) fold(folds_->steps(std::string_view{name}.substr(0, name.size() - tail.size())), out, first_row);
  return {};
}

QLIB_INLINE result<linear_weight> folded_parameters::linear(const std::string& module) const {
  auto base = base_->linear(module);
  const auto steps = folds_->steps(module);
  const std::vector<float>* bias = folds_->vector(module + ".bias");
  if (!base || (steps.empty() && !bias)) return base;
  if (steps.empty()) {
    base->bias = *bias;
    return base;
  }
  buffer memory{base->rows() * base->cols() * sizeof(float)};
  if (memory.data() == nullptr) return error{.kind = error_kind::run_failed, .subject = module, .problem = "out of memory", .remedy = {}};
  const matrix_view<float> copy{reinterpret_cast<float*>(memory.data()), base->rows(), base->cols()};
  std::visit(
      [&](auto w) {
        for (std::size_t r = 0; r < w.rows(); ++r)
          for (std::size_t c = 0; c < w.cols(); ++c) copy(r, c) = to_float(w(r, c));
      },
      base->weight());
  fold(steps, copy);
  linear_weight out{matrix_view<const float>{copy}, std::move(memory)};
  out.bias = bias ? *bias : base->bias;
  return out;
}

}  // namespace qlib::inline v0
