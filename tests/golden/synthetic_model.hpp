/// Small checkpoints of every storage layout, with the matrices that each layout is known to hold.
#pragma once
#include "quantized_folder.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace qlib_test {

/// A linear layer: weight [rows, cols] and bias [rows] as the floats that the file stands for.
struct known_matrix {
  std::string module;
  std::size_t rows = 0, cols = 0;
  std::vector<float> values, bias;
  bool quantized = true;  ///< false: stays float when the user names no layers
};

class synthetic_model {
 public:
  explicit synthetic_model(std::string config, qlib::dtype type = qlib::dtype::bf16) : config_{std::move(config)}, type_{type} {}

  const std::vector<known_matrix>& matrices() const { return matrices_; }
  /// Tensors that `matrices` speak for. All others have to be in the output as they are.
  bool is_matrix(const std::string& tensor) const { return matrix_tensors_.count(tensor) == 1; }

  /// A norm, an embedding, a convolution, a buffer.
  void keep(const std::string& name, std::vector<std::uint64_t> shape) { add(name, std::move(shape)); }

  void linear(const std::string& module, std::size_t rows, std::size_t cols, bool bias = false, bool quantized = true) {
    known_matrix m{module, rows, cols, add(module + ".weight", {rows, cols}), {}, quantized};
    matrix_tensors_.insert(module + ".weight");
    if (bias) {
      m.bias = add(module + ".bias", {rows});
      matrix_tensors_.insert(module + ".bias");
    }
    matrices_.push_back(std::move(m));
  }

  /// Embeddings, a block's norms and attention of the usual names, and a head. hidden: multiple of 32.
  void embedding_and_head(std::size_t vocabulary, std::size_t hidden, bool tied = false) {
    keep("model.embed_tokens.weight", {vocabulary, hidden});
    keep("model.norm.weight", {hidden});
    if (!tied) linear("lm_head", vocabulary, hidden, false, false);
  }
  void attention(const std::string& layer, std::size_t hidden, std::size_t key_rows, bool bias = false) {
    keep(layer + ".input_layernorm.weight", {hidden});
    keep(layer + ".post_attention_layernorm.weight", {hidden});
    linear(layer + ".self_attn.q_proj", hidden, hidden, bias);
    linear(layer + ".self_attn.k_proj", key_rows, hidden, bias);
    linear(layer + ".self_attn.v_proj", key_rows, hidden, bias);
    linear(layer + ".self_attn.o_proj", hidden, hidden);
  }
  void mlp(const std::string& base, std::size_t hidden, std::size_t intermediate) {
    linear(base + ".gate_proj", intermediate, hidden);
    linear(base + ".up_proj", intermediate, hidden);
    linear(base + ".down_proj", hidden, intermediate);
  }

  enum class order { halves, alternating };  ///< gate then up, or gate and up in turn

  /// Experts in two tensors: [experts, 2 * intermediate, hidden] and [experts, hidden, intermediate], or with the last two
  /// dimensions exchanged (`transposed`).
  void stacked_experts(const std::string& base, std::size_t experts, std::size_t intermediate, std::size_t hidden, bool transposed, order rows,
                       bool bias) {
    const std::size_t both = 2 * intermediate;
    const auto gate_up = add(base + ".gate_up_proj", transposed ? shape_of(experts, hidden, both) : shape_of(experts, both, hidden));
    const auto down = add(base + ".down_proj", transposed ? shape_of(experts, intermediate, hidden) : shape_of(experts, hidden, intermediate));
    const auto gate_up_bias = bias ? add(base + ".gate_up_proj_bias", {experts, both}) : std::vector<float>{};
    const auto down_bias = bias ? add(base + ".down_proj_bias", {experts, hidden}) : std::vector<float>{};
    for (const char* name : {".gate_up_proj", ".down_proj", ".gate_up_proj_bias", ".down_proj_bias"}) matrix_tensors_.insert(base + name);
    const auto at = [&](const std::vector<float>& stack, std::size_t e, std::size_t out, std::size_t in, std::size_t outs, std::size_t ins) {
      return stack[e * outs * ins + (transposed ? in * outs + out : out * ins + in)];
    };
    for (std::size_t e = 0; e < experts; ++e) {
      const std::string expert = base + "." + std::to_string(e);
      for (const bool is_gate : {true, false}) {
        known_matrix m{expert + (is_gate ? ".gate_proj" : ".up_proj"), intermediate, hidden, {}, {}, true};
        for (std::size_t r = 0; r < intermediate; ++r) {
          const std::size_t out = rows == order::alternating ? 2 * r + (is_gate ? 0 : 1) : r + (is_gate ? 0 : intermediate);
          for (std::size_t c = 0; c < hidden; ++c) m.values.push_back(at(gate_up, e, out, c, both, hidden));
          if (bias) m.bias.push_back(gate_up_bias[e * both + out]);
        }
        matrices_.push_back(std::move(m));
      }
      known_matrix m{expert + ".down_proj", hidden, intermediate, {}, {}, true};
      for (std::size_t r = 0; r < hidden; ++r) {
        for (std::size_t c = 0; c < intermediate; ++c) m.values.push_back(at(down, e, r, c, hidden, intermediate));
        if (bias) m.bias.push_back(down_bias[e * hidden + r]);
      }
      matrices_.push_back(std::move(m));
    }
  }

