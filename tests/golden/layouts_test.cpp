/// No weight is lost, moved or described wrongly, whatever way a family stores its layers.
#include "synthetic_model.hpp"

#include <qlib/recipe/flags.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

using namespace qlib_test;
using nlohmann::json;

namespace {

/// The largest distance of a value from what its code stands for.
double half_a_step(float x, float scale, float code, const qlib::quant_spec& spec) {
  const double rounding = std::abs(static_cast<double>(x)) * 0x1p-22;  // of the quotient x / s and of the product code * s, in f32
  if (spec.type == qlib::number::floating) {                           // e4m3 has 3 bits of mantissa and subnormals below 2^-6
    const int exponent = x == 0.0f ? -6 : std::max(-6, std::ilogb(x / scale));
    return std::ldexp(static_cast<double>(scale), exponent - 4) + rounding;
  }
  // A scale that was rounded down to its dtype, by at most half of that dtype's epsilon (and a second-order term below 1/100 of it),
  // leaves the ends of the range beyond the last codes. The range is qmax - qmin steps long; a symmetric one reaches half as far from 0.
  const double reach = static_cast<double>(spec.qmax() - spec.qmin()) * scale / (spec.symmetric ? 2 : 1);
  // Asymmetric parameters of compressed-tensors are computed in the dtype of the weight: the width, the scale and two steps of the zero point are
  // rounded, which moves the range by a step and a half and its width by another epsilon.
  const bool narrow = qlib::arithmetic_of_codes(spec) != spec.arithmetic;
  const bool last = code == static_cast<float>(spec.qmin()) || code == static_cast<float>(spec.qmax());
  return 0.5 * scale + rounding + (last ? (narrow ? 1.01 : 0.505) * reach * qlib::epsilon_of(spec.scale_dtype) + (narrow ? 1.5 * scale : 0.0) : 0.0);
}

const qlib::work_item* quantized_item(const qlib::quantization_plan& plan, const std::string& module) {
  const auto at = std::find_if(plan.items.begin(), plan.items.end(), [&](const qlib::work_item& i) { return i.encoding && i.name == module; });
  return at == plan.items.end() ? nullptr : &*at;
}

void check_quantized(const known_matrix& m, const quantized_folder& q, std::set<std::string>& accounted) {
  const qlib::work_item* item = quantized_item(q.plan, m.module);
  REQUIRE(item);
  REQUIRE(item->rows == m.rows);
  REQUIRE(item->cols == m.cols);
  for (std::size_t s : item->slots) accounted.insert(q.plan.slots[s].tensor.name);
  const decoded_weight back = decode(q.plan, *item, q.out);
  std::size_t wrong = 0, first_wrong = 0;
  for (std::size_t i = 0; i < m.values.size(); ++i) {
    const double distance = std::abs(static_cast<double>(m.values[i]) - back.values[i]);
    if (distance <= half_a_step(m.values[i], back.scales[i], back.codes[i], item->encoding->spec)) continue;
    if (wrong++ == 0) first_wrong = i;
  }
  INFO("first wrong element: [" << first_wrong / m.cols << ", " << first_wrong % m.cols << "] " << m.values[first_wrong] << " became "
                                << back.values[first_wrong]);
  CHECK(wrong == 0);
}

void check_description(const synthetic_model& model, const quantized_folder& q, std::string_view format, bool tied) {
  if (format == "ascend_v1") {
    const json description = json::parse(q.read("quant_model_description.json"));
    std::set<std::string> tensors, described;
    for (const auto& [name, file] : q.out.names()) tensors.insert(name);
    for (const auto& [key, value] : description.items())
      if (key != "version" && key != "model_quant_type" && key != "metadata" && key != "group_size" && key != "optional") described.insert(key);
    CHECK(described == tensors);
    for (const known_matrix& m : model.matrices()) {
      CAPTURE(m.module);
      const qlib::work_item* item = quantized_item(q.plan, m.module);
      if (description.contains(m.module + ".weight")) CHECK(description[m.module + ".weight"] == (item ? item->encoding->quant_type : "FLOAT"));
    }
  } else {
    std::set<std::string> ignored, floats;
    const json config = json::parse(q.read("config.json"));
    for (const json& name : config["quantization_config"]["ignore"]) ignored.insert(name.get<std::string>());
    for (const known_matrix& m : model.matrices())
      if (!m.quantized) floats.insert(m.module);
    if (config.value("tie_word_embeddings", false)) floats.insert("lm_head");  // no tensor, but a Linear to those who load the model
    if (tied) floats.insert("lm_head");  // engines build a head from the embedding: it must not count as quantized
    CHECK(ignored == floats);
  }
}

void check_model(const synthetic_model& model, const qlib::quant_flags& flags, std::string_view format, bool tied = false) {
  CAPTURE(flags.quant_type);
  CAPTURE(format);
  temporary_folder folder;
  model.write(folder);
  qlib::recipe recipe;
  const qlib::errors found = qlib::recipe_from_flags(flags, recipe);
  REQUIRE_MESSAGE(found.empty(), text_of(found));
  quantized_folder q;
  q.quantize(folder.path(), recipe, format, qlib::compat::none);

  std::set<std::string> accounted;
  for (const qlib::stored_tensor& t : q.source.tensors()) {
    if (model.is_matrix(t.info.name)) continue;
    CAPTURE(t.info.name);
    REQUIRE(q.out.contains(t.info.name));
    const auto before = q.source.bytes(t), after = q.out.bytes(t.info.name);
    CHECK(q.out.info(t.info.name).dtype == t.info.dtype);
    CHECK(q.out.info(t.info.name).shape == t.info.shape);
    CHECK(std::equal(before.begin(), before.end(), after.begin(), after.end()));
    accounted.insert(t.info.name);
  }
  for (const known_matrix& m : model.matrices()) {
    CAPTURE(m.module);
    if (m.quantized) {
      check_quantized(m, q, accounted);
    } else {
      CHECK(quantized_item(q.plan, m.module) == nullptr);
      CHECK(q.out.info(m.module + ".weight").shape == std::vector<std::uint64_t>{m.rows, m.cols});
      CHECK(q.out.floats(m.module + ".weight") == m.values);
      accounted.insert(m.module + ".weight");
    }
    if (!m.bias.empty()) {
      CHECK(q.out.floats(m.module + ".bias") == m.bias);
      accounted.insert(m.module + ".bias");
    }
  }
  if (tied && format == "ascend_v1") {  // its description must name the head, so the head is stored
    CHECK(q.out.floats("lm_head.weight") == q.out.floats("model.embed_tokens.weight"));
    accounted.insert("lm_head.weight");
  }
  std::set<std::string> written;
  for (const auto& [name, file] : q.out.names()) written.insert(name);
  CHECK(written == accounted);
  check_description(model, q, format, tied);
}

/// Both formats, all data-free types.
void check_everywhere(const synthetic_model& model, bool tied = false) {
  for (const char* format : {"ascend_v1", "compressed_tensors"}) {
    check_model(model, {.quant_type = "w8a8_dynamic"}, format, tied);
    check_model(model, {.quant_type = "w8a16"}, format, tied);
    check_model(model, {.quant_type = "w4a16", .group_size = 32}, format, tied);
    check_model(model, {.quant_type = "fp8_dynamic"}, format, tied);
  }
}

}  // namespace

