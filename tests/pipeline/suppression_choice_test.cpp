/// What a recipe's words about outlier suppression choose, and that words without effect are said. Plans alone.
#include "../model/golden_family.hpp"

#include <qlib/pipeline/plan.hpp>
#include <qlib/recipe/yaml.hpp>

#include <set>

using namespace qlib_test;

namespace {

struct planned {
  std::string errors;
  std::string warnings;           // of outlier suppression and rotation, a line each
  std::set<std::string> sources;  // that are rescaled
  bool rotated = false;

  bool says(const std::string& text) const { return warnings.find(text) != std::string::npos; }
  bool refused(const std::string& text) const { return errors.find(text) != std::string::npos; }
};

planned plan_of(const std::string& family, const std::string& recipe, const qlib::registry::formats::any& format) {
  planned out;
  qlib::recipe r;
  const qlib::errors bad = qlib::parse_recipe(recipe, "r.yaml", r);
  REQUIRE_MESSAGE(bad.empty(), text_of(bad));
  const opened_model model{families_folder() + "/" + family};
  REQUIRE_MESSAGE(model.found.empty(), text_of(model.found));
  qlib::plan_options options;
  options.model = &model.description;
  options.format = format;
  qlib::quantization_plan plan;
  out.errors = text_of(qlib::make_plan(model.source, model.layout, r, options, plan));
  for (const std::string& w : plan.warnings) out.warnings += w + "\n";
  for (const qlib::planned_suppression& p : plan.suppressions) out.sources.insert(p.graph.source);
  out.rotated = plan.rotation.has_value();
  return out;
}

/// Processors, then W8A8_DYNAMIC of `include`.
planned modelslim(const std::string& family, const std::string& processors, const std::string& include = "'*'") {
  return plan_of(family,
                 "apiversion: modelslim_v1\nspec:\n  process:\n" + processors + "    - type: linear_quant\n      include: [" + include +
                     "]\n      qconfig:\n        act: {scope: per_token, dtype: int8, symmetric: True, method: minmax}\n"
                     "        weight: {scope: per_channel, dtype: int8, symmetric: True, method: minmax}\n",
                 qlib::ascend_v1_format{});
}

/// A modifier, then W8A8 of all linears.
planned llmcompressor(const std::string& family, const std::string& modifier) {
  return plan_of(family, "m_modifiers:\n  " + modifier + "\n  QuantizationModifier: {scheme: W8A8, ignore: [lm_head, 're:.*mlp.gate$']}\n",
                 qlib::compressed_tensors_format{});
}

const std::string qkv = "['re:.*q_proj$', 're:.*k_proj$', 're:.*v_proj$']";

std::string smooth(const std::string& balance, const std::string& source) {
  return "SmoothQuantModifier: {mappings: [[" + balance + ", '" + source + "']]}";
}

}  // namespace

TEST_CASE("kv_smooth's include and exclude match names of attention modules") {
  using names = std::set<std::string>;
  const std::string first = "model.layers.0.self_attn.k_proj", second = "model.layers.1.self_attn.k_proj";
  const auto sources = [](const std::string& options) { return modelslim("llama", "    - {type: kv_smooth" + options + "}\n").sources; };
  CHECK(sources("") == names{first, second});
  CHECK(sources(", exclude: [model.layers.0.self_attn]") == names{second});
  CHECK(sources(", include: [model.layers.0.self_attn]") == names{first});
  CHECK(sources(", include: ['*.self_attn'], exclude: ['*.1.*']") == names{first});
  const planned wrong = modelslim("llama", "    - {type: kv_smooth, exclude: ['*k_proj']}\n");
  CHECK(wrong.sources == names{first, second});
  CHECK(wrong.says("r.yaml:4: \"*k_proj\" is to be left alone, but it matches no attention module"));
  // Where keys have a norm, its gains are scaled: the module is the same.
  CHECK(modelslim("qwen3_moe", "    - {type: kv_smooth, exclude: [model.layers.0.self_attn]}\n").sources == names{"model.layers.1.self_attn.k_norm"});
}

TEST_CASE("keys whose gains cannot be scaled are counted") {
  const planned p = modelslim("gemma3_text", "    - {type: kv_smooth}\n");  // gains stored as g - 1, in bf16
  CHECK(p.sources.empty());
  CHECK(p.says("r.yaml:4: 4 norms of keys are left as they are"));
}

TEST_CASE("SmoothQuantModifier leaves the norm in front of experts alone by default, and takes it where a mapping names it") {
  const std::string norm = "model.layers.0.post_attention_layernorm",
                    experts = "'re:.*mlp.gate$', 're:.*experts.*gate_proj$', 're:.*experts.*up_proj$'";
  const planned plain = llmcompressor("qwen3_moe", "SmoothQuantModifier: {}");
  CHECK(plain.sources.contains("model.layers.0.input_layernorm"));
  CHECK_FALSE(plain.sources.contains(norm));
  const planned named = llmcompressor("qwen3_moe", smooth("[" + experts + "]", "re:.*post_attention_layernorm"));
  CHECK(named.sources.contains(norm));
  CHECK_FALSE(named.sources.contains("model.layers.0.input_layernorm"));
  CHECK_FALSE(named.says("balance"));
}