  /// e4m3 codes and one factor for each 128 x 128 block; the last blocks of a row and a column may be cut. Stands for bf16 values.
  void block_fp8(const std::string& module, std::size_t rows, std::size_t cols, bool quantized = true) {
    const std::size_t grid_rows = (rows + 127) / 128, grid_cols = (cols + 127) / 128;
    std::vector<float> factors(grid_rows * grid_cols);
    for (float& f : factors) f = std::uniform_real_distribution<float>{0.001f, 0.01f}(random_);
    std::string codes, factor_bytes;
    known_matrix m{module, rows, cols, {}, {}, quantized};
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < cols; ++c) {
        const std::uint8_t code = qlib::to_e4m3(std::uniform_real_distribution<float>{-440.0f, 440.0f}(random_));
        codes += static_cast<char>(code);
        m.values.push_back(qlib::to_float(qlib::to_bf16(qlib::e4m3_to_float(code) * factors[r / 128 * grid_cols + c / 128])));
      }
    for (const float f : factors) append(factor_bytes, f);
    tensors_.push_back({{module + ".weight", qlib::dtype::f8_e4m3, {rows, cols}}, std::move(codes)});
    tensors_.push_back({{module + ".weight_scale_inv", qlib::dtype::f32, {grid_rows, grid_cols}}, std::move(factor_bytes)});
    matrix_tensors_.insert(module + ".weight");
    matrix_tensors_.insert(module + ".weight_scale_inv");
    matrices_.push_back(std::move(m));
  }

  /// gpt-oss' storage of stacked experts, gate and up rows in turn: e2m1 codes, two a byte, and an exponent for each 32.
  void mxfp4_experts(const std::string& base, std::size_t experts, std::size_t intermediate, std::size_t hidden) {
    const auto stack = [&](const std::string& name, std::size_t outs, std::size_t ins) {
      std::string codes, exponents;
      std::vector<float> values;
      for (std::size_t group = 0; group < experts * outs * ins / 32; ++group) {
        const auto exponent = static_cast<std::uint8_t>(116 + random_() % 6);
        exponents += static_cast<char>(exponent);
        for (std::size_t k = 0; k < 16; ++k) {
          const auto both = static_cast<std::uint8_t>(random_());
          codes += static_cast<char>(both);
          for (const int nibble : {both & 15, both >> 4})
            values.push_back(std::ldexp(qlib::e2m1_to_float(static_cast<std::uint8_t>(nibble)), exponent - 127));
        }
      }
      tensors_.push_back({{base + name + "_blocks", qlib::dtype::u8, {experts, outs, ins / 32, 16}}, std::move(codes)});
      tensors_.push_back({{base + name + "_scales", qlib::dtype::u8, {experts, outs, ins / 32}}, std::move(exponents)});
      for (const char* end : {"_blocks", "_scales", "_bias"}) matrix_tensors_.insert(base + name + end);
      return values;
    };
    const std::size_t both = 2 * intermediate;
    const auto gate_up = stack(".gate_up_proj", both, hidden), down = stack(".down_proj", hidden, intermediate);
    const auto gate_up_bias = add(base + ".gate_up_proj_bias", {experts, both}), down_bias = add(base + ".down_proj_bias", {experts, hidden});
    const auto part = [&](const std::string& module, const std::vector<float>& values, const std::vector<float>& bias, std::size_t first,
                          std::size_t step, std::size_t rows, std::size_t cols) {
      known_matrix m{module, rows, cols, {}, {}, true};
      for (std::size_t r = 0; r < rows; ++r) {
        const float* row = values.data() + (first + r * step) * cols;
        m.values.insert(m.values.end(), row, row + cols);
        m.bias.push_back(bias[first + r * step]);
      }
      matrices_.push_back(std::move(m));
    };
    for (std::size_t e = 0; e < experts; ++e) {
      const std::string expert = base + "." + std::to_string(e);
      part(expert + ".gate_proj", gate_up, gate_up_bias, e * both, 2, intermediate, hidden);
      part(expert + ".up_proj", gate_up, gate_up_bias, e * both + 1, 2, intermediate, hidden);
      part(expert + ".down_proj", down, down_bias, e * hidden, 1, hidden, intermediate);
    }
  }

  void write(const temporary_folder& folder) const {
    folder.write("config.json", config_);
    std::vector<qlib::tensor_info> infos;
    for (const tensor& t : tensors_) infos.push_back(t.info);
    const auto size = qlib::assign_offsets(infos);
    REQUIRE(size);
    auto file = qlib::serialize_safetensors_header(infos);
    REQUIRE(file);
    for (const tensor& t : tensors_) *file += t.bytes;
    folder.write("model.safetensors", *file);
  }

 private:
  struct tensor {
    qlib::tensor_info info;
    std::string bytes;
  };

  static std::vector<std::uint64_t> shape_of(std::uint64_t a, std::uint64_t b, std::uint64_t c) { return {a, b, c}; }

  template <class T>
  static void append(std::string& bytes, T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }

  /// Adds a tensor of random values of the model's dtype and returns them.
  std::vector<float> add(const std::string& name, std::vector<std::uint64_t> shape) {
    tensor t{{name, type_, std::move(shape)}, {}};
    std::uniform_real_distribution<float> value{-1.0f, 1.0f};
    std::vector<float> values(t.info.elements());
    for (float& v : values) {
      v = qlib::round_to(type_, value(random_));
      if (type_ == qlib::dtype::bf16) append(t.bytes, qlib::to_bf16(v));
      else if (type_ == qlib::dtype::f16) append(t.bytes, qlib::to_f16(v));
      else append(t.bytes, v);
    }
    tensors_.push_back(std::move(t));
    return values;
  }

  std::string config_;
  qlib::dtype type_;
  std::mt19937 random_{20};
  std::vector<tensor> tensors_;
  std::vector<known_matrix> matrices_;
  std::set<std::string> matrix_tensors_;
};

}  // namespace qlib_test