TEST_CASE("dense layers with biases keep every weight") {
  for (const qlib::dtype type : {qlib::dtype::bf16, qlib::dtype::f16, qlib::dtype::f32}) {
    CAPTURE(qlib::name_of(type));
    synthetic_model model{R"({"model_type": "qwen2"})", type};
    model.embedding_and_head(48, 64);
    for (const char* layer : {"model.layers.0", "model.layers.1"}) {
      model.attention(layer, 64, 32, true);
      model.mlp(std::string{layer} + ".mlp", 64, 96);
    }
    check_everywhere(model);
  }
}

TEST_CASE("a head that is tied to the embedding is stored where the format needs it") {
  synthetic_model model{R"({"model_type": "qwen2", "tie_word_embeddings": true})"};
  model.embedding_and_head(48, 64, true);
  model.attention("model.layers.0", 64, 32);
  model.mlp("model.layers.0.mlp", 64, 96);
  check_everywhere(model, true);
}

TEST_CASE("norms of queries and keys stay as they are") {
  synthetic_model model{R"({"model_type": "qwen3"})"};
  model.embedding_and_head(48, 64);
  model.attention("model.layers.0", 64, 32);
  model.keep("model.layers.0.self_attn.q_norm.weight", {16});
  model.keep("model.layers.0.self_attn.k_norm.weight", {16});
  model.mlp("model.layers.0.mlp", 64, 96);
  check_everywhere(model);
}

