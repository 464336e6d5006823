/// Models of all kinds: which layers a recipe reaches, which are none, and what is refused before the work.
#include "checkpoint_bytes.hpp"
#include "run_program.hpp"

#include <nlohmann/json.hpp>

#include <sys/stat.h>

using namespace qlib_test;
using nlohmann::json;
using words = std::vector<std::string>;

namespace {

struct family_model {
  temporary_folder folder;
  std::string model, out = folder.path("out");

  explicit family_model(const std::vector<tensor_bytes>& tensors, std::string_view config) : model{write_model(folder, "model", tensors, config)} {}

  words quant(const words& more) const {
    words all{"quant", "--model_path", model, "--save_path", out};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  program_result run(const words& more) const {
    const program_result r = run_program(quant(more));
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    return r;
  }
  /// LLM-Compressor's QuantizationModifier with these lines.
  program_result run_recipe(const std::string& modifier) const {
    const std::string path = folder.write("recipe.yaml", "quant_stage:\n  quant_modifiers:\n    QuantizationModifier: {" + modifier + "}\n");
    return run({"--config_path", path, "--format", "compressed_tensors"});
  }
  void check_refused(const words& more, const std::vector<words>& errors) const { qlib_test::check_refused(folder.path(), quant(more), errors); }

  json config() const { return json::parse(bytes_of(out + "/config.json")); }
  /// The dtype of a tensor of the result; empty: it has none of this name.
  std::string type_of(const std::string& tensor) const {
    for (const auto& entry : std::filesystem::directory_iterator{out}) {
      if (entry.path().extension() != ".safetensors") continue;
      const std::string file = bytes_of(entry.path().string());
      std::uint64_t length = 0;
      std::memcpy(&length, file.data(), 8);
      const json header = json::parse(file.substr(8, length));
      if (header.contains(tensor)) return header[tensor]["dtype"];
    }
    return {};
  }
  void check_types(const std::string& type, const words& modules) const {
    for (const std::string& m : modules) CHECK_MESSAGE(type_of(m + ".weight") == type, m << " is " << type_of(m + ".weight"));
  }
};

bool says(const program_result& r, const std::string& part) { return r.err.find(part) != std::string::npos; }

/// One linear layer of every kind that the tests look at, under the names that LLaVA's checkpoints have.
std::vector<tensor_bytes> llava_tensors() {
  std::vector<tensor_bytes> all;
  for (const tensor_bytes& t : llama_tensors()) all.push_back(bf16_tensor("language_model." + t.name, t.shape));
  all.push_back(bf16_tensor("vision_tower.encoder.layers.0.mlp.fc1.weight", {96, 64}));
  all.push_back(bf16_tensor("multi_modal_projector.linear_1.weight", {64, 64}));
  return all;
}

const words w8a8{"--quant_type", "w8a8_dynamic"};

/// Of transformers, for two layers of checkpoint_bytes.hpp's Llama.
const std::string full_config = R"({"model_type": "llama", "torch_dtype": "bfloat16", "hidden_size": 64, "intermediate_size": 96,
  "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 48, "max_position_embeddings": 64})";

std::string with(std::string config, const std::string& from, const std::string& to) {
  const std::size_t at = config.find(from);
  REQUIRE(at != std::string::npos);
  return config.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("a recipe's ignore speaks of modules as transformers calls them: towers, connectors and heads stay float") {
  const family_model m{llava_tensors(), R"({"model_type": "llava", "torch_dtype": "bfloat16"})"};
  const program_result r =
      m.run_recipe(R"(targets: Linear, scheme: W8A8, ignore: [lm_head, 're:model\.vision_tower.*', 're:model.multi_modal_projector.*'])");
  m.check_types("BF16", {"language_model.lm_head", "vision_tower.encoder.layers.0.mlp.fc1", "multi_modal_projector.linear_1"});
  m.check_types("I8", {"language_model.model.layers.0.mlp.up_proj", "language_model.model.layers.1.self_attn.q_proj"});
  CHECK_FALSE(says(r, "no layer has this name"));
  const json ignore = m.config()["quantization_config"]["ignore"];
  for (const char* name : {"lm_head", "language_model.lm_head", "model.multi_modal_projector.linear_1", "multi_modal_projector.linear_1"})
    CHECK_MESSAGE(std::find(ignore.begin(), ignore.end(), name) != ignore.end(), name);
  CHECK(run_program({"verify", m.out}).exit_code == 0);
}

TEST_CASE("a recipe's targets speak of modules as transformers calls them, and the result of stored ones too") {
  const family_model m{llava_tensors(), R"({"model_type": "llava", "torch_dtype": "bfloat16"})"};
  m.run_recipe(R"(targets: ['re:model[.]language_model.*_proj$'], scheme: W8A8)");
  m.check_types("I8", {"language_model.model.layers.0.mlp.up_proj"});
  m.check_types("BF16", {"language_model.lm_head", "vision_tower.encoder.layers.0.mlp.fc1"});
  // The regex would match nothing in vLLM, whose names are the stored ones.
  CHECK(m.config()["quantization_config"]["config_groups"]["group_0"]["targets"] == json{"Linear"});
  CHECK(run_program({"verify", m.out}).exit_code == 0);
}

TEST_CASE("stored names are found by a recipe as well") {
  const family_model m{llava_tensors(), R"({"model_type": "llava", "torch_dtype": "bfloat16"})"};
  m.run_recipe(R"(targets: Linear, scheme: W8A8, ignore: ['re:language_model.lm_head', 're:vision_tower', multi_modal_projector.linear_1])");
  m.check_types("BF16", {"language_model.lm_head", "vision_tower.encoder.layers.0.mlp.fc1", "multi_modal_projector.linear_1"});
}

TEST_CASE("Qwen2-VL's text model is the language_model of recipes, its tower model.visual") {
  std::vector<tensor_bytes> tensors = llama_tensors();
  tensors.push_back(bf16_tensor("visual.blocks.0.mlp.fc1.weight", {96, 64}));
  const family_model m{tensors, R"({"model_type": "qwen2_vl", "torch_dtype": "bfloat16"})"};
  m.run_recipe(R"(targets: Linear, scheme: W8A8, ignore: [lm_head, 're:model.visual.*', model.language_model.layers.1.mlp.down_proj])");
  m.check_types("BF16", {"visual.blocks.0.mlp.fc1", "lm_head", "model.layers.1.mlp.down_proj"});
  m.check_types("I8", {"model.layers.0.mlp.up_proj"});
}

TEST_CASE("lm_head is GPT-NeoX' embed_out, in recipes and in flags") {
  const std::vector<tensor_bytes> tensors{bf16_tensor("gpt_neox.embed_in.weight", {48, 64}),
                                          bf16_tensor("gpt_neox.layers.0.mlp.dense_h_to_4h.weight", {96, 64}),
                                          bf16_tensor("embed_out.weight", {48, 64})};
  const std::string config = R"({"model_type": "gpt_neox", "torch_dtype": "bfloat16"})";
  const family_model recipe{tensors, config};
  recipe.run_recipe("targets: Linear, scheme: W8A8, ignore: [lm_head]");
  recipe.check_types("BF16", {"embed_out"});
  recipe.check_types("I8", {"gpt_neox.layers.0.mlp.dense_h_to_4h"});
  const family_model flags{tensors, config};
  const program_result r = flags.run({"--quant_type", "w8a8_dynamic", "--targets", "re:.*", "--ignore", "lm_head"});
  flags.check_types("BF16", {"embed_out"});
  CHECK_FALSE(says(r, "no layer has this name"));
}

TEST_CASE("embeddings, routers and heads of unknown families stay float") {
  std::vector<tensor_bytes> tensors = llama_tensors();
  const words names{"model.embed_tokens_per_layer",     "embeddings.token_type_embeddings",     "shared", "encoder.rel_embeddings",
                    "model.layers.0.feed_forward.gate", "model.layers.0.mlp.router.classifier", "head"};
  for (const std::string& name : names) tensors.push_back(bf16_tensor(name + ".weight", {48, 64}));
  const family_model m{tensors, R"({"model_type": "of_tomorrow", "torch_dtype": "bfloat16"})"};
  m.run({"--quant_type", "w8a8_dynamic", "--format", "compressed_tensors"});
  m.check_types("BF16", names);
  m.check_types("I8", {"model.layers.0.mlp.up_proj"});
  CHECK(run_program({"verify", m.out}).exit_code == 0);
}

TEST_CASE("matrices of GPT-2, which are stored [in, out], are refused, also square ones") {
  const std::vector<tensor_bytes> tensors{
      bf16_tensor("transformer.wte.weight", {48, 64}),        bf16_tensor("transformer.h.0.attn.c_attn.weight", {64, 192}),
      bf16_tensor("transformer.h.0.attn.c_attn.bias", {192}), bf16_tensor("transformer.h.0.attn.c_proj.weight", {64, 64}),
      bf16_tensor("transformer.h.0.attn.c_proj.bias", {64}),  bf16_tensor("transformer.h.0.proj.weight", {96, 64})};
  const family_model gpt2{tensors, R"({"model_type": "gpt2"})"};
  gpt2.check_refused(w8a8, {{"transformer.h.0.attn.c_attn.weight", "1 more", "[in_features, out_features]", "ignore"}});
  gpt2.run({"--quant_type", "w8a8_dynamic", "--ignore", "re:.*c_attn", "re:.*c_proj"});
  gpt2.check_types("I8", {"transformer.h.0.proj"});
  gpt2.check_types("BF16", {"transformer.h.0.attn.c_attn", "transformer.h.0.attn.c_proj"});
  const family_model stranger{tensors, R"({"model_type": "of_tomorrow"})"};
  stranger.check_refused(w8a8, {{"transformer.h.0.attn.c_attn.weight", "[in_features, out_features]"}});
}

TEST_CASE("a bias that fits neither side of its matrix is refused") {
  std::vector<tensor_bytes> tensors = llama_tensors();
  tensors.push_back(bf16_tensor("model.layers.0.mlp.up_proj.bias", {7}));
  const family_model m{tensors, llama_config};
  m.check_refused(w8a8, {{"model.layers.0.mlp.up_proj.bias", "[7]", "96 rows"}});
}

TEST_CASE("NaN and Infinity of a config.json are read and written as Python does") {
  const std::string config =
      R"({"model_type": "llama", "torch_dtype": "bfloat16", "a": NaN, "b": [Infinity, -Infinity, 1.5], "c": "NaN, Infinity \" NaN", "d": {"e":NaN}})";
  for (const char* format : {"ascend_v1", "compressed_tensors"}) {
    const family_model m{llama_tensors(), config};
    m.run({"--quant_type", "w8a8_dynamic", "--format", format});
    const std::string text = bytes_of(m.out + "/config.json");
    for (const char* part : {"\"a\": NaN,", "    Infinity,\n    -Infinity,\n    1.5", R"("c": "NaN, Infinity \" NaN")", "\"e\": NaN"})
      CHECK_MESSAGE(text.find(part) != std::string::npos, text);
    const program_result verified = run_program({"verify", m.out});
    CHECK_MESSAGE(verified.exit_code == 0, verified.out);
    CHECK(run_program({"inspect", m.out}).exit_code == 0);
  }
  for (const char* wrong : {"nan", "NaNs", "+Infinity", "- Infinity", "1NaN", "NaN NaN"}) {
    const family_model m{llama_tensors(), R"({"model_type": "llama", "a": )" + std::string{wrong} + "}"};
    m.check_refused(w8a8, {{"config.json", "not valid JSON"}});
  }
  const family_model key{llama_tensors(), R"({"model_type": "llama", NaN: 1})"};
  key.check_refused(w8a8, {{"config.json", "not valid JSON"}});
}

