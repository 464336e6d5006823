/// What joins the gate and the up projection of a feed-forward block.
#pragma once
#include <qlib/linalg/elementary.hpp>

#include <cstddef>
#include <optional>
#include <string_view>

namespace qlib::inline v0 {

enum class activation_function {
  silu,
  gelu,
  gelu_tanh,
  relu,
  clamped_swiglu,  ///< gpt-oss: g = min(g, 7), u = clamp(u, ±7); (u + 1) g σ(1.702 g)
};

constexpr std::optional<activation_function> activation_from_name(std::string_view name) {
  if (name == "silu" || name == "swish") return activation_function::silu;
  if (name == "gelu") return activation_function::gelu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return activation_function::gelu_tanh;
  if (name == "relu") return activation_function::relu;
  return std::nullopt;
}

/// y = f(gate) * up, elementwise; y may be gate or up.
inline void activate(activation_function f, const float* gate, const float* up, float* y, std::size_t n) {
  switch (f) {
    case activation_function::silu:
      for (std::size_t i = 0; i < n; ++i) y[i] = elementary::silu(gate[i]) * up[i];
      break;
    case activation_function::gelu:
      for (std::size_t i = 0; i < n; ++i) y[i] = elementary::gelu(gate[i]) * up[i];
      break;
    case activation_function::gelu_tanh:
      for (std::size_t i = 0; i < n; ++i) y[i] = elementary::gelu_tanh(gate[i]) * up[i];
      break;
    case activation_function::relu:
      for (std::size_t i = 0; i < n; ++i) y[i] = (gate[i] > 0 ? gate[i] : 0.0f) * up[i];
      break;
    case activation_function::clamped_swiglu:
      for (std::size_t i = 0; i < n; ++i) {
        const float g = gate[i] > 7.0f ? 7.0f : gate[i];
        const float u = up[i] > 7.0f ? 7.0f : up[i] < -7.0f ? -7.0f : up[i];
        y[i] = (u + 1.0f) * g * elementary::sigmoid(1.702f * g);
      }
      break;
  }
}

}  // namespace qlib::inline v0
