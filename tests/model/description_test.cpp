#include "golden_family.hpp"

#include <nlohmann/json.hpp>

using namespace qlib_test;

namespace {

const char* const llama = R"({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100})";

qlib::model_description describe(const nlohmann::json& config) {
  qlib::model_description out;
  const qlib::errors found = qlib::read_model_description(config.dump(), "config.json", out);
  CHECK_MESSAGE(found.empty(), text_of(found));
  return out;
}

nlohmann::json with(const char* base, const char* more) {
  nlohmann::json config = nlohmann::json::parse(base);
  config.update(nlohmann::json::parse(more));
  return config;
}

std::string complaints(const nlohmann::json& config) {
  qlib::model_description out;
  return text_of(qlib::read_model_description(config.dump(), "config.json", out));
}

}  // namespace

TEST_CASE("keys that config.json leaves out have the values of transformers") {
  const qlib::model_description m = describe(nlohmann::json::parse(llama));
  CHECK(m.eps == 1e-6f);
  CHECK(!m.tied);
  CHECK(m.attention.kv_heads == 4);
  CHECK(m.attention.head_dim == 16);
  CHECK(m.attention.ropes[0].theta == 10000);
  CHECK(describe(with(llama, R"({"model_type": "gemma2"})")).tied);
  CHECK(describe(with(llama, R"({"model_type": "qwen3"})")).attention.head_dim == 128);
  CHECK(describe(with(llama, R"({"model_type": "mistral"})")).layers[1].window == 4096);
  CHECK(describe(with(llama, R"({"model_type": "mistral", "sliding_window": null})")).layers[1].window == 0);
  CHECK(describe(with(llama, R"({"model_type": "qwen2", "sliding_window": 8})")).layers[1].window == 0);
  CHECK(describe(with(llama, R"({"model_type": "glm4"})")).attention.ropes[0].dim == 64);
  CHECK(describe(with(llama, R"({"model_type": "gpt_oss", "num_local_experts": 8})")).attention.ropes[0].kind == qlib::rope_kind::yarn);
}

TEST_CASE("an explicit null is a value: no query compression, though the class default is 1536") {
  const char* more = R"({"model_type": "deepseek_v3", "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12,
                         "n_routed_experts": 16, "num_experts_per_tok": 2})";
  CHECK(describe(with(llama, more)).attention.latent->query_rank == 1536);
  nlohmann::json config = with(llama, more);
  config["q_lora_rank"] = nullptr;
  CHECK(describe(config).attention.latent->query_rank == 0);
}

TEST_CASE("rope_parameters say the same as rope_theta and rope_scaling") {
  const qlib::model_description m = describe(with(llama, R"({"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}})"));
  CHECK(m.attention.ropes[0].kind == qlib::rope_kind::linear);
  CHECK(m.attention.ropes[0].theta == 5e5);
  CHECK(describe(with(llama, R"({"model_type": "qwen3_next", "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
    "linear_value_head_dim": 16, "linear_conv_kernel_dim": 4, "num_experts": 16, "head_dim": 32, "rope_parameters": {"partial_rotary_factor": 0.5}})"))
            .attention.ropes[0]
            .dim == 16);
}

TEST_CASE("an unknown model_type is refused with the known ones") {
  const std::string text = complaints(with(llama, R"({"model_type": "mamba"})"));
  CHECK(text.find("config.json: model_type: \"mamba\" is no family whose forward pass is known") == 0);
  for (const char* known : {"deepseek_v32", "gpt_oss", "llama", "qwen3_5_moe_text"}) CHECK(text.find(known) != std::string::npos);
}

