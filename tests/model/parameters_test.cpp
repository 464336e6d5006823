#include "../io/temporary_folder.hpp"
#include "golden_family.hpp"

#include <nlohmann/json.hpp>

#include <map>

using namespace qlib_test;

namespace {

/// A golden family's checkpoint in memory, to be changed and written elsewhere.
struct edited_checkpoint {
  struct tensor {
    qlib::tensor_info info;
    std::string bytes;
  };
  std::map<std::string, tensor> tensors;
  nlohmann::json config;
  temporary_folder folder;

  explicit edited_checkpoint(const std::string& family) {
    const opened_model m{families_folder() + "/" + family};
    REQUIRE(m.found.empty());
    for (const qlib::stored_tensor& t : m.source.tensors()) {
      const auto bytes = m.source.bytes(t);
      tensors[t.info.name] = {t.info, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}};
    }
    config = nlohmann::json::parse(m.source.config_text());
  }

  void rename(const std::string& from, const std::string& to) {
    REQUIRE(tensors.contains(from));
    tensors[to] = std::move(tensors[from]);
    tensors.erase(from);
  }

  void add(const std::string& name, qlib::dtype type, std::vector<std::uint64_t> shape, std::string bytes) {
    tensors[name] = {{.name = name, .dtype = type, .shape = std::move(shape)}, std::move(bytes)};
  }

  const std::string directory() {
    std::vector<qlib::tensor_info> infos;
    for (auto& [name, t] : tensors) {
      t.info.name = name;
      infos.push_back(t.info);
    }
    qlib::order_for_writing(infos);
    REQUIRE(qlib::assign_offsets(infos));
    const auto header = qlib::serialize_safetensors_header(infos);
    REQUIRE(header);
    std::string file = *header;
    for (const qlib::tensor_info& t : infos) file += tensors[t.name].bytes;
    folder.write("model.safetensors", file);
    folder.write("config.json", config.dump());
    return folder.path();
  }
};

std::string create_errors(const opened_model& m) {
  REQUIRE_MESSAGE(m.found.empty(), text_of(m.found));
  const qlib::checkpoint_parameters source{m.source, m.layout};
  qlib::decoder out;
  return text_of(qlib::decoder::create(m.description, source, {}, out));
}

std::vector<float> logits_of(const opened_model& m) {
  REQUIRE_MESSAGE(m.found.empty(), text_of(m.found));
  const qlib::checkpoint_parameters source{m.source, m.layout};
  qlib::decoder decoder;
  const qlib::errors found = qlib::decoder::create(m.description, source, {.gemm = {.kind = qlib::gemm_kind::reproducible}}, decoder);
  REQUIRE_MESSAGE(found.empty(), text_of(found));
  qlib::forward_hook hook;
  return run_forward(decoder, {1, 5, 9, 13, 2, 2}, {0, 4, 6}, hook).logits;
}

}  // namespace

TEST_CASE("missing, misshapen and unknown tensors are told together before anything runs") {
  edited_checkpoint edited{"llama"};
  edited.tensors.erase("model.layers.1.self_attn.k_proj.weight");
  edited.config["vocab_size"] = 97;
  edited.rename("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.upper_proj.weight");
  const std::string text = create_errors(opened_model{edited.directory()});
  CHECK(text.find("model.layers.1.self_attn.k_proj.weight: missing") != std::string::npos);
  CHECK(text.find("lm_head.weight: is [96, 48], but config.json asks for [97, 48]") != std::string::npos);
  CHECK(text.find("model.layers.0.mlp.up_proj.weight: missing") != std::string::npos);
  CHECK(text.find("model.layers.0.mlp.upper_proj.weight: is a tensor that the forward pass of llama does not use") != std::string::npos);
}

TEST_CASE("layers behind the last one, towers and rotary buffers may stand beside the decoder") {
  edited_checkpoint edited{"llama"};
  const std::string zeros(16, '\0');
  for (const char* name : {"model.layers.2.eh_proj.weight", "model.layers.2.self_attn.q_proj.weight", "mtp.fc.weight", "visual.blocks.0.qkv.weight",
                           "model.layers.0.self_attn.rotary_emb.inv_freq"})
    edited.add(name, qlib::dtype::f32, {2, 2}, zeros);
  CHECK(create_errors(opened_model{edited.directory()}) == "");
}