TEST_CASE("experts in tensors of their own are quantized, the router is not") {
  synthetic_model model{R"({"model_type": "qwen2_moe"})"};
  model.embedding_and_head(48, 64);
  model.attention("model.layers.0", 64, 32, true);
  model.linear("model.layers.0.mlp.gate", 11, 64, false, false);
  for (int e = 0; e < 11; ++e) model.mlp("model.layers.0.mlp.experts." + std::to_string(e), 64, 32);
  model.mlp("model.layers.0.mlp.shared_expert", 64, 96);
  model.linear("model.layers.0.mlp.shared_expert_gate", 1, 64, false, false);
  check_everywhere(model);
}

TEST_CASE("stacked experts [experts, 2 * intermediate, hidden] are gate rows, then up rows") {
  synthetic_model model{R"({"model_type": "qwen3_5_moe_text"})"};
  model.embedding_and_head(48, 64);
  model.attention("model.layers.0", 64, 32);
  model.linear("model.layers.0.mlp.gate", 3, 64, false, false);
  model.stacked_experts("model.layers.0.mlp.experts", 3, 32, 64, false, synthetic_model::order::halves, false);
  check_everywhere(model);
}

TEST_CASE("transposed stacked experts [experts, hidden, 2 * intermediate] are gate columns, then up columns") {
  synthetic_model model{R"({"model_type": "llama4_text"})"};
  model.embedding_and_head(48, 64);
  model.attention("model.layers.0", 64, 32);
  model.linear("model.layers.0.feed_forward.router", 3, 64, false, false);
  model.stacked_experts("model.layers.0.feed_forward.experts", 3, 32, 64, true, synthetic_model::order::halves, false);
  model.mlp("model.layers.0.feed_forward.shared_expert", 64, 96);
  check_everywhere(model);
}

TEST_CASE("gpt_oss experts are transposed, gate and up columns alternate, and their biases follow") {
  synthetic_model model{R"({"model_type": "gpt_oss"})"};
  model.embedding_and_head(48, 64);
  model.attention("model.layers.0", 64, 32, true);
  model.keep("model.layers.0.self_attn.sinks", {4});
  model.linear("model.layers.0.mlp.router", 3, 64, true, false);
  model.stacked_experts("model.layers.0.mlp.experts", 3, 32, 64, true, synthetic_model::order::alternating, true);
  check_everywhere(model);
}

TEST_CASE("low-rank attention keeps the projection that engines absorb as floats") {
  synthetic_model model{R"({"model_type": "deepseek_v2"})"};
  model.embedding_and_head(48, 64);
  const std::string layer = "model.layers.0";
  for (const char* norm : {".input_layernorm.weight", ".post_attention_layernorm.weight"}) model.keep(layer + norm, {64});
  model.linear(layer + ".self_attn.q_a_proj", 32, 64);
  model.keep(layer + ".self_attn.q_a_layernorm.weight", {32});
  model.linear(layer + ".self_attn.q_b_proj", 96, 32);
  model.linear(layer + ".self_attn.kv_a_proj_with_mqa", 40, 64);
  model.keep(layer + ".self_attn.kv_a_layernorm.weight", {32});
  model.linear(layer + ".self_attn.kv_b_proj", 128, 32, false, false);
  model.linear(layer + ".self_attn.o_proj", 64, 64);
  model.linear(layer + ".mlp.gate", 2, 64, false, false);
  model.keep(layer + ".mlp.gate.e_score_correction_bias", {2});
  for (int e = 0; e < 2; ++e) model.mlp(layer + ".mlp.experts." + std::to_string(e), 64, 32);
  model.mlp(layer + ".mlp.shared_experts", 64, 32);
  check_everywhere(model);
}