TEST_CASE("everything that is wrong with a config.json is told at once, with its key") {
  const std::string text = complaints(nlohmann::json::parse(R"({"model_type": "llama", "hidden_size": "big", "num_attention_heads": 4,
    "num_key_value_heads": 3, "vocab_size": 100, "num_hidden_layers": 2, "head_dim": 16, "rope_scaling": {"rope_type": "spiral"}, "hidden_act": "cubic",
    "layer_types": ["full_attention", "some_attention", "full_attention"]})"));
  CHECK(text.find("config.json: hidden_size: is \"big\", not a count") != std::string::npos);
  CHECK(text.find("num_key_value_heads: 3 does not divide") != std::string::npos);
  CHECK(text.find("rope_scaling.rope_type: \"spiral\" is unknown") != std::string::npos);
  CHECK(text.find("hidden_act: \"cubic\" is unknown") != std::string::npos);
  CHECK(text.find("layer_types: has 3 entries for 2 layers") != std::string::npos);
  CHECK(text.find("\"some_attention\" is unknown") != std::string::npos);
  CHECK(complaints(with(llama, R"({"rope_scaling": {"type": "linear"}})")).find("rope_scaling.factor: missing") != std::string::npos);
  CHECK(complaints(with(llama, R"({"rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [1]}})")).find("8 pairs are rotated") !=
        std::string::npos);
  CHECK(complaints(nlohmann::json::parse(R"([1])")).find("not a JSON object") != std::string::npos);
}

TEST_CASE("the text model of a multimodal one is described, and its head belongs to the whole") {
  const qlib::model_description m = describe(nlohmann::json::parse(R"({"model_type": "qwen3_vl", "tie_word_embeddings": false, "text_config":
    {"model_type": "qwen3_vl_text", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100,
     "tie_word_embeddings": true, "rope_scaling": {"rope_type": "default", "mrope_section": [24, 20, 20]}}})"));
  CHECK(m.part_of_a_model);
  CHECK(!m.tied);
  CHECK(m.attention.norm == qlib::query_key_norm::per_head);
}

TEST_CASE("every family of the goldens is in the list of described ones") {
  const std::vector<std::string_view> types = qlib::described_model_types();
  constexpr std::string_view released[] = {
      "chatglm",   "deepseek_v2",   "deepseek_v3",      "deepseek_v32", "gemma2",           "gemma3_text",    "glm",       "glm4",
      "glm4_moe",  "glm4_moe_lite", "glm_moe_dsa",      "gpt_oss",      "hunyuan_v1_dense", "hunyuan_v1_moe", "internlm2", "kimi_k2",
      "llama",     "llama4_text",   "minimax_m2",       "mistral",      "mixtral",          "phi3",           "qwen",      "qwen2",
      "qwen2_moe", "qwen3",         "qwen3_5_moe_text", "qwen3_5_text", "qwen3_moe",        "qwen3_next"};
  for (const std::string_view type : released) CHECK_MESSAGE(std::find(types.begin(), types.end(), type) != types.end(), type);
  CHECK(std::is_sorted(types.begin(), types.end()));
}

TEST_CASE("a key that changes the function of other families is refused where no rule reads it") {
  const std::string text = complaints(with(llama, R"({"logit_scale": 0.5, "attn_logit_softcapping": 30.0, "clip_qkv": 8})"));
  for (const char* key : {"logit_scale: is 0.5", "attn_logit_softcapping: is 30.0", "clip_qkv: is 8"}) CHECK(text.find(key) != std::string::npos);
  CHECK(complaints(with(llama, R"({"logit_scale": 1.0, "attn_logit_softcapping": null, "clip_qkv": null, "alibi": false, "no_rope_layers": [1, 1]})"))
            .empty());
  CHECK(describe(with(llama, R"({"model_type": "cohere", "logit_scale": 0.5})")).logit_scale == 0.5f);
  CHECK(describe(with(llama, R"({"model_type": "olmo", "clip_qkv": 8})")).attention.clip == 8);
  CHECK(complaints(with(llama, R"({"model_type": "falcon", "alibi": true})")).find("alibi: is on") != std::string::npos);
  CHECK(complaints(with(llama, R"({"layer_types": ["linear_attention", "full_attention"]})")).find("\"linear_attention\" is unknown") !=
        std::string::npos);
}

TEST_CASE("granite's multipliers scale embedding, branches, scores and logits") {
  const qlib::model_description m = describe(with(llama, R"({"model_type": "granite", "embedding_multiplier": 12, "residual_multiplier": 0.22,
    "attention_multiplier": 0.0078125, "logits_scaling": 16})"));
  CHECK(m.embedding_scale == 12);
  CHECK(m.residual_scale == 0.22);
  CHECK(m.attention.scale == 0.0078125f);
  CHECK(m.logit_scale == 1.0f / 16);
}

