#include <doctest/doctest.h>
#include <qlib/recipe/flags.hpp>
#include <qlib/recipe/yaml.hpp>
#include <qlib/registry.hpp>

using namespace qlib;

namespace {

using list = std::vector<std::string>;
using choice = std::vector<std::pair<std::string, std::string>>;

recipe parsed(const std::string& text) {
  recipe r;
  const errors found = parse_recipe(text, "r.yaml", r);
  for (const error& e : found) FAIL_CHECK(e.text());
  return r;
}

std::string problems(const std::string& text) {
  recipe r;
  std::string all;
  for (const error& e : parse_recipe(text, "r.yaml", r)) all += e.text() + "\n";
  return all;
}

std::string modelslim(const std::string& processors) {
  return "apiversion: modelslim_v1\nspec:\n  process:\n" + processors +
         "    - type: linear_quant\n"
         "      qconfig:\n"
         "        act: {scope: per_tensor, dtype: int8, symmetric: False, method: minmax}\n"
         "        weight: {scope: per_channel, dtype: int8, symmetric: True, method: minmax}\n";
}

}  // namespace

TEST_CASE("msModelSlim's outlier suppressors are read with their options, sub-graphs and patterns") {
  const recipe r =
      parsed(modelslim("    - type: iter_smooth\n"
                       "      alpha: 0.7\n"
                       "      scale_min: 1e-05\n"
                       "      symmetric: False\n"
                       "      enable_subgraph_type: [norm-linear, linear-linear, up-down]\n"
                       "      include: ['*layers.1.*']\n"
                       "      exclude: ['*up_proj']\n"
                       "    - type: smooth_quant\n"
                       "    - type: flex_awq_ssz\n"
                       "      qconfig:\n"
                       "        act: {scope: per_token, dtype: int8, symmetric: True, method: minmax}\n"
                       "        weight: {scope: per_channel, dtype: int4, symmetric: True, method: ssz}\n"));
  REQUIRE(r.suppression.size() == 3);
  const suppression_stage& s = r.suppression[0];
  CHECK(s.suppressor == policy_choice{"iter_smooth", {{"alpha", "0.7"}, {"scale_min", "1e-05"}, {"symmetric", "false"}}});
  CHECK(s.norm_linear);
  CHECK_FALSE(s.ov);
  CHECK(s.up_down);
  CHECK(s.targets == list{"*layers.1.*"});
  CHECK(s.ignore == list{"*up_proj"});
  CHECK(s.syntax == pattern_syntax::glob);
  CHECK(s.where == "r.yaml:4");
  CHECK(r.suppression[1].norm_linear);
  CHECK_FALSE(r.suppression[1].up_down);
  CHECK(r.suppression[2].suppressor.name == "flex_awq_ssz");
  CHECK(r.stages.size() == 1);
}

TEST_CASE("LLM-Compressor's SmoothQuantModifier is read as it writes it") {
  const recipe r = parsed(R"(default_stage:
  default_modifiers:
    SmoothQuantModifier:
      requires_calibration_data: true
      smoothing_strength: 0.8
      mappings:
      - !!python/tuple
        - ['re:.*q_proj', 're:.*k_proj', 're:.*v_proj']
        - re:.*input_layernorm
      ignore: []
      algorithm: smoothquant
    QuantizationModifier:
      targets: [Linear]
      ignore: [lm_head]
      scheme: W8A8
)");
  REQUIRE(r.suppression.size() == 1);
  const suppression_stage& s = r.suppression[0];
  CHECK(s.suppressor == policy_choice{"smooth_quant", {{"statistic", "range"}, {"alpha", "0.8"}}});
  CHECK(s.targets == list{"re:.*input_layernorm"});
  REQUIRE(s.mappings.size() == 1);
  CHECK(s.mappings[0].smooth == list{"re:.*input_layernorm"});
  CHECK(s.mappings[0].balance == list{"re:.*q_proj", "re:.*k_proj", "re:.*v_proj"});
  CHECK(s.mappings[0].where == "r.yaml:7");
  CHECK(s.experts);  // its rule for experts is of the default mappings
  CHECK(s.where == "r.yaml:3");
}

