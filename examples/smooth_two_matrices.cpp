// SmoothQuant on two plain matrices: inputs with an outlier channel become easy to quantize, and the product stays what it was.
#include <qlib/suppressor/fold.hpp>
#include <qlib/suppressor/output_error.hpp>
#include <qlib/suppressor/smooth_quant.hpp>

#include <cstdio>
#include <vector>

int main() {
  std::vector<float> x = {0.5f, -80, 0.3f, 1, -0.7f, 95, 0.9f, -0.4f, 0.2f, -60, -0.8f, 0.6f};  // [3 tokens, 4 channels]: channel 1 rules
  std::vector<float> w = {0.4f, -0.01f, 0.25f, 2, 0.8f, 0.02f, -0.5f, 0.1f};                    // [2 outputs, 4 channels]
  const std::vector<float> absmax = {0.7f, 95, 0.9f, 1}, low = {-0.7f, -80, -0.8f, -0.4f}, high = {0.5f, 95, 0.9f, 1};

  const std::vector<qlib::matrix_view<const float>> weights = {{w.data(), 2, 4}};
  const qlib::smoothing_group group{.weights = weights, .weight_spec = qlib::quant_spec{}, .input_spec = qlib::quant_spec{}};  // int8 a row, a token
  const qlib::statistics_view stats{.column_absmax = absmax, .column_min = low, .column_max = high, .inputs = {x.data(), 3, 4}};
  const qlib::transform t = qlib::smooth_quant{}.solve(group, stats);

  qlib::output_error error{group, stats};
  const double before = error.of({}), after = error.of(t);
  std::printf("relative squared error %.2e -> %.2e\n", before, after);
  qlib::fold_into_reader(t, {}, qlib::matrix_view<float>{w.data(), 2, 4});  // w *= scale
  for (std::size_t i = 0; i < x.size(); ++i) x[i] /= t.scale[i % 4];        // in a model: the norm's gains
  for (std::size_t c = 0; c < 4; ++c) std::printf("channel %zu: scale %.4f\n", c, static_cast<double>(t.scale[c]));
  return after < before ? 0 : 1;
}