TEST_CASE("a decoder inside a multimodal checkpoint computes the same under its prefix") {
  const std::vector<float> plain = logits_of(opened_model{families_folder() + "/llama"});
  for (const char* prefix : {"model.language_model.", "language_model.model."}) {
    edited_checkpoint edited{"llama"};
    std::vector<std::string> names;
    for (const auto& [name, t] : edited.tensors) names.push_back(name);
    for (const std::string& name : names)
      if (name.starts_with("model.")) edited.rename(name, prefix + name.substr(6));
    if (std::string_view{prefix}.starts_with("language")) edited.rename("lm_head.weight", "language_model.lm_head.weight");
    edited.add("model.visual.patch_embed.weight", qlib::dtype::f32, {2, 2}, std::string(16, '\0'));
    nlohmann::json text = edited.config;
    edited.config = {{"model_type", "some_vl"}, {"text_config", text}};
    CHECK(logits_of(opened_model{edited.directory()}) == plain);
  }
}

TEST_CASE("block-fp8 weights compute as the bf16 weights that they stand for") {
  edited_checkpoint fp8{"llama"}, wide{"llama"};
  const std::string name = "model.layers.0.mlp.gate_proj.weight";
  const std::uint64_t rows = 96, cols = 48, block = 40;  // ragged in both directions
  REQUIRE(fp8.tensors[name].info.shape == std::vector<std::uint64_t>{rows, cols});
  std::string codes, scales, values;
  for (std::uint64_t i = 0; i < 3 * 2; ++i) {
    const float s = 0.01f * static_cast<float>(i + 1);
    scales.append(reinterpret_cast<const char*>(&s), 4);
  }
  for (std::uint64_t r = 0; r < rows; ++r)
    for (std::uint64_t c = 0; c < cols; ++c) {
      const auto code = static_cast<std::uint8_t>((r * 37 + c * 11) % 254 == 0x7f ? 1 : (r * 37 + c * 11) % 254);
      codes.push_back(static_cast<char>(code));
      const qlib::bf16 v = qlib::to_bf16(qlib::e4m3_to_float(code) * (0.01f * static_cast<float>(r / block * 2 + c / block + 1)));
      values.append(reinterpret_cast<const char*>(&v), 2);
    }
  fp8.add(name, qlib::dtype::f8_e4m3, {rows, cols}, codes);
  fp8.add(name + "_scale_inv", qlib::dtype::f32, {3, 2}, scales);
  fp8.config["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {block, block}}};
  wide.add(name, qlib::dtype::bf16, {rows, cols}, values);
  CHECK(logits_of(opened_model{fp8.directory()}) == logits_of(opened_model{wide.directory()}));
}

TEST_CASE("weights at odd addresses, in bf16 or widened to f32, are read as the same numbers") {
  const std::vector<float> plain = logits_of(opened_model{families_folder() + "/llama"});
  for (const qlib::dtype type : {qlib::dtype::f32, qlib::dtype::bf16}) {
    edited_checkpoint edited{"llama"};
    for (auto& [name, t] : edited.tensors) {
      if (type == qlib::dtype::bf16) continue;
      std::string widened;
      for (std::size_t i = 0; i + 1 < t.bytes.size(); i += 2) {
        qlib::bf16 h;
        std::memcpy(&h, t.bytes.data() + i, 2);
        const float v = qlib::to_float(h);
        widened.append(reinterpret_cast<const char*>(&v), 4);
      }
      t = {t.info, widened};
      t.info.dtype = qlib::dtype::f32;
    }
    // One more space in the header puts every tensor at an odd address.
    const std::string directory = edited.directory();
    std::string file = edited.folder.read("model.safetensors");
    std::uint64_t length;
    std::memcpy(&length, file.data(), 8);
    file.insert(8 + length, " ");
    ++length;
    std::memcpy(file.data(), &length, 8);
    edited.folder.write("model.safetensors", file);
    const std::vector<float> got = logits_of(opened_model{directory});
    // Rows of f32 and of bf16 go through different kernels; the products are those of the same numbers.
    CHECK(relative_difference(got, plain) <= 1e-5);
  }
}

TEST_CASE("a row of a tensor is read as the tensor says, and one that is not there is an error") {
  const opened_model m{families_folder() + "/llama"};
  const qlib::checkpoint_parameters source{m.source, m.layout};
  std::vector<float> all(96 * 48), row(48);
  REQUIRE(source.read("model.embed_tokens.weight", {all.data(), 96, 48}));
  REQUIRE(source.read("model.embed_tokens.weight", {row.data(), 1, 48}, 7));
  CHECK(std::equal(row.begin(), row.end(), all.begin() + 7 * 48));
  CHECK(source.type("model.embed_tokens.weight") == qlib::dtype::bf16);
  const qlib::status beyond = source.read("model.embed_tokens.weight", {row.data(), 1, 48}, 96);
  REQUIRE(!beyond);
  CHECK(beyond.error().text().find("model.embed_tokens.weight: has 96 rows of 48") != std::string::npos);
  CHECK(!source.read("model.nothing", {row.data(), 1, 48}));
  CHECK(!source.linear("model.norm"));
}

TEST_CASE("experts in MXFP4 compute what their values compute") {
  edited_checkpoint packed{"gpt_oss"}, plain{"gpt_oss"};
  const std::string down = "model.layers.1.mlp.experts.down_proj";
  const std::vector<std::uint64_t> shape = plain.tensors.at(down).info.shape;  // [experts, in, out]
  const std::size_t experts = shape[0], ins = shape[1], outs = shape[2];
  REQUIRE(ins % 32 == 0);
  std::string codes, exponents;
  std::vector<float> values(experts * ins * outs);
  unsigned state = 1;
  for (std::size_t e = 0; e < experts; ++e)
    for (std::size_t r = 0; r < outs; ++r)
      for (std::size_t c = 0; c < ins; c += 2) {
        if (c % 32 == 0) exponents += static_cast<char>(122 + (e + r) % 4);
        state = state * 1664525u + 1013904223u;
        const auto both = static_cast<std::uint8_t>(state >> 24);
        codes += static_cast<char>(both);
        for (std::size_t k = 0; k < 2; ++k)
          values[(e * ins + c + k) * outs + r] =
              std::ldexp(qlib::e2m1_to_float(static_cast<std::uint8_t>((both >> (4 * k)) & 15)), static_cast<int>((e + r) % 4) - 5);
      }
  packed.tensors.erase(down);
  packed.add(down + "_blocks", qlib::dtype::u8, {experts, outs, ins / 32, 16}, codes);
  packed.add(down + "_scales", qlib::dtype::u8, {experts, outs, ins / 32}, exponents);
  packed.config["quantization_config"] = {{"quant_method", "mxfp4"}};
  plain.add(down, qlib::dtype::f32, shape, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  const std::vector<float> expected = logits_of(opened_model{plain.directory()});
  CHECK(relative_difference(logits_of(opened_model{packed.directory()}), expected) < 1e-6);
  CHECK(relative_difference(expected, logits_of(opened_model{families_folder() + "/gpt_oss"})) > 1e-3);

  edited_checkpoint halved{"gpt_oss"};
  halved.tensors.erase(down);
  halved.add(down + "_scales", qlib::dtype::u8, {experts, outs, ins / 32}, exponents);
  halved.config["quantization_config"] = {{"quant_method", "mxfp4"}};
  const opened_model lost{halved.directory()};
  REQUIRE(lost.found.size() == 1);
  CHECK(lost.found.front().subject == down + "_scales");

  packed.add(down + "_scales", qlib::dtype::u8, {experts, outs, 2}, exponents + exponents);
  const opened_model broken{packed.directory()};
  REQUIRE(broken.found.size() == 1);
  CHECK(broken.found.front().subject == down + "_blocks");
}