TEST_CASE("which layers have a window and which encode positions follows the family") {
  const auto layers = [](const char* more) { return describe(with(llama, more)).layers; };
  const auto cohere = layers(R"({"model_type": "cohere2", "num_hidden_layers": 4, "sliding_window": 8})");
  CHECK(cohere[0].window == 8);
  CHECK(cohere[3].window == 0);
  CHECK(cohere[0].rope);
  CHECK(!cohere[3].rope);
  const auto exaone = layers(R"({"model_type": "exaone4", "num_hidden_layers": 4, "sliding_window": null})");
  CHECK(exaone[0].window == 0);
  CHECK(exaone[0].rope);
  const auto smollm = layers(R"({"model_type": "smollm3", "num_hidden_layers": 4})");
  CHECK(smollm[2].rope);
  CHECK(!smollm[3].rope);
  CHECK(smollm[3].window == 0);
  const auto cwm = layers(R"({"model_type": "cwm", "num_hidden_layers": 4, "head_dim": 16})");
  CHECK(cwm[0].window == 0);
  CHECK(cwm[1].window == 8192);
  const auto dots = layers(R"({"model_type": "dots1", "n_routed_experts": 4, "num_experts_per_tok": 2, "max_window_layers": 1,
    "num_key_value_heads": 4})");
  CHECK(dots[0].window == 0);
  CHECK(dots[1].window == 4096);
}

TEST_CASE("any model whose text part is known is described, whatever the whole is called") {
  nlohmann::json whole{{"model_type", "some_new_vl"}, {"text_config", nlohmann::json::parse(llama)}};
  CHECK(describe(whole).part_of_a_model);
  whole["text_config"]["model_type"] = "granite";
  CHECK(describe(whole).model_type == "granite");
  whole["text_config"].erase("model_type");
  CHECK(complaints(whole).find("\"some_new_vl\" is no family") != std::string::npos);
  whole["model_type"] = "llava";  // its text_config is Llama's where it does not say
  CHECK(describe(whole).part_of_a_model);
  whole["language_config"] = whole["text_config"];
  whole.erase("text_config");
  CHECK(describe(whole).part_of_a_model);
}

TEST_CASE("falcon's three layouts differ in their rows and norms") {
  const auto falcon = [](const char* more) { return describe(with(llama, (std::string{R"({"model_type": "falcon", )"} + more + "}").c_str())); };
  const qlib::model_description old = falcon(R"("multi_query": true, "parallel_attn": true)");
  CHECK(old.attention.kv_heads == 1);
  CHECK(old.attention.rows == qlib::fused_rows::concatenated);
  CHECK(old.parallel);
  CHECK(old.feed_forward_norm.empty());
  const qlib::model_description grouped = falcon(R"("new_decoder_architecture": true, "num_kv_heads": 2)");
  CHECK(grouped.attention.kv_heads == 2);
  CHECK(grouped.input_norm == "ln_attn");
  CHECK(grouped.feed_forward_norm == "ln_mlp");
  const qlib::model_description serial = falcon(R"("multi_query": false, "parallel_attn": false)");
  CHECK(serial.attention.kv_heads == 4);
  CHECK(!serial.parallel);
  CHECK(serial.feed_forward_norm == "post_attention_layernorm");
}

TEST_CASE("layers of DeepSeek's sparse attention are those with an indexer") {
  const char* more = R"({"model_type": "deepseek_v32", "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12,
                         "n_routed_experts": 16, "num_experts_per_tok": 2, "layer_types": ["deepseek_sparse_attention", "deepseek_sparse_attention"]})";
  CHECK(describe(with(llama, more)).layers.size() == 2);
  CHECK(complaints(with(llama, R"({"layer_types": ["deepseek_sparse_attention", "full_attention"]})"))
            .find("layer_types: \"deepseek_sparse_attention\" is unknown") != std::string::npos);
}

TEST_CASE("qwen2_moe without layer_types has a window in every second layer below max_window_layers") {
  const char* base = R"({"model_type": "qwen2_moe", "num_hidden_layers": 6, "num_experts": 4, "moe_intermediate_size": 8,
                         "shared_expert_intermediate_size": 8, "sliding_window": 5, "max_window_layers": 4, "use_sliding_window": true})";
  std::vector<std::size_t> windows;
  for (const qlib::layer_description& l : describe(with(llama, base)).layers) windows.push_back(l.window);
  CHECK(windows == std::vector<std::size_t>{5, 0, 5, 0, 0, 0});
  nlohmann::json listed = with(llama, base);
  listed["layer_types"] = {"full_attention", "full_attention", "full_attention", "full_attention", "full_attention", "sliding_attention"};
  CHECK(describe(listed).layers[0].window == 0);
  CHECK(describe(listed).layers[5].window == 5);
  listed["use_sliding_window"] = false;
  CHECK(describe(listed).layers[5].window == 0);
}