TEST_CASE("a mapping that names all that reads its smooth layer says nothing") {
  const planned p =
      llmcompressor("llama", "SmoothQuantModifier: {mappings: [[" + qkv + ", 're:.*input_layernorm'], [['re:.*gate_proj', 're:.*up_proj'], " +
                                 "'re:.*post_attention_layernorm'], [['re:.*down_proj'], 're:.*up_proj'], [['re:.*o_proj'], 're:.*v_proj']]}");
  CHECK(p.errors.empty());
  CHECK(p.sources.size() == 8);
  CHECK_FALSE(p.says("r.yaml:2"));
}

TEST_CASE("a mapping that names some of the readers says what else is balanced") {
  const planned some = llmcompressor("llama", smooth("['re:.*q_proj$', 're:.*k_proj$']", "re:.*input_layernorm"));
  CHECK(some.sources == std::set<std::string>{"model.layers.0.input_layernorm", "model.layers.1.input_layernorm"});
  CHECK(some.says(
      "r.yaml:2: SmoothQuantModifier.mappings[0]: all that read a smooth layer are balanced, also model.layers.0.self_attn.v_proj and 1 more"));
  const planned more =
      llmcompressor("llama", smooth("['re:.*q_proj$', 're:.*k_proj$', 're:.*v_proj$', 're:.*o_proj$', 're:.*k_prj$']", "re:.*input_layernorm"));
  CHECK(more.says("\"re:.*o_proj$\" of the balance layers reads none of the smooth layers"));
  CHECK(more.says("\"re:.*k_prj$\" of the balance layers reads none of the smooth layers"));
  CHECK_FALSE(more.says("\"re:.*q_proj$\""));
}

TEST_CASE("a mapping whose layers do not belong together is an error, and one of which nothing comes a warning, each by its name") {
  const planned wrong = llmcompressor("llama", smooth("['re:.*q_proj$']", "re:.*post_attention_layernorm"));
  CHECK(
      wrong.refused("r.yaml:2: SmoothQuantModifier.mappings[0]: none of the balance layers reads model.layers.0.post_attention_layernorm: "
                    "model.layers.0.mlp.gate_proj and 1 more do"));
  CHECK(llmcompressor("llama", smooth("['re:.*nothing']", "re:.*input_layernorm"))
            .refused("mappings[0]: no module of the model is one of the balance"));
  CHECK(llmcompressor("llama", "AWQModifier: {mappings: [{smooth_layer: 're:.*up_proj$', balance_layers: ['re:.*q_proj$']}]}")
            .refused("mappings[0]: none"));

  const planned typo = llmcompressor(
      "llama", "SmoothQuantModifier: {mappings: [[" + qkv + ", 're:.*input_layernorm'], [['re:.*up_proj'], 're:.*post_atention_layernorm']]}");
  CHECK(typo.errors.empty());
  CHECK(typo.sources.size() == 2);
  CHECK(typo.says("r.yaml:2: SmoothQuantModifier.mappings[1]: nothing can be rescaled behind \"re:.*post_atention_layernorm\""));
  const planned impossible = llmcompressor("llama",
                                           "AWQModifier: {mappings: [{smooth_layer: 're:.*q_proj$', balance_layers: ['re:.*o_proj$']}, "
                                           "{smooth_layer: 're:.*up_proj$', balance_layers: ['re:.*down_proj$']}]}");
  CHECK(impossible.sources == std::set<std::string>{"model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"});
  CHECK(impossible.says("AWQModifier.mappings[0]: nothing can be rescaled behind \"re:.*q_proj$\""));
}

TEST_CASE("a mapping takes those of its smooth layers that a balance layer reads") {
  const planned p = llmcompressor("llama", smooth(qkv, "re:.*layernorm"));
  CHECK(p.sources == std::set<std::string>{"model.layers.0.input_layernorm", "model.layers.1.input_layernorm"});
}

TEST_CASE("activation_hook_target names a module below the one around the balance layers") {
  const auto hooked = [](const std::string& family, const std::string& source, const std::string& balance, const std::string& hook) {
    return llmcompressor(family, "AWQModifier: {mappings: [{smooth_layer: '" + source + "', balance_layers: [" + balance +
                                     "], activation_hook_target: " + hook + "}]}");
  };
  const std::string both = "'re:.*gate_proj$', 're:.*up_proj$'";
  CHECK(hooked("llama", "re:.*post_attention_layernorm", both, "bogus")
            .refused("mappings[0]: activation_hook_target bogus: there is no model.layers.0.mlp.bogus"));
  const planned good = hooked("llama", "re:.*post_attention_layernorm", both, "gate_proj");
  CHECK(good.errors.empty());
  CHECK_FALSE(good.says("activation_hook_target"));
  CHECK(hooked("llama", "re:.*post_attention_layernorm", both, "down_proj").says("not of what activation_hook_target down_proj gets"));
  // Lists of modules, as experts are, are not around anything.
  CHECK(hooked("qwen3_moe", "re:.*post_attention_layernorm", "'re:.*experts.*gate_proj$', 're:.*experts.*up_proj$'", "gate").errors.empty());
  CHECK(hooked("llama", "re:.*up_proj$", "'re:.*down_proj$'", "bogus").refused("there is no model.layers.0.mlp.down_proj.bogus"));
}

