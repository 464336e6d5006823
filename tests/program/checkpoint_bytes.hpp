/// Checkpoints, good and broken, byte by byte.
#pragma once
#include "../io/temporary_folder.hpp"

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlib_test {

struct tensor_bytes {
  std::string name, dtype;
  std::vector<std::uint64_t> shape;
  std::string bytes;
};

/// Deterministic bf16 values in (-2, 2): xorshift64* of `seed`.
inline std::string random_bf16(std::size_t count, std::uint64_t seed) {
  std::string bytes(count * 2, '\0');
  std::uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (std::size_t i = 0; i < count; ++i) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    const auto random = static_cast<std::uint16_t>((state * 0x2545f4914f6cdd1du) >> 48);
    // sign and mantissa as they come, exponents 2^-8 to 2^0
    const auto value = static_cast<std::uint16_t>((random & 0x807fu) | (119u + (random >> 7 & 7u) + (random >> 10 & 1u)) << 7);
    std::memcpy(bytes.data() + i * 2, &value, 2);
  }
  return bytes;
}

inline tensor_bytes bf16_tensor(const std::string& name, std::vector<std::uint64_t> shape) {
  std::size_t count = 1;
  std::uint64_t seed = 1469598103934665603u;
  for (const std::uint64_t extent : shape) count *= extent;
  for (const unsigned char ch : name) seed = (seed ^ ch) * 1099511628211u;
  return {name, "BF16", std::move(shape), random_bf16(count, seed)};
}

/// One element of a BF16 matrix. Row-major; columns of the last dimension.
inline void set_bf16(tensor_bytes& t, std::size_t row, std::size_t column, std::uint16_t bits) {
  std::memcpy(t.bytes.data() + (row * t.shape.back() + column) * 2, &bits, 2);
}
inline constexpr std::uint16_t bf16_nan = 0x7fc0, bf16_infinity = 0x7f80, bf16_minus_infinity = 0xff80;

inline std::string with_length(std::string_view header) {
  std::string text(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(text.data(), &length, 8);
  return text += header;
}

inline std::string header_entry(const tensor_bytes& t, std::uint64_t begin, std::uint64_t end) {
  std::string shape;
  for (const std::uint64_t extent : t.shape) shape += (shape.empty() ? "" : ",") + std::to_string(extent);
  return "\"" + t.name + "\":{\"dtype\":\"" + t.dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string(begin) + "," +
         std::to_string(end) + "]}";
}

inline std::string safetensors_bytes(const std::vector<tensor_bytes>& tensors) {
  std::string header = "{", data;
  for (const tensor_bytes& t : tensors) {
    header += (header.size() > 1 ? "," : "") + header_entry(t, data.size(), data.size() + t.bytes.size());
    data += t.bytes;
  }
  return with_length(header + "}") + data;
}

inline std::string index_bytes(const std::vector<std::pair<std::string, std::string>>& tensor_and_file) {
  std::string map;
  for (const auto& [tensor, file] : tensor_and_file) map += (map.empty() ? "\"" : ",\"") + tensor + "\":\"" + file + "\"";
  return "{\"metadata\":{\"total_size\":0},\"weight_map\":{" + map + "}}";
}

/// Sizes of a Llama.
struct llama_shape {
  std::size_t layers = 2, hidden = 64, key_rows = 32, intermediate = 96, vocabulary = 48;
};

inline std::vector<tensor_bytes> llama_tensors(const llama_shape& s = {}) {
  std::vector<tensor_bytes> all{bf16_tensor("model.embed_tokens.weight", {s.vocabulary, s.hidden})};
  for (std::size_t i = 0; i < s.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    all.push_back(bf16_tensor(layer + "input_layernorm.weight", {s.hidden}));
    all.push_back(bf16_tensor(layer + "self_attn.q_proj.weight", {s.hidden, s.hidden}));
    all.push_back(bf16_tensor(layer + "self_attn.k_proj.weight", {s.key_rows, s.hidden}));
    all.push_back(bf16_tensor(layer + "self_attn.v_proj.weight", {s.key_rows, s.hidden}));
    all.push_back(bf16_tensor(layer + "self_attn.o_proj.weight", {s.hidden, s.hidden}));
    all.push_back(bf16_tensor(layer + "post_attention_layernorm.weight", {s.hidden}));
    all.push_back(bf16_tensor(layer + "mlp.gate_proj.weight", {s.intermediate, s.hidden}));
    all.push_back(bf16_tensor(layer + "mlp.up_proj.weight", {s.intermediate, s.hidden}));
    all.push_back(bf16_tensor(layer + "mlp.down_proj.weight", {s.hidden, s.intermediate}));
  }
  all.push_back(bf16_tensor("model.norm.weight", {s.hidden}));
  all.push_back(bf16_tensor("lm_head.weight", {s.vocabulary, s.hidden}));
  return all;
}

inline constexpr std::string_view llama_config = R"({"model_type": "llama", "torch_dtype": "bfloat16"})";

/// A model directory `name` in `folder`; returns its path.
inline std::string write_model(const temporary_folder& folder, const std::string& name, const std::vector<tensor_bytes>& tensors,
                               std::string_view config = llama_config) {
  std::filesystem::create_directories(folder.path(name));
  folder.write(name + "/config.json", config);
  folder.write(name + "/model.safetensors", safetensors_bytes(tensors));
  folder.write(name + "/tokenizer.json", "{}");
  return folder.path(name);
}

}  // namespace qlib_test
