/// What joins the gate and the up projection of a feed-forward block, or stands behind its up projection.
#pragma once
#include <qlib/linalg/elementary.hpp>

#include <cmath>
#include <cstddef>
#include <optional>
#include <string_view>

namespace qlib::inline v0 {

enum class activation_function {
  silu,
  gelu,
  gelu_tanh,
  relu,
  relu_squared,
  xielu,           ///< x > 0: a x² + x / 2, else b (e^min(x, -1e-6) - 1 - x) + x / 2, with a and b of the layer; only without a gate
  clamped_swiglu,  ///< gpt-oss: g = min(g, 7), u = clamp(u, ±7); (u + 1) g σ(1.702 g)
};

constexpr std::optional<activation_function> activation_from_name(std::string_view name) {
  if (name == "silu" || name == "swish") return activation_function::silu;
  if (name == "gelu" || name == "gelu_python") return activation_function::gelu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new" || name == "gelu_fast" || name == "gelu_python_tanh") return activation_function::gelu_tanh;
  if (name == "relu2") return activation_function::relu_squared;
  if (name == "xielu") return activation_function::xielu;
  if (name == "relu") return activation_function::relu;
  return std::nullopt;
}

/// Of one layer. Its tensors hold the inverse softplus of a, and of b - 0.5.
struct xielu_constants {
  float positive = 0, negative = 0;

  static xielu_constants from_stored(float alpha_p, float alpha_n) { return {elementary::softplus(alpha_p), 0.5f + elementary::softplus(alpha_n)}; }
};

/// x = f(x), elementwise.
inline void activate_alone(activation_function f, const xielu_constants& xielu, float* x, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    const float v = x[i], above = v > 0 ? v : 0.0f;
    switch (f) {
      case activation_function::gelu:
        x[i] = elementary::gelu(v);
        break;
      case activation_function::gelu_tanh:
        x[i] = elementary::gelu_tanh(v);
        break;
      case activation_function::relu:
        x[i] = above;
        break;
      case activation_function::relu_squared:
        x[i] = above * above;
        break;
      case activation_function::xielu:
        x[i] =
            v > 0 ? xielu.positive * v * v + 0.5f * v
                  : static_cast<float>(std::expm1(static_cast<double>(v < -1e-6f ? v : -1e-6f)) - static_cast<double>(v)) * xielu.negative + 0.5f * v;
        break;
      default:
        x[i] = elementary::silu(v);
        break;
    }
  }
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
    case activation_function::relu_squared:
      for (std::size_t i = 0; i < n; ++i) {
        const float g = gate[i] > 0 ? gate[i] : 0.0f;
        y[i] = g * g * up[i];
      }
      break;
    case activation_function::xielu:  // read_model_description refuses it with a gate
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