TEST_CASE("without mappings SmoothQuantModifier rescales norms, and AWQModifier every sub-graph") {
  const recipe r = parsed(
      "m_modifiers:\n  SmoothQuantModifier: {smoothing_strength: 0.5}\n  AWQModifier: {duo_scaling: both, n_grid: 10}\n"
      "  QuantizationModifier: {scheme: W4A16}\n");
  REQUIRE(r.suppression.size() == 2);
  CHECK(r.suppression[0].norm_linear);
  CHECK_FALSE(r.suppression[0].ov);
  CHECK(r.suppression[0].targets.empty());
  CHECK_FALSE(r.suppression[0].experts);
  CHECK(r.suppression[1].ov);
  CHECK(r.suppression[1].up_down);
  CHECK(r.suppression[1].suppressor == policy_choice{"awq", {{"duo_scaling", "both"}, {"inclusive", "true"}, {"n_grid", "10"}}});
}

TEST_CASE("an AWQModifier with a scheme quantizes as well") {
  const recipe r = parsed("AWQModifier: {targets: [Linear], ignore: [lm_head], scheme: W4A16, duo_scaling: both}\n");
  REQUIRE(r.suppression.size() == 1);
  CHECK(r.suppression[0].suppressor.name == "awq");
  REQUIRE(r.stages.size() == 1);
  CHECK(r.stages[0].scheme.weights->num_bits == 4);
  CHECK(r.stages[0].ignore == list{"lm_head"});
  CHECK(problems("AWQModifier: {schema: W4A16}\n").find("unknown key 'schema'") != std::string::npos);
}

TEST_CASE("mappings of AWQModifier are maps or pairs, whichever side comes first") {
  const recipe r = parsed(
      "m_modifiers:\n  AWQModifier:\n    mappings:\n"
      "    - {smooth_layer: 're:.*input_layernorm$', balance_layers: ['re:.*q_proj$'], activation_hook_target: null}\n"
      "    - ['re:.*up_proj$', ['re:.*down_proj$']]\n"
      "  QuantizationModifier: {scheme: W4A16}\n");
  CHECK(r.suppression.at(0).targets == list{"re:.*input_layernorm$", "re:.*up_proj$"});
  REQUIRE(r.suppression[0].mappings.size() == 2);
  CHECK(r.suppression[0].mappings[1].balance == list{"re:.*down_proj$"});
  CHECK(r.suppression[0].mappings[1].name == "AWQModifier.mappings[1]");
}

TEST_CASE("mappings that can mean nothing are errors") {
  const auto wrong = [](const std::string& mappings) {
    return problems("SmoothQuantModifier: {mappings: " + mappings + "}\nQuantizationModifier: {scheme: W8A8}\n");
  };
  CHECK(wrong("[]") ==
        "r.yaml:1: SmoothQuantModifier.mappings: an empty list: nothing would be rescaled: remove it to have the default, or remove the modifier\n");
  CHECK(wrong("[[[], 're:.*norm']]").find("SmoothQuantModifier.mappings[0]: a mapping without balance_layers") != std::string::npos);
  CHECK(problems("AWQModifier: {scheme: W4A16, mappings: [{smooth_layer: 're:.*up_proj$', balance_layers: []}]}\n")
            .find("AWQModifier.mappings[0]: a mapping without balance_layers") != std::string::npos);
  CHECK(problems("AWQModifier: {scheme: W4A16, mappings: [{smooth_layer: [], balance_layers: ['re:.*down_proj$']}]}\n")
            .find("AWQModifier.mappings[0]: a mapping without a layer to smooth") != std::string::npos);
  CHECK(problems("AWQModifier: {scheme: W4A16, mappings: [{smooth_layer: a, balance_layers: [b], activation_hook_target: [c]}]}\n")
            .find("activation_hook_target: expected a value") != std::string::npos);
}

