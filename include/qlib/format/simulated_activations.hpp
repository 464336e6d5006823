/// Quantized inputs of linear layers, keys and values, as the engine of a checkpoint makes them.
#pragma once
#include <qlib/format/simulated_linear.hpp>
#include <qlib/model/description.hpp>
#include <qlib/model/forward_hook.hpp>

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// Replaces the input of each quantized linear by its quantized and dequantized form, and keys, values and queries by theirs. Every row
/// by itself, so that neither chunks nor threads matter. Latent attention whose operands have scales (FAQuant) is computed in absorbed form, as
/// its engine decodes: its rotary channels stay float.
///
/// Norms with a bias (asymmetric smoothing) are computed here too: the bias is added to what the readers of the norm see.
class simulated_activations final : public forward_hook {
 public:
  simulated_activations() = default;

  /// `contents` must outlive it. `model` has the names of this checkpoint. Errors: scales of attention modules that the model does not
  /// have, biases of norms that nothing here can add.
  static errors create(const weight_folder& folder, const simulated_contents& contents, const model_description& model, std::size_t threads,
                       simulated_activations& out);

  matrix_view<const float> input(const linear_input& in, std::size_t i) override;
  void attention_input(std::size_t layer, const std::string& attention_module, matrix_view<float> q, matrix_view<float> k, matrix_view<float> v,
                       std::span<const std::size_t> rows_of_sample, std::size_t first_sample) override;
  latent_use use_of_latent(const std::string& attention_module) override;
  void latent_input(const std::string& attention_module, const latent_operands& operands) override;
  status ok() override;

 private:
  void quantize(const cached_scales& by, const attention_arithmetic& a, const std::string& what, matrix_view<float> x);

  std::map<std::string, activation_arithmetic, std::less<>> inputs_;
  std::map<std::string, const attention_arithmetic*, std::less<>> attention_;
  std::size_t threads_ = 1;
  std::string where_;
  std::vector<float> room_;
  std::optional<error> failure_;
};

/// Which linear layers read the output of each norm of a model, by the norm's module name.
std::map<std::string, std::vector<std::string>> readers_of_norms(const model_description& model);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/format/simulated_activations.ipp>
#endif