TEST_CASE("a file to copy that is a link to nothing is refused before the work") {
  const family_model m{llama_tensors(), llama_config};
  std::filesystem::remove(m.model + "/tokenizer.json");
  std::filesystem::create_symlink("../../blobs/0123", m.model + "/tokenizer.json");
  m.check_refused(w8a8, {{"tokenizer.json", "link to ../../blobs/0123"}});
}

TEST_CASE("a file to copy that cannot be read is refused before the work") {
  const family_model m{llama_tensors(), llama_config};
  const std::string file = m.model + "/tokenizer.json";
  REQUIRE(::chmod(file.c_str(), 0) == 0);
  if (::access(file.c_str(), R_OK) != 0) {  // root reads everything
    const program_result r = run_program(m.quant(w8a8));
    CHECK(r.exit_code == 2);
    CHECK_MESSAGE(says(r, "tokenizer.json"), r.err);
  }
  ::chmod(file.c_str(), 0600);
}

TEST_CASE("the folder of further chat templates is copied, other folders are not") {
  const family_model m{llama_tensors(), llama_config};
  std::filesystem::create_directories(m.model + "/additional_chat_templates");
  std::filesystem::create_directories(m.model + "/original");
  m.folder.write("model/additional_chat_templates/rag.jinja", "{{ messages }}");
  m.folder.write("model/original/params.json", "{}");
  m.run(w8a8);
  CHECK(bytes_of(m.out + "/additional_chat_templates/rag.jinja") == "{{ messages }}");
  CHECK_FALSE(std::filesystem::exists(m.out + "/original"));
}