TEST_CASE("hidden_act is also behind the convolution of delta nets") {
  const char* next = R"({"model_type": "qwen3_next", "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
    "linear_value_head_dim": 16, "linear_conv_kernel_dim": 4, "num_experts": 16, "head_dim": 32})";
  CHECK(describe(with(llama, next)).delta_net.activation == qlib::activation_function::silu);
  nlohmann::json gelu = with(llama, next);
  gelu["hidden_act"] = "gelu";
  CHECK(describe(gelu).delta_net.activation == qlib::activation_function::gelu);
}

TEST_CASE("an alias has the values of absent keys that its own class has") {
  const nlohmann::json bare = with(llama, R"({"num_attention_heads": 8})");
  for (const char* type : {"qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"}) {
    nlohmann::json config = bare;
    config["model_type"] = type;
    CHECK(describe(config).eps == 1e-5f);
    CHECK(describe(config).attention.ropes[0].theta == 1e6);
  }
  CHECK(describe(with(llama, R"({"model_type": "qwen2"})")).eps == 1e-6f);
}

TEST_CASE("PaliGemma's samples are text, in which no position sees a later one") {
  const char* whole = R"({"model_type": "paligemma", "text_config": {"model_type": "gemma2", "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "vocab_size": 100, "use_bidirectional_attention": true}})";
  CHECK(complaints(nlohmann::json::parse(whole)) == "");
  CHECK(complaints(with(llama, R"({"model_type": "gemma2", "use_bidirectional_attention": true})")).find("use_bidirectional_attention: is true") !=
        std::string::npos);
}

TEST_CASE("OPT without weights of its norms is computed so") {
  const nlohmann::json opt = with(llama, R"({"model_type": "opt", "layer_norm_elementwise_affine": false})");
  CHECK_FALSE(describe(opt).norm_weights);
  CHECK_FALSE(describe(opt).norm_biases);
  CHECK(describe(with(llama, R"({"model_type": "opt"})")).norm_weights);
}

TEST_CASE("scalings of RoPE that divide by nothing, or are no object, are refused with their key") {
  const auto refused = [](const char* more, const char* part) {
    const std::string text = complaints(with(llama, more));
    CHECK_MESSAGE(text.find(part) != std::string::npos, more << ": " << text);
  };
  refused(R"({"rope_scaling": "linear"})", "rope_scaling: is \"linear\", not an object: write for example {\"rope_type\": \"linear\"");
  refused(R"({"rope_parameters": 7})", "rope_parameters: is 7, not an object");
  refused(R"({"model_type": "gpt_oss", "num_local_experts": 8, "rope_scaling": "yarn"})", "rope_scaling: is \"yarn\", not an object");
  for (const char* factor : {"0", "0.0", "-2.0"}) {
    for (const std::string type : {"linear", "dynamic", "yarn", "llama3"}) {
      const std::string more = R"({"max_position_embeddings": 64, "rope_scaling": {"rope_type": ")" + type + R"(", "factor": )" + factor +
                               R"(, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}})";
      refused(more.c_str(), ("rope_scaling.factor: is " + std::string{factor} + ", not above zero").c_str());
    }
  }
  refused(R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
          "original_max_position_embeddings": 16}})",
          "rope_scaling.high_freq_factor: is not above low_freq_factor");
  refused(R"({"max_position_embeddings": 64, "rope_scaling": {"type": "longrope", "short_factor": [1,1,1,1,1,1,1,0],
          "long_factor": [1,1,1,1,1,1,1,1], "original_max_position_embeddings": 16}})",
          "rope_scaling.short_factor: has a number that is not above zero");
  refused(R"({"rope_theta": 0})", "rope_theta: is not above zero");
  CHECK(complaints(with(llama, R"({"max_position_embeddings": 64, "rope_scaling": {"type": "dynamic", "factor": 2.0, "alpha": 0}})")) == "");
}
