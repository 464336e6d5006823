/// The weights of a quantized folder as the numbers that its engine computes with.
#pragma once
#include <qlib/format/simulated_linear.hpp>
#include <qlib/model/parameters.hpp>

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// Quantized linears are dequantized to f32 when they are asked for; float tensors are as in the file, stacked float experts under the
/// names of their parts. The products are right only with inputs as `simulated_activations` makes them.
class simulated_parameters final : public parameter_source {
 public:
  /// `folder` and `contents` must outlive it. `model_type` decides how experts are stacked.
  simulated_parameters(const weight_folder& folder, const simulated_contents& contents, std::string_view model_type, std::size_t threads);

  std::vector<std::string> names() const override;
  bool contains(const std::string& name) const override { return entries_.contains(name); }
  std::optional<std::vector<std::uint64_t>> shape(const std::string& name) const override;
  std::optional<dtype> type(const std::string& name) const override;
  status read(const std::string& name, matrix_view<float> out, std::size_t first_row = 0) const override;
  result<linear_weight> linear(const std::string& module) const override;
  std::string where() const override { return folder_->directory(); }

 private:
  /// A tensor, a part of a stacked one, or the weight or bias of a quantized linear.
  struct entry {
    const simulated_linear* linear = nullptr;
    bool bias = false;
    const stored_tensor* tensor = nullptr;
    std::vector<std::uint64_t> shape = {};
    std::uint64_t offset = 0, row_stride = 0, col_stride = 1;  ///< elements
  };
  void add_stack(const stored_tensor& t, const stored_tensor* bias, bool transposed, bool interleaved);
  stored_matrix matrix_of(const simulated_linear& l) const;
  std::vector<float> bias_of(const simulated_linear& l) const;

  const weight_folder* folder_;
  std::size_t threads_;
  std::map<std::string, entry, std::less<>> entries_;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/format/simulated_parameters.ipp>
#endif