TEST_CASE("include and exclude patterns of a suppressor that match nothing are said one by one") {
  const planned p = modelslim("llama", "    - {type: iter_smooth, include: ['*input_layernorm', '*inptu*'], exclude: ['*.1.*', '*down_proj']}\n");
  CHECK(p.sources == std::set<std::string>{"model.layers.0.input_layernorm"});
  CHECK(p.says("r.yaml:4: include \"*inptu*\" matches no source of a sub-graph"));
  CHECK(p.says("r.yaml:4: \"*down_proj\" is to be left alone, but it matches no source of a sub-graph"));
  CHECK_FALSE(p.says("\"*input_layernorm\""));
  CHECK_FALSE(p.says("\"*.1.*\""));
  // AWQModifier's list is QuantizationModifier's too.
  const planned awq = llmcompressor("llama", "AWQModifier: {ignore: [lm_head, 're:.*o_proj$', 're:.*nothing$']}");
  CHECK_FALSE(awq.says("o_proj"));
  CHECK_FALSE(awq.says("lm_head"));
  CHECK(awq.says("r.yaml:2: \"re:.*nothing$\" is to be left alone"));
}

TEST_CASE("a stage none of whose readers is quantized says that nothing is rescaled") {
  const planned p = modelslim("llama", "    - {type: iter_smooth, enable_subgraph_type: [ov]}\n", "'*down_proj'");
  CHECK(p.sources.empty());
  CHECK(p.says("r.yaml:4: of the linears behind its 2 sub-graphs none is quantized: nothing is rescaled"));
  const planned some = modelslim("llama", "    - {type: iter_smooth}\n", "'*down_proj'");
  CHECK(some.sources.size() == 2);
  CHECK_FALSE(some.says("nothing is rescaled"));
}

TEST_CASE("a search that a recipe wants for other types than the linears get says which it is for") {
  const auto search = [](const std::string& processor) { return modelslim("llama", "    - " + processor + "\n"); };
  const std::string int8 = "{dtype: int8, scope: per_channel, symmetric: True, method: minmax}",
                    int4 = "{dtype: int4, scope: per_group, symmetric: True, method: minmax, ext: {group_size: 16}}",
                    token = "{dtype: int8, scope: per_token, symmetric: True, method: minmax}",
                    tensor = "{dtype: int8, scope: per_tensor, symmetric: False, method: minmax}";
  const std::string said = "its qconfig is not what linear_quant makes of ";
  CHECK_FALSE(search("{type: awq, weight_qconfig: " + int8 + "}").says(said));
  CHECK(search("{type: awq, weight_qconfig: " + int4 + "}").says("r.yaml:4: process[0] awq: " + said + "model.layers.0.mlp.down_proj and "));
  CHECK_FALSE(search("{type: flex_awq_ssz, qconfig: {act: " + token + ", weight: " + int8 + "}}").says(said));
  CHECK(search("{type: flex_awq_ssz, qconfig: {act: " + tensor + ", weight: " + int8 + "}}").says(said));
  CHECK(search("{type: flex_awq_ssz, qconfig: {weight: " + int8 + "}}").says(said));
  const std::string ssz = "{dtype: int8, scope: per_channel, symmetric: True, method: ssz}";
  CHECK(search("{type: flex_awq_ssz, qconfig: {act: " + token + ", weight: " + ssz + "}}").says(said));
}

TEST_CASE("rotations that cannot be are errors, and none at all is said") {
  const auto spin = [](const std::string& family, const std::string& options) {
    return llmcompressor(family, "SpinQuantModifier: {" + options + "}");
  };
  // Values of this family's heads have 6 channels.
  CHECK(spin("minicpm3", "rotations: [R2]").refused("r.yaml:2: SpinQuantModifier: no Hadamard matrix is known for the 6 channels of a head"));
  CHECK(spin("minicpm3", "").refused("6 channels of a head"));
  CHECK(spin("minicpm3", "rotations: [R1]").rotated);
  const planned quarot = modelslim("minicpm3", "    - {type: quarot}\n");
  CHECK(quarot.rotated);
  CHECK(quarot.says("values of 2 layers are not rotated"));

  CHECK(spin("llama", "rotations: [R2]").rotated);
  CHECK(spin("llama", "rotations: [R2], transform_block_size: 5").refused("transform_block_size 5 does not divide the 16 channels of a head"));
  CHECK(spin("llama", "rotations: [R2], transform_block_size: 8").rotated);
  const planned none = spin("llama", "rotations: []");
  CHECK(none.errors.empty());
  CHECK_FALSE(none.rotated);
  CHECK(none.says("r.yaml:2: SpinQuantModifier: rotations is empty: nothing is rotated"));
}