TEST_CASE("a checkpoint that lacks weights of its family is refused, and by verify too") {
  const auto without = [](const std::string& name) {
    std::vector<tensor_bytes> tensors = llama_tensors();
    std::erase_if(tensors, [&](const tensor_bytes& t) { return t.name == name; });
    return tensors;
  };
  for (const char* name : {"model.layers.1.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight"}) {
    CAPTURE(name);
    family_model{without(name), full_config}.check_refused(w8a8, {{name, "missing"}});
    const family_model unknown{without(name), with(full_config, "\"llama\"", "\"of_tomorrow\"")};
    unknown.run(w8a8);
    unknown.folder.write("out/config.json", full_config);
    const program_result verified = run_program({"verify", unknown.out});
    CHECK(verified.exit_code != 0);
    CHECK_MESSAGE(verified.out.find(name) != std::string::npos, verified.out);
  }
  const family_model nine{llama_tensors(), with(full_config, "_layers\": 2", "_layers\": 9")};
  const program_result r = run_program(nine.quant(w8a8));
  CHECK(r.exit_code == 2);
  CHECK_MESSAGE(says(r, "model.layers.2.input_layernorm.weight: missing: llama with the 9 layers"), r.err);
  CHECK_MESSAGE(says(r, "55 more"), r.err);  // 9 weights a layer
}