TEST_CASE("what a search quantizes to is read as linear_quant reads it") {
  const auto wrong = [](const std::string& key, const std::string& qconfig) {
    return problems(modelslim("    - {type: " + key + ": " + qconfig + "}\n"));
  };
  const std::string awq = "awq, weight_qconfig", flex = "flex_awq_ssz, qconfig";
  const auto has = [](const std::string& text, const std::string& part) { CHECK_MESSAGE(text.find(part) != text.npos, text); };
  has(wrong(awq, "{dtype: banana, scope: per_channel, symmetric: True, method: minmax}"),
      "r.yaml:4: spec.process[0].weight_qconfig.dtype: unknown dtype 'banana'");
  has(wrong(awq, "{dtype: int8, scope: per_moon, symmetric: True, method: minmax}"), "unknown scope 'per_moon'");
  has(wrong(awq, "{dtype: int8, scope: per_token, symmetric: True, method: minmax}"), "weights with scope per_token");
  has(wrong(awq, "{dtype: int8, scope: per_channel, symmetric: maybe, method: minmax}"), "expected true or false");
  has(wrong(awq, "{dtype: int8, scope: per_channel, symmetric: True, method: guess}"), "unknown method 'guess'");
  has(wrong(awq, "{dtype: int4, scope: per_group, symmetric: True, method: minmax}"), "needs a group size");
  has(wrong(awq, "{dtype: float, scope: per_channel, symmetric: True, method: none}"), "nothing is quantized");
  has(wrong(awq, "{}"), "the key 'dtype' is missing");
  has(wrong(flex, "{act: {dtype: int8, scope: per_token, symmetric: True, method: minmax}}"), "the key 'weight' is missing");
  has(wrong(flex, "{weight: {dtype: int8, scope: per_channel, symmetric: True, method: minmax}, act: {dtype: int9}}"), "unknown dtype 'int9'");
  const recipe r =
      parsed(modelslim("    - {type: awq, weight_qconfig: {dtype: int4, scope: per_group, symmetric: False, method: ssz, ext: {group_size: 32}}}\n"));
  REQUIRE(r.suppression.at(0).searched);
  CHECK_FALSE(r.suppression[0].searches_inputs);
  const quantization_args& w = *r.suppression[0].searched->weights;
  CHECK(w.num_bits == 4);
  CHECK(w.group_size == 32);
  CHECK_FALSE(w.symmetric);
}

TEST_CASE("SpinQuantModifier has no targets and no ignore") {
  for (const std::string key : {"targets", "ignore"})
    CHECK(problems("m_modifiers:\n  SpinQuantModifier: {" + key + ": ['re:.*q_proj']}\n  QuantizationModifier: {scheme: W8A8}\n")
              .find("unknown key '" + key + "': known keys: rotations, transform_type") != std::string::npos);
}

TEST_CASE("every suppressor of the registry is known by its name, to flags and to recipes, with its options") {
  for (const std::string_view name : registry::suppressors::names()) {
    CAPTURE(name);
    if (name == "none") continue;
    const auto stage = find_anti_method(name);
    REQUIRE(stage);
    CHECK(stage->suppressor.name == name);
    CHECK(stage->query_key != stage->norm_linear);
    const std::string weights = "{dtype: int8, scope: per_channel, symmetric: True, method: minmax}";
    const std::string own = name == "awq" ? ", weight_qconfig: " + weights : name == "flex_awq_ssz" ? ", qconfig: {weight: " + weights + "}" : "";
    const recipe r = parsed(modelslim("    - {type: " + std::string{name} + own + "}\n"));
    REQUIRE(r.suppression.size() == 1);
    CHECK(r.suppression[0].suppressor.name == name);
    CHECK(r.suppression[0].query_key == stage->query_key);
  }
  CHECK_FALSE(find_anti_method("none"));
  const recipe r = parsed(modelslim("    - {type: threshold_smooth, steps: 7, tokens: first, enable_subgraph_type: [ov]}\n"));
  CHECK(r.suppression.at(0).suppressor.options.size() == 2);
  CHECK_FALSE(r.suppression[0].norm_linear);
  CHECK(problems(modelslim("    - {type: cbq_mask, steps: 7}\n")).find("unknown key 'steps'") != std::string::npos);
  CHECK(problems(modelslim("    - {type: none}\n")).find("unknown processor 'none'") != std::string::npos);
}