TEST_CASE("the layer that predicts further tokens keeps its own embedding, head and joining projection") {
  synthetic_model model{R"({"model_type": "glm4_moe", "num_hidden_layers": 1, "num_nextn_predict_layers": 1})"};
  model.embedding_and_head(48, 64);
  for (const char* layer : {"model.layers.0", "model.layers.1"}) {
    model.attention(layer, 64, 32, true);
    model.mlp(std::string{layer} + ".mlp", 64, 96);
  }
  model.keep("model.layers.1.embed_tokens.weight", {48, 64});
  model.keep("model.layers.1.enorm.weight", {64});
  model.keep("model.layers.1.hnorm.weight", {64});
  model.linear("model.layers.1.eh_proj", 64, 128, false, false);
  model.keep("model.layers.1.shared_head.norm.weight", {64});
  model.linear("model.layers.1.shared_head.head", 48, 64, false, false);
  check_everywhere(model);
}

TEST_CASE("linear attention keeps its convolution, its decay and its small gates") {
  synthetic_model model{R"({"model_type": "qwen3_next"})", qlib::dtype::f32};
  model.embedding_and_head(48, 64);
  const std::string layer = "model.layers.0";
  for (const char* norm : {".input_layernorm.weight", ".post_attention_layernorm.weight"}) model.keep(layer + norm, {64});
  model.linear(layer + ".linear_attn.in_proj_qkvz", 160, 64);
  model.linear(layer + ".linear_attn.in_proj_ba", 8, 64, false, false);
  model.keep(layer + ".linear_attn.conv1d.weight", {96, 1, 4});
  model.keep(layer + ".linear_attn.A_log", {4});
  model.keep(layer + ".linear_attn.dt_bias", {4});
  model.keep(layer + ".linear_attn.norm.weight", {16});
  model.linear(layer + ".linear_attn.out_proj", 64, 64);
  model.mlp(layer + ".mlp", 64, 96);
  check_everywhere(model);
}

TEST_CASE("block-fp8 weights with cut blocks at both edges are quantized from the bf16 values they stand for") {
  synthetic_model model{R"({"model_type": "deepseek_v3", "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}})"};
  model.embedding_and_head(48, 64);
  const std::string layer = "model.layers.0";
  model.keep(layer + ".input_layernorm.weight", {192});
  model.block_fp8(layer + ".self_attn.q_a_proj", 256, 192);
  model.block_fp8(layer + ".self_attn.kv_a_proj_with_mqa", 576, 192);
  model.block_fp8(layer + ".self_attn.kv_b_proj", 256, 64, false);
  model.block_fp8(layer + ".mlp.down_proj", 192, 320);
  check_everywhere(model);
}

TEST_CASE("experts in MXFP4 are quantized from the bf16 values they stand for") {
  synthetic_model model{R"({"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}})"};
  model.embedding_and_head(48, 64);
  const std::string layer = "model.layers.0";
  model.attention(layer, 64, 32, true);
  model.linear(layer + ".mlp.router", 3, 64, true, false);
  model.mxfp4_experts(layer + ".mlp.experts", 3, 96, 64);
  check_everywhere(model);
}

TEST_CASE("a matrix that is worked on in several pieces is the same as one in a single piece") {
  // 5056 rows of 1 KiB and, transposed, 4160 rows of 1 KiB: each a little more than a piece of 4 MiB.
  synthetic_model model{R"({"model_type": "gpt_oss"})"};
  model.linear("model.layers.0.self_attn.q_proj", 5056, 512, true);
  model.stacked_experts("model.layers.0.mlp.experts", 1, 4160, 512, true, synthetic_model::order::alternating, true);
  for (const char* format : {"ascend_v1", "compressed_tensors"}) check_model(model, {.quant_type = "w4a16", .group_size = 64}, format);
  check_model(model, {.quant_type = "w4a16", .w_sym = false, .group_size = 64}, "compressed_tensors");
  check_model(model, {.quant_type = "w8a8_dynamic"}, "ascend_v1");
}