TEST_CASE("complete models are quantized: with a tied head, as a part of a larger one, with layers of multi-token prediction") {
  std::vector<tensor_bytes> tied = llama_tensors();
  tied.pop_back();
  const std::string tied_config = with(full_config, "{", R"({"tie_word_embeddings": true, )");
  const family_model a{tied, tied_config};
  a.run(w8a8);
  CHECK(run_program({"verify", a.out}).exit_code == 0);
  std::vector<tensor_bytes> further = llama_tensors();
  further.push_back(bf16_tensor("model.layers.2.eh_proj.weight", {64, 128}));
  family_model{further, full_config}.run(w8a8);
  const family_model b{llava_tensors(), R"({"model_type": "llava", "text_config": )" + full_config + "}"};
  b.run(w8a8);
  CHECK(run_program({"verify", b.out}).exit_code == 0);
}

TEST_CASE("sizes that no model has are refused") {
  for (const char* layers : {"-1", "4611686018427387904", "\"two\""})
    family_model{llama_tensors(), with(full_config, "_layers\": 2", "_layers\": " + std::string{layers})}.check_refused(
        w8a8, {{"config.json", "num_hidden_layers", layers}});
  family_model{llama_tensors(), with(full_config, "_size\": 64", "_size\": \"big\"")}.check_refused(w8a8, {{"config.json", "hidden_size", "big"}});
}

