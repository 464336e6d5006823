/// A Llama, or a Qwen3 with experts, of any size with random weights, to measure conversions on.
#pragma once
#include <qlib/core/convert.hpp>
#include <qlib/io/safetensors.hpp>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

namespace qlib::bench {

struct llama_shape {
  std::size_t layers = 22, hidden = 2048, intermediate = 5632, kv = 256, vocab = 32000;
  std::size_t experts = 0, top_k = 8;  ///< of each layer, each `intermediate` wide: qwen3_moe; 0: llama
};

/// A sum of four uniforms is Gaussian enough.
class gaussian_weights {
 public:
  void fill(std::span<bf16> block) {
    for (bf16& v : block) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      const int sum = static_cast<int>((state_ >> 8 & 255) + (state_ >> 24 & 255) + (state_ >> 40 & 255) + (state_ >> 56 & 255)) - 510;
      v = to_bf16(static_cast<float>(sum) * (0.02f / 148.0f));
    }
  }

 private:
  std::uint64_t state_ = 0x9e3779b97f4a7c15u;
};

/// Writes config.json and model.safetensors (bf16, Gaussian-like, sigma 0.02) to `directory`. Returns the bytes of the tensors.
inline std::uint64_t write_synthetic_llama(const std::string& directory, const llama_shape& s) {
  std::filesystem::create_directories(directory);
  std::vector<tensor_info> tensors;
  const auto add = [&](std::string name, std::vector<std::uint64_t> shape) { tensors.push_back({std::move(name), dtype::bf16, std::move(shape)}); };
  add("model.embed_tokens.weight", {s.vocab, s.hidden});
  add("lm_head.weight", {s.vocab, s.hidden});
  add("model.norm.weight", {s.hidden});
  for (std::size_t l = 0; l < s.layers; ++l) {
    const std::string p = "model.layers." + std::to_string(l) + ".";
    add(p + "input_layernorm.weight", {s.hidden});
    add(p + "post_attention_layernorm.weight", {s.hidden});
    add(p + "self_attn.q_proj.weight", {s.hidden, s.hidden});
    add(p + "self_attn.k_proj.weight", {s.kv, s.hidden});
    add(p + "self_attn.v_proj.weight", {s.kv, s.hidden});
    add(p + "self_attn.o_proj.weight", {s.hidden, s.hidden});
    const auto block = [&](const std::string& at) {
      add(at + "gate_proj.weight", {s.intermediate, s.hidden});
      add(at + "up_proj.weight", {s.intermediate, s.hidden});
      add(at + "down_proj.weight", {s.hidden, s.intermediate});
    };
    if (s.experts == 0) {
      block(p + "mlp.");
      continue;
    }
    add(p + "self_attn.q_norm.weight", {64});
    add(p + "self_attn.k_norm.weight", {64});
    add(p + "mlp.gate.weight", {s.experts, s.hidden});
    for (std::size_t e = 0; e < s.experts; ++e) block(p + "mlp.experts." + std::to_string(e) + ".");
  }
  order_for_writing(tensors);
  const std::uint64_t size = *assign_offsets(tensors);
  std::ofstream out{directory + "/model.safetensors", std::ios::binary};
  out << *serialize_safetensors_header(tensors, {{"format", "pt"}});
  std::vector<bf16> block(1 << 20);
  gaussian_weights weights;
  for (std::uint64_t done = 0; done < size / 2; done += block.size()) {
    weights.fill(block);
    out.write(reinterpret_cast<const char*>(block.data()), static_cast<std::streamsize>(std::min<std::uint64_t>(block.size(), size / 2 - done) * 2));
  }
  std::ofstream config{directory + "/config.json"};
  config << (s.experts == 0 ? "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\""
                            : "{\"architectures\": [\"Qwen3MoeForCausalLM\"], \"model_type\": \"qwen3_moe\"");
  if (s.experts > 0)
    config << ", \"num_experts\": " << s.experts << ", \"num_experts_per_tok\": " << s.top_k << ", \"moe_intermediate_size\": " << s.intermediate
           << ", \"norm_topk_prob\": true, \"decoder_sparse_step\": 1, \"mlp_only_layers\": []";
  config << ", \"torch_dtype\": \"bfloat16\", \"hidden_size\": " << s.hidden << ", \"intermediate_size\": " << s.intermediate
         << ", \"num_hidden_layers\": " << s.layers << ", \"num_attention_heads\": " << s.hidden / 64 << ", \"num_key_value_heads\": " << s.kv / 64
         << ", \"head_dim\": 64, \"vocab_size\": " << s.vocab
         << ", \"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0, \"max_position_embeddings\": 2048, \"hidden_act\": \"silu\", "
            "\"tie_word_embeddings\": false}\n";
  return size;
}

}  // namespace qlib::bench
