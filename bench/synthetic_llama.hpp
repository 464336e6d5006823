/// A Llama checkpoint of any size with random weights, to measure conversions on.
#pragma once
#include <qlib/core/convert.hpp>
#include <qlib/io/safetensors.hpp>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace qlib::bench {

struct llama_shape {
  std::size_t layers = 22, hidden = 2048, intermediate = 5632, kv = 256, vocab = 32000;
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
    add(p + "mlp.gate_proj.weight", {s.intermediate, s.hidden});
    add(p + "mlp.up_proj.weight", {s.intermediate, s.hidden});
    add(p + "mlp.down_proj.weight", {s.hidden, s.intermediate});
  }
  order_for_writing(tensors);
  const std::uint64_t size = *assign_offsets(tensors);
  std::ofstream out{directory + "/model.safetensors", std::ios::binary};
  out << *serialize_safetensors_header(tensors, {{"format", "pt"}});
  std::vector<bf16> block(1 << 20);
  std::uint64_t state = 0x9e3779b97f4a7c15u;
  for (std::uint64_t done = 0; done < size / 2; done += block.size()) {
    for (bf16& v : block) {  // a sum of four uniforms is Gaussian enough
      state = state * 6364136223846793005u + 1442695040888963407u;
      const int sum = static_cast<int>((state >> 8 & 255) + (state >> 24 & 255) + (state >> 40 & 255) + (state >> 56 & 255)) - 510;
      v = to_bf16(static_cast<float>(sum) * (0.02f / 148.0f));
    }
    out.write(reinterpret_cast<const char*>(block.data()), static_cast<std::streamsize>(std::min<std::uint64_t>(block.size(), size / 2 - done) * 2));
  }
  std::ofstream config{directory + "/config.json"};
  config << "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"torch_dtype\": \"bfloat16\", \"hidden_size\": " << s.hidden
         << ", \"intermediate_size\": " << s.intermediate << ", \"num_hidden_layers\": " << s.layers << ", \"num_attention_heads\": " << s.hidden / 64
         << ", \"num_key_value_heads\": " << s.kv / 64 << ", \"head_dim\": 64, \"vocab_size\": " << s.vocab
         << ", \"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0, \"max_position_embeddings\": 2048, \"hidden_act\": \"silu\", "
            "\"tie_word_embeddings\": false}\n";
  return size;
}

}  // namespace qlib::bench
