/// A float model of which chosen linears compute as a plan's engine will.
#pragma once
#include <qlib/format/activation_arithmetic.hpp>
#include <qlib/model/forward_hook.hpp>
#include <qlib/model/parameters.hpp>
#include <qlib/pipeline/calibration.hpp>
#include <qlib/pipeline/plan.hpp>

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// What the engine does to the input of each quantized linear, parallel to plan.items. Static inputs take their parameters from `found`.
/// W8A8_MIX is its static half. Errors: types that are not simulated, static inputs without `found`.
errors input_arithmetic(const quantization_plan& plan, const calibration* found, std::vector<activation_arithmetic>& out);

/// `w`, the weight of a quantized linear, as its codes mean it: f32 of the same shape, with the bias of `w`; of AscendV1's static W8A8 both
/// as its kernel has them, which folds in the scale of `input`. Errors: a weight that is not finite.
result<linear_weight> requantized(const work_item& item, const activation_arithmetic& input, const linear_weight& w, std::size_t threads);

/// A parameter_source and a forward_hook that are the float model's until items are chosen.
class partly_quantized final : public parameter_source, public forward_hook {
 public:
  /// All must outlive it. inputs: of input_arithmetic.
  partly_quantized(const parameter_source& floats, const quantization_plan& plan, const std::vector<activation_arithmetic>& inputs,
                   std::size_t threads)
      : floats_{floats}, plan_{plan}, inputs_{inputs}, threads_{threads} {}

  /// From here on these items are quantized, and no others.
  void choose(std::span<const std::size_t> items);
  void choose_none() { chosen_.clear(); }

  std::vector<std::string> names() const override { return floats_.names(); }
  bool contains(const std::string& name) const override { return floats_.contains(name); }
  std::optional<std::vector<std::uint64_t>> shape(const std::string& name) const override { return floats_.shape(name); }
  std::optional<dtype> type(const std::string& name) const override { return floats_.type(name); }
  status read(const std::string& name, matrix_view<float> out, std::size_t first_row = 0) const override {
    return floats_.read(name, out, first_row);
  }
  result<linear_weight> linear(const std::string& module) const override;
  std::string where() const override { return floats_.where(); }

  matrix_view<const float> input(const linear_input& in, std::size_t i) override;

 private:
  const parameter_source& floats_;
  const quantization_plan& plan_;
  const std::vector<activation_arithmetic>& inputs_;
  std::size_t threads_;
  std::map<std::string_view, std::size_t> chosen_;  // item by name
  std::vector<float> room_;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/partly_quantized.ipp>
#endif