TEST_CASE("a target that reaches an embedding is named, for it stays float") {
  const family_model m{llama_tensors(), llama_config};
  const program_result r = m.run_recipe("targets: [Linear, Embedding], scheme: W8A8, ignore: [lm_head]");
  CHECK_MESSAGE(says(r, "\"Embedding\" matches model.embed_tokens"), r.err);
  CHECK_FALSE(says(r, "matches no linear layer"));
  m.check_types("BF16", {"model.embed_tokens"});
  const family_model regex{llama_tensors(), llama_config};
  CHECK(says(regex.run_recipe("targets: ['re:^(?!.*lm_head).*$'], scheme: W8A8"), "matches model.embed_tokens"));
  const family_model plain{llama_tensors(), llama_config};
  CHECK_FALSE(says(plain.run_recipe("targets: Linear, scheme: W8A8, ignore: [lm_head]"), "embeddings are not quantized"));
}

TEST_CASE("a tied head that a recipe targets is named, for it stays float") {
  std::vector<tensor_bytes> tensors = llama_tensors();
  tensors.pop_back();
  const std::string config = R"({"model_type": "llama", "torch_dtype": "bfloat16", "tie_word_embeddings": true})";
  const family_model m{tensors, config};
  CHECK(says(m.run_recipe("targets: Linear, scheme: W8A8"), "matches lm_head, which is the embedding"));
  const family_model ignored{tensors, config};
  CHECK_FALSE(says(ignored.run_recipe("targets: Linear, scheme: W8A8, ignore: [lm_head]"), "tie_word_embeddings"));
  const family_model flags{tensors, config};
  CHECK_FALSE(says(flags.run(w8a8), "tie_word_embeddings"));
}

TEST_CASE("weights that are codes already are named, not called a recipe that matches nothing") {
  for (const char* type : {"I8", "F8_E5M2"}) {
    std::vector<tensor_bytes> tensors{bf16_tensor("model.norm.weight", {64})};
    tensors.push_back({"model.layers.0.mlp.up_proj.weight", type, {96, 64}, std::string(96 * 64, '\1')});
    family_model{tensors, R"({"model_type": "of_tomorrow"})"}.check_refused(w8a8, {{"model.layers.0.mlp.up_proj.weight", type, "already quantized"}});
    for (const tensor_bytes& t : llama_tensors())
      tensors.push_back(t.name == "model.norm.weight" || t.name.find("layers.0.mlp.up") != t.name.npos ? bf16_tensor("x" + t.name, t.shape) : t);
    const family_model some{tensors, R"({"model_type": "of_tomorrow"})"};
    CHECK(says(some.run(w8a8), "model.layers.0.mlp.up_proj.weight is " + std::string{type} + ": not quantized"));
  }
}

TEST_CASE("a source with parameters of an earlier quantization is refused with their name") {
  std::vector<tensor_bytes> tensors = llama_tensors();
  tensors.push_back(bf16_tensor("model.layers.0.self_attn.q_proj.weight_scale", {64}));
  const family_model m{tensors, llama_config};
  m.check_refused(w8a8, {{"model.layers.0.self_attn.q_proj.weight_scale", "in the source", "earlier quantization"}});
}

TEST_CASE("--model_type may be written as the release is called") {
  const family_model m{llama_tensors(), llama_config};
  CHECK_FALSE(says(m.run({"--quant_type", "w8a8_dynamic", "--model_type", "LLaMA"}), "--model_type"));
  CHECK(says(m.run({"--quant_type", "w8a8_dynamic", "--overwrite", "--model_type", "Qwen3"}), "--model_type Qwen3 is not"));
}