TEST_CASE("wrong outlier suppression is an error that names the line and what is known") {
  CHECK(problems(modelslim("    - {type: iter_smooth, alfa: 1}\n")).find("unknown key 'alfa'") != std::string::npos);
  const std::string kind = problems(modelslim("    - {type: iter_smooth, enable_subgraph_type: [norm]}\n"));
  CHECK(kind.find("norm-linear, linear-linear, ov, up-down") != std::string::npos);
  CHECK(problems(modelslim("    - {type: awq}\n")).find("the key 'weight_qconfig' is missing") != std::string::npos);
  CHECK(problems("m_modifiers:\n  SmoothQuantModifier: {smoothing_strength: 0.5}\n").find("nothing is quantized behind") != std::string::npos);
  CHECK(problems("m_modifiers:\n  SmoothQuantModifier: {strength: 0.5}\n  QuantizationModifier: {scheme: W8A8}\n").find("unknown key 'strength'") !=
        std::string::npos);
}

TEST_CASE("--anti_method takes msModelSlim's letters, which choose sub-graphs too, and suppressors by name") {
  recipe r;
  REQUIRE(recipe_from_flags({.quant_type = "w8a8", .anti_method = "M1"}, r).empty());
  CHECK(r.suppression.at(0).suppressor.name == "smooth_quant");
  CHECK_FALSE(r.suppression[0].up_down);
  REQUIRE(recipe_from_flags({.quant_type = "w8a8", .anti_method = "m4"}, r).empty());
  CHECK(r.suppression.at(0).suppressor.name == "iter_smooth");
  CHECK(r.suppression[0].ov);
  REQUIRE(recipe_from_flags({.quant_type = "w8a8", .anti_method = "none"}, r).empty());
  CHECK(r.suppression.empty());
  const errors found = recipe_from_flags({.quant_type = "w8a8", .anti_method = "m7"}, r);
  REQUIRE(found.size() == 1);
  CHECK(found[0].text().find("m1, m2, m3, m4, m5, m6, smooth_quant") != std::string::npos);
}

TEST_CASE("an option that a suppressor does not take is named as the recipe names it, with its line") {
  const std::string smooth = "QuantizationModifier: {scheme: W8A8}\nSmoothQuantModifier:\n  mappings: null\n  smoothing_strength: ";
  for (const std::string value : {"1.5", "-0.1"})
    CHECK(problems(smooth + value + "\n") == "r.yaml:4: SmoothQuantModifier.smoothing_strength: smoothing_strength " + value +
                                                 " is not in 0 to 1: change the option, or leave it out\n");
  for (const std::string value : {"nan", ".nan", "inf", "1e400", "much", "0.5x"})
    CHECK(problems(smooth + value + "\n") ==
          "r.yaml:4: SmoothQuantModifier.smoothing_strength: '" + value + "' is no value of it: write a value of its kind, as the default is\n");
  CHECK(problems("AWQModifier:\n  scheme: W4A16\n  duo_scaling: maybe\n").find("r.yaml:3: AWQModifier.duo_scaling: ") == 0);
  CHECK(problems(modelslim("    - type: iter_smooth\n      scale_min: 0\n")).find("r.yaml:5: spec.process[0].scale_min: scale_min ") == 0);
  CHECK(problems(modelslim("    - type: awq\n      weight_qconfig: {}\n      n_grid: 0\n")).find("r.yaml:6: spec.process[0].n_grid: n_grid 0") == 0);
  CHECK(problems(modelslim("    - type: kv_smooth\n      smooth_factor: -2\n")).find("r.yaml:5: spec.process[0].smooth_factor: ") == 0);
  CHECK(problems(modelslim("    - type: flex_awq_ssz\n      beta: 0.5\n      qconfig: {}\n")).find("beta without alpha") != std::string::npos);
}

TEST_CASE("awq by name clips; m3 and the recipe languages' own keys do not, and msModelSlim's processor does if it is told to") {
  CHECK(find_anti_method("awq")->suppressor == policy_choice{"awq", {{"clip", "true"}}});
  CHECK(find_anti_method("m3")->suppressor == policy_choice{"awq", {}});
  const auto awq = [](const std::string& more) {
    return parsed(modelslim("    - type: awq\n      weight_qconfig: {scope: per_channel, dtype: int4, symmetric: True, method: minmax}\n" + more))
        .suppression[0]
        .suppressor;
  };
  CHECK(awq("") == policy_choice{"awq", {}});
  CHECK(awq("      clip: true\n") == policy_choice{"awq", {{"clip", "true"}}});
  CHECK(problems("stage:\n  modifiers:\n    AWQModifier: {clip: true, scheme: W4A16}\n").find("clip") != std::string::npos);
}
