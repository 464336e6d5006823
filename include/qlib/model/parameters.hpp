/// Where a decoder reads its weights.
#pragma once
#include <qlib/core/buffer.hpp>
#include <qlib/core/convert.hpp>
#include <qlib/core/status.hpp>
#include <qlib/core/view.hpp>
#include <qlib/io/checkpoint.hpp>
#include <qlib/model/modules.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace qlib::inline v0 {

/// The weight [out_features, in_features] and the bias of a linear layer while a decoder computes with it.
class linear_weight {
 public:
  using view = std::variant<matrix_view<const float>, matrix_view<const bf16>>;

  linear_weight() = default;
  /// Memory of somebody else; `give_back` is called once, when it is no longer read.
  linear_weight(view borrowed, std::function<void()> give_back) : view_{borrowed}, give_back_{std::move(give_back)} {}
  /// Memory of its own, that `v` points into.
  linear_weight(view v, buffer owned) : view_{v}, owned_{std::move(owned)} {}
  linear_weight(linear_weight&& other) noexcept { *this = std::move(other); }
  linear_weight& operator=(linear_weight&& other) noexcept {
    std::swap(view_, other.view_);
    std::swap(owned_, other.owned_);
    std::swap(give_back_, other.give_back_);
    std::swap(bias, other.bias);
    return *this;
  }
  ~linear_weight() { release(); }

  const view& weight() const { return view_; }
  std::size_t rows() const {
    return std::visit([](auto v) { return v.rows(); }, view_);
  }
  std::size_t cols() const {
    return std::visit([](auto v) { return v.cols(); }, view_);
  }

  /// Gives memory and pages back; the weight is empty then.
  void release() {
    if (give_back_) give_back_();
    give_back_ = nullptr;
    owned_ = {};
    view_ = {};
  }

  std::vector<float> bias;  ///< out_features, or empty

 private:
  view view_;
  buffer owned_;
  std::function<void()> give_back_;
};

/// Tensors by name: a float checkpoint, or a quantized one as its engine computes with it.
class parameter_source {
 public:
  virtual ~parameter_source() = default;

  /// Names of everything: "X.weight" and "X.bias" of each linear X (an expert of a stacked tensor under its own name), and the other
  /// tensors as they are stored.
  virtual std::vector<std::string> names() const = 0;

  /// Names as in `names()`.
  virtual bool contains(const std::string& name) const = 0;
  virtual std::optional<std::vector<std::uint64_t>> shape(const std::string& name) const = 0;
  virtual std::optional<dtype> type(const std::string& name) const = 0;

  /// Rows [first_row, first_row + out.rows()) of a tensor whose rows are all but its first extent; one with a single extent is one
  /// row. The error names the tensor.
  virtual status read(const std::string& name, matrix_view<float> out, std::size_t first_row = 0) const = 0;

  /// A whole linear layer; `module` is its name without ".weight".
  virtual result<linear_weight> linear(const std::string& module) const = 0;

  /// What errors call it.
  virtual std::string where() const = 0;
};

/// The weights of a float checkpoint: f32, bf16, f16, block-fp8, stacked experts. bf16 and f32 that lie aligned in the file are
/// borrowed, the others copied; f16 is widened to f32, block-fp8 becomes bf16 as when it is quantized.
class checkpoint_parameters final : public parameter_source {
 public:
  /// Both must outlive it: modules are referred to, not copied.
  checkpoint_parameters(const checkpoint& source, const model_layout& layout);

  std::vector<std::string> names() const override;
  bool contains(const std::string& name) const override;
  std::optional<std::vector<std::uint64_t>> shape(const std::string& name) const override;
  std::optional<dtype> type(const std::string& name) const override;
  status read(const std::string& name, matrix_view<float> out, std::size_t first_row = 0) const override;
  result<linear_weight> linear(const std::string& module) const override;
  std::string where() const override { return source_->directory(); }

 private:
  struct entry {
    const matrix_module* module = nullptr;  ///< null: a tensor by itself
    bool bias = false;
    std::size_t tensor = 0;
  };
  const entry* find(const std::string& name) const;
  std::string file_of(const entry& e) const;

  const checkpoint* source_;
  std::map<std::string, entry, std::less<>> entries_;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/model/parameters.ipp>
#endif
