#include <doctest/doctest.h>
#include <qlib/recipe/yaml.hpp>

#include <random>
#include <string>
#include <vector>

using namespace qlib;

namespace {

recipe parsed(std::string_view text) {
  recipe r;
  const errors found = parse_recipe(text, "r.yaml", r);
  REQUIRE_MESSAGE(found.empty(), (found.empty() ? "" : found[0].text()));
  return r;
}

std::vector<std::string> failed(std::string_view text) {
  recipe r;
  r.source = "untouched";
  std::vector<std::string> out;
  for (const error& e : parse_recipe(text, "r.yaml", r)) out.push_back(e.text());
  CHECK_FALSE(out.empty());
  CHECK(r.source == "untouched");
  CHECK(r.stages.empty());
  return out;
}

/// The one error starts with `start` and contains `part`.
void check_error(const std::string& text, std::string_view start, std::string_view part) {
  const auto found = failed(text);
  CAPTURE(text);
  CAPTURE(found.at(0));
  REQUIRE(found.size() == 1);
  CHECK(found[0].rfind(start, 0) == 0);
  CHECK(found[0].find(part) != std::string::npos);
}

using list = std::vector<std::string>;

/// A QuantizationModifier; the body starts in line 4, indented by 6.
std::string modifier(const std::string& body) { return "default_stage:\n  default_modifiers:\n    QuantizationModifier:\n" + body; }
/// One config group; the args of the weights start in line 7.
std::string weights(const std::string& args) {
  return modifier("      config_groups:\n        group_0: {targets: [Linear], weights: {\n          " + args + "}}\n");
}
quantization_args weight_args(const std::string& args) { return *parsed(weights(args)).stages.at(0).scheme.weights; }

/// A modelslim_v1 document with one linear_quant whose qconfig is in line 5.
std::string linear_quant(const std::string& qconfig, const std::string& more = "") {
  return "apiversion: modelslim_v1\nspec:\n  process:\n  - type: linear_quant\n    qconfig: " + qconfig + "\n" + more;
}
const std::string w8 = "weight: {dtype: int8, scope: per_channel, symmetric: true, method: minmax}";
const std::string a8 = "act: {dtype: int8, scope: per_token, symmetric: true, method: minmax}";

const quantization_args token{.strategy = strategy::token, .dynamic = true};

const std::string written_by_llmcompressor = R"(default_stage:
  default_modifiers:
    QuantizationModifier:
      config_groups:
        group_0:
          targets: [Linear]
          weights:
            num_bits: 4
            type: int
            symmetric: false
            group_size: 32
            strategy: group
            block_structure: null
            dynamic: false
            actorder: null
            scale_dtype: null
            zp_dtype: torch.int8
            observer: memoryless_minmax
            observer_kwargs: {}
          input_activations: null
          output_activations: null
          format: null
      targets: [Linear]
      ignore: [lm_head, 're:.*mlp.gate$']
      bypass_divisibility_checks: false
      requires_calibration_data: false
)";

const std::string modelslim_group = R"(# a comment
apiversion: modelslim_v1
metadata:
  config_id: some_w8a8
  score: 90
  label: {w_bit: 8, a_bit: 8, is_sparse: False, kv_cache: False}
  verified_model_types: [Qwen3-32B]
default_w8a8_dynamic: &default_w8a8_dynamic
  act: {scope: "per_token", dtype: "int8", symmetric: True, method: "minmax"}
  weight: &weight
    scope: "per_channel"
    dtype: "int8"
    symmetric: True
    method: "minmax"
spec:
  runner: layer_wise
  process:
    - type: "group"
      configs:
        - type: "linear_quant"
          qconfig: *default_w8a8_dynamic
          include: ["*self_attn*"]
        - type: "linear_quant"
          qconfig:
            weight: {<<: *weight, scope: per_group, ext: {group_size: 64}}
          include: ["*experts*"]
          exclude: ["*mlp.gate", lm_head]
  save:
    - type: "ascendv1_saver"
      part_file_size: 4
  dataset: mix_calib.jsonl
)";

}  // namespace

TEST_CASE("the recipe that LLM-Compressor writes beside a checkpoint is read as it is") {
  const recipe r = parsed(written_by_llmcompressor);
  CHECK(r.source == "llmcompressor");
  REQUIRE(r.stages.size() == 1);
  const stage& s = r.stages[0];
  CHECK(s.name == "group_0");
  CHECK(s.where == "r.yaml:5");
  CHECK(s.syntax == pattern_syntax::compressed_tensors);
  CHECK(s.targets == list{"Linear"});
  CHECK(s.ignore == list{"lm_head", "re:.*mlp.gate$"});
  CHECK(s.scheme.weights ==
        quantization_args{.num_bits = 4, .symmetric = false, .strategy = strategy::group, .group_size = 32, .observer = "memoryless_minmax"});
  CHECK_FALSE(s.scheme.input_activations);
  CHECK(s.scheme.format.empty());
  CHECK(s.observer == policy_choice{"minmax", {}});
  CHECK(s.rounder == policy_choice{"rtn", {}});
}

TEST_CASE("a preset may be named in any case, and stage and group may be left out") {
  for (const std::string& text :
       {std::string{"quant_stage:\n  run_type: oneshot\n  quant_modifiers:\n    QuantizationModifier: {targets: Linear, scheme: w8a8}\n"},
        std::string{"quant_modifiers:\n  QuantizationModifier: {scheme: W8A8}\n"}, std::string{"QuantizationModifier: {scheme: INT8}\n"},
        std::string{"- QuantizationModifier: {scheme: W8A8}\n"},
        std::string{"s:\n  quant_modifiers:\n  - QuantizationModifier:\n      scheme: W8A8\n"}}) {
    const recipe r = parsed(text);
    REQUIRE(r.stages.size() == 1);
    CHECK(r.stages[0].targets == list{"Linear"});
    CHECK(r.stages[0].scheme.weights == quantization_args{});
    CHECK(r.stages[0].scheme.input_activations == token);
  }
}

TEST_CASE("a scheme can map presets to targets or be written out, and a group can be a preset") {
  const recipe mapped = parsed(modifier("      scheme: {W4A16: ['re:.*experts.*'], FP8_DYNAMIC: lm_head}\n"));
  REQUIRE(mapped.stages.size() == 2);
  CHECK(mapped.stages[0].targets == list{"re:.*experts.*"});
  CHECK(mapped.stages[1].targets == list{"lm_head"});
  CHECK(mapped.stages[1].name == "group_1");
  CHECK(mapped.stages[1].scheme.weights->type == number::floating);
  CHECK(parsed(modifier("      targets: [re:a]\n      scheme: {weights: {num_bits: 8}}\n")).stages[0].targets == list{"re:a"});
  const recipe groups = parsed(modifier("      config_groups: {W8A8: [Linear], mine: {targets: a, weights: null, format: dense}}\n"));
  CHECK(groups.stages[0].scheme.input_activations == token);
  scheme dense;
  dense.format = "dense";
  CHECK(groups.stages[1].scheme == dense);
}

TEST_CASE("the strategy of a QuantizationArgs is inferred from its group size") {
  CHECK(weight_args("").strategy == strategy::tensor);
  CHECK(weight_args("group_size: -1").strategy == strategy::channel);
  CHECK(weight_args("group_size: 64") == quantization_args{.strategy = strategy::group, .group_size = 64});
  CHECK(weight_args("strategy: CHANNEL, type: Float, actorder: false") == quantization_args{.type = number::floating});
  const quantization_args block{.type = number::floating, .strategy = strategy::block, .block_rows = 128, .block_cols = 64};
  CHECK(weight_args("type: float, strategy: block, block_structure: [128, 64]") == block);
  CHECK(weight_args("type: float, strategy: block, block_structure: 128x64") == block);
}

TEST_CASE("an observer of the modifier overrides that of the scheme") {
  CHECK(parsed(modifier("      scheme: W8A8\n      weight_observer: static_minmax\n      input_observer: minmax\n"))
            .stages[0]
            .scheme.weights->observer == "static_minmax");
  check_error(modifier("      scheme: W8A16\n      input_observer: minmax\n"), "r.yaml:5: QuantizationModifier.input_observer",
              "no scheme here quantizes activations");
}

TEST_CASE("each wrong QuantizationArgs is an error with its line") {
  const std::string at = "r.yaml:6: QuantizationModifier.config_groups.group_0.weights";
  for (const auto& [args, part] : std::vector<std::pair<std::string, std::string>>{
           {"num_bits: 9", "expected an integer from 2 to 8, found '9'"},
           {"num_bits: '8'", "expected an integer"},
           {"num_bits: 4, type: float", "float with 4 bits is not built yet"},
           {"type: fp8", "unknown type 'fp8': known: int, float"},
           {"type: float, symmetric: false", "float8 has no zero point"},
           {"symmetric: maybe", "expected true or false"},
           {"group_size: 0", "group_size 0"},
           {"group_size: 32, strategy: channel", "group_size 32 with strategy channel"},
           {"strategy: tensor_group, group_size: -1", "'tensor_group' is not built yet"},
           {"strategy: rows", "unknown strategy 'rows'"},
           {"strategy: token", "strategy token is for activations"},
           {"block_structure: [1, 2]", "block_structure with strategy tensor"},
           {"strategy: block, block_structure: [1, 2, 3]", "3 sizes"},
           {"strategy: block, block_structure: 128*128", "found '128*128'"},
           {"dynamic: true", "weights cannot be dynamic"},
           {"dynamic: local", "dynamic: local belongs to strategy tensor_group"},
           {"actorder: static", "actorder is part of GPTQ"},
           {"scale_dtype: torch.uint8", "set scale_dtype: null"},
           {"zp_dtype: torch.int8", "symmetric operands have no zero point"},
           {"symmetric: false, zp_dtype: torch.int32", "unknown zp_dtype"},
           {"observer: imatrix_mse", "observer 'imatrix_mse' is not built yet in this version: known: minmax, memoryless_minmax, static_minmax, mse"},
           {"observer: middle", "unknown observer 'middle'"},
           {"observer_kwargs: {a: 1}", "the default observer has no options"},
           {"observer: static_minmax, observer_kwargs: {averaging_constant: 0.1}", "static_minmax has no options"},
           {"observer: minmax, observer_kwargs: {a: 1}", "unknown key 'a': known keys: averaging_constant"},
           {"observer: minmax, observer_kwargs: {averaging_constant: 1.5}", "'1.5' is no weight of a sample: give a number from 0 to 1"},
           {"observer: mse, observer_kwargs: {a: 1}", "unknown key 'a': known keys: grid, maxshrink, norm"},
           {"observer: mse, observer_kwargs: {grid: 2.5}", "'2.5' is no whole number"},
           {"observer: mse, observer_kwargs: {norm: much}", "'much' is no number"},
           {"observer: mse, observer_kwargs: {grid: 0}", "grid is at least 1"},
           {"observer: mse, observer_kwargs: {maxshrink: 1}", "maxshrink is from 0 to below 1"},
           {"bits: 8", "unknown key 'bits': known keys: num_bits, type"},
       })
    check_error(weights(args), at, part);
  const std::string group_without_size = failed(weights("strategy: group")).at(0), block_without_shape = failed(weights("strategy: block")).at(0);
  CHECK(group_without_size.find("strategy group needs a group_size > 0") != std::string::npos);
  CHECK(block_without_shape.find("needs a block_structure") != std::string::npos);
}

TEST_CASE("mse observes weights and static activations, with the options that decide its search") {
  const auto of = [](const std::string& args) {
    return parsed(modifier("      config_groups:\n        g: {targets: a, weights: {" + args + "}}\n")).stages[0].observer;
  };
  CHECK(of("observer: mse") == policy_choice{"mse", {}});
  CHECK(of("observer: memoryless_mse, observer_kwargs: {norm: 2.0, patience: 5, chunk_size: 7, averaging_constant: 0.1, grid: 50}") ==
        policy_choice{"mse", {{"norm", "2.0"}, {"grid", "50"}}});
  CHECK(parsed(modifier("      scheme: W4A16\n      weight_observer: mse\n")).stages[0].observer == policy_choice{"mse", {}});
  const auto of_inputs = [](const std::string& args) {
    return parsed(modifier("      config_groups:\n        g: {targets: a, weights: {}, input_activations: {" + args + "}}\n"))
        .stages[0]
        .input_observer;
  };
  CHECK(of_inputs("observer: mse") == policy_choice{"mse", {{"patience", "5"}}});
  CHECK(of_inputs("observer: mse, observer_kwargs: {patience: 9, averaging_constant: 0.5, chunk_size: 7}") ==
        policy_choice{"mse", {{"patience", "9"}, {"averaging_constant", "0.5"}}});
  CHECK(parsed(modifier("      scheme: W8A8\n      input_observer: mse\n")).stages[0].input_observer.name == "minmax");  // of static inputs only
  check_error(modifier("      scheme: W8A8\n      input_observer: memoryless_mse\n"), "r.yaml:5", "observer 'memoryless_mse' is not built yet");
}

TEST_CASE("minmax of static activations averages with the constant that observer_kwargs give") {
  const auto of_inputs = [](const std::string& args) {
    return parsed(modifier("      config_groups:\n        g: {targets: a, weights: {}, input_activations: {" + args + "}}\n")).stages[0];
  };
  const policy_choice tenth{"moving_average", {{"averaging_constant", "0.1"}}};
  CHECK(of_inputs("observer: minmax, observer_kwargs: {averaging_constant: 0.1}").input_observer == tenth);
  CHECK(of_inputs("observer_kwargs: {averaging_constant: 0.1}").input_observer == tenth);  // minmax is the default
  CHECK(of_inputs("observer: minmax").input_observer == policy_choice{"moving_average", {}});
  const recipe cache =
      parsed(modifier("      scheme: W8A16\n      kv_cache_scheme: {num_bits: 8, type: float, strategy: tensor, dynamic: false,\n"
                      "        observer: minmax, observer_kwargs: {averaging_constant: 0.1}}\n"));
  CHECK(cache.attention[0].observer == tenth);
  CHECK(cache.attention[0].value_observer == tenth);
  // One set of weights is one sample: nothing is averaged.
  CHECK(parsed(modifier("      config_groups:\n        g: {targets: a, weights: {observer: minmax, observer_kwargs: {averaging_constant: 0.1}}}\n"))
            .stages[0]
            .observer == policy_choice{"minmax", {}});
}

TEST_CASE("activations must be dynamic tokens, tensors or groups") {
  const auto inputs = [](const std::string& args) {
    return modifier("      config_groups:\n        g: {targets: a, weights: {},\n          input_activations: {" + args + "}}\n");
  };
  CHECK(parsed(inputs("strategy: token, dynamic: true, observer: minmax")).stages[0].scheme.input_activations == token);
  CHECK(parsed(inputs("dynamic: true")).stages[0].scheme.input_activations->strategy == strategy::tensor);
  const std::string at = "r.yaml:6: QuantizationModifier.config_groups.g.input_activations";
  const stage calibrated = parsed(inputs("num_bits: 8")).stages[0];
  CHECK(calibrated.scheme.input_activations == quantization_args{.strategy = strategy::tensor, .observer = "minmax"});
  CHECK(calibrated.input_observer.name == "moving_average");  // what LLM-Compressor's minmax is for activations
  CHECK(parsed(inputs("observer: static_minmax")).stages[0].input_observer.name == "minmax");
  check_error(inputs("strategy: token"), at, "static activations with strategy token do not exist");
  check_error(inputs("strategy: channel, dynamic: true"), at, "activations cannot have strategy channel");
  check_error(modifier("      scheme: {input_activations: {dynamic: true}}\n"), "r.yaml:4", "activations without weights");
  check_error(modifier("      scheme: {weights: {}, output_activations: {dynamic: true}}\n"), "r.yaml:4", "output activations are not built yet");
  check_error(modifier("      scheme: {weights: {}, format: marlin-24}\n"), "r.yaml:4", "format 'marlin-24' is not built yet");
}

TEST_CASE("what a modifier cannot do is an error that names the line and lists what is known") {
  check_error("s:\n  m_modifiers:\n    GPTQModifier: {scheme: W4A16}\n", "r.yaml:3: s.m_modifiers.GPTQModifier",
              "modifier 'GPTQModifier' is not built yet in this version: known: QuantizationModifier");
  check_error(
      "s:\n  m_modifiers:\n    QuantModifier: {}\n", "r.yaml:3",
      "unknown modifier 'QuantModifier': known: QuantizationModifier, SmoothQuantModifier, AWQModifier, SpinQuantModifier; not yet: GPTQModifier");
  check_error("s:\n  modifier:\n    x: {}\n", "r.yaml:2: s.modifier", "unknown key 'modifier' in a stage");
  check_error(modifier("      scheme: NVFP4\n"), "r.yaml:4: QuantizationModifier.scheme",
              "scheme 'NVFP4' is not built yet in this version: known: W8A8, INT8");
  check_error(modifier("      scheme: W8A8_DYNAMIC\n"), "r.yaml:4", "unknown scheme 'W8A8_DYNAMIC'");
  check_error(modifier("      tragets: [a]\n      scheme: W8A8\n"), "r.yaml:4: QuantizationModifier.tragets",
              "unknown key 'tragets': known keys: targets, ignore");
  check_error(modifier("      ignore: [lm_head]\n"), "r.yaml:3: QuantizationModifier", "nothing says what to quantize to");
  check_error(modifier("      scheme: W8A8\n      config_groups: {}\n"), "r.yaml:4", "scheme and config_groups (line 5) exclude each other");
  check_error(modifier("      scheme: W8A8\n      kv_cache_scheme: {num_bits: 8, dynamic: true}\n"), "r.yaml:5", "a dynamic cache has no scales");
  check_error(modifier("      scheme: W8A8\n      ignore:\n      - lm_head\n      - 're:('\n"), "r.yaml:7: QuantizationModifier.ignore[1]: re:(",
              "bad regex at offset 1");
  check_error(modifier("      targets: [a]\n      config_groups: {W8A8: [b]}\n"), "r.yaml:4", "targets have no effect beside config_groups");
  check_error(modifier("      config_groups: {g: {weights: {}}}\n"), "r.yaml:4", "no targets");
  check_error(modifier("      targets: {a: b}\n      scheme: W8A8\n"), "r.yaml:4", "expected a list, found a map");
}

TEST_CASE("all errors come at once") {
  const auto found = failed(modifier("      scheme: W9A9\n      ignore: ['re:[']\n      extra: 1\n      weight_observer: imatrix_mse\n"));
  REQUIRE(found.size() == 4);
  for (const int line : {4, 5, 6, 7}) {
    bool seen = false;
    for (const auto& text : found) seen = seen || text.rfind("r.yaml:" + std::to_string(line) + ": ", 0) == 0;
    CHECK(seen);
  }
}

TEST_CASE("a text that is not one clean YAML map is an error") {
  check_error("", "r.yaml: ", "the recipe is empty");
  check_error("# nothing\n", "r.yaml: ", "the recipe is empty");
  check_error("W8A8\n", "r.yaml:1: ", "expected a map, found 'W8A8'");
  check_error("a: [1\nb: 2\n", "r.yaml:", "not YAML");
  check_error("QuantizationModifier: {scheme: W8A8}\n---\nQuantizationModifier: {scheme: W8A8}\n", "r.yaml:3", "a second document");
  check_error("QuantizationModifier:\n  scheme: W8A8\n  scheme: FP8_DYNAMIC\n", "r.yaml:3: scheme", "duplicate key; first written in line 2");
  check_error("apiversion: modelslim_v1\napiversion: modelslim_v1\n" + linear_quant("{" + w8 + "}").substr(25), "r.yaml:2: apiversion",
              "duplicate key");
  check_error("QuantizationModifier: {scheme: W8A8}\n\x04junk\n", "r.yaml:2", "control character 4");
  check_error("QuantizationModifier: {scheme: !!python/object W8A8}\n", "r.yaml:1", "unknown tag");
  CHECK(failed("QuantizationModifier: &a {scheme: *a}\n").at(0).find("an alias inside of its own anchor") != std::string::npos);
  CHECK(failed("QuantizationModifier: {scheme: W8A8, [a]: b}\n").at(0).find("a key must be a string") != std::string::npos);
}

TEST_CASE("a msModelSlim recipe with anchors, merge keys and a group becomes stages in its order") {
  const recipe r = parsed(modelslim_group);
  CHECK(r.source == "modelslim_v1");
  REQUIRE(r.stages.size() == 2);
  CHECK(r.stages[0].name == "process[0].configs[0] linear_quant");
  CHECK(r.stages[0].where == "r.yaml:20");
  CHECK(r.stages[0].syntax == pattern_syntax::glob);
  CHECK(r.stages[0].targets == list{"*self_attn*"});
  CHECK(r.stages[0].ignore == list{"lm_head"});
  CHECK(r.stages[0].scheme.weights == quantization_args{.observer = "minmax"});
  CHECK(r.stages[0].scheme.input_activations == token);
  CHECK(r.stages[1].ignore == list{"*mlp.gate", "lm_head"});
  CHECK(r.stages[1].scheme.weights == quantization_args{.strategy = strategy::group, .group_size = 64, .observer = "minmax"});
  CHECK_FALSE(r.stages[1].scheme.input_activations);
  CHECK(r.save.format == "ascend_v1");
  CHECK(r.save.part_bytes == std::uint64_t{4} << 30);
  CHECK_FALSE(r.save.single_file);
}

TEST_CASE("data-free combinations of activations and weights become schemes") {
  const auto made = [](const std::string& q) { return parsed(linear_quant(q)).stages.at(0); };
  const std::string none = "act: {scope: per_tensor, dtype: float, symmetric: true, method: none}";
  CHECK(made("{" + w8 + "}").targets == list{"*"});
  CHECK_FALSE(made("{" + none + ", " + w8 + "}").scheme.input_activations);
  CHECK(made("{weight: {dtype: int8, scope: per_channel, symmetric: false, method: minmax}}").scheme.weights->symmetric == false);
  CHECK(made("{weight: {dtype: int4, scope: per_group, symmetric: false, method: minmax, ext: {group_size: 32}}}").scheme.weights ==
        quantization_args{.num_bits = 4, .symmetric = false, .strategy = strategy::group, .group_size = 32, .observer = "minmax"});
  CHECK(made("{" + a8 + ", weight: {dtype: int8, scope: per_group, symmetric: true, method: minmax, ext: {group_size: 32}}}")
            .scheme.weights->group_size == 32);
  const stage fp8 = made(
      "{act: {dtype: fp8_e4m3, scope: per_token, symmetric: true, method: minmax}, weight: {dtype: fp8_e4m3, scope: per_channel, "
      "symmetric: true, method: minmax}}");
  CHECK(fp8.scheme.weights->type == number::floating);
  CHECK(fp8.scheme.input_activations == quantization_args{.type = number::floating, .strategy = strategy::token, .dynamic = true});
}

TEST_CASE("static and mixed activations, caches and attention are stages of their own") {
  const auto made = [](const std::string& q) { return parsed(linear_quant(q)).stages.at(0); };
  const stage mean = made("{act: {dtype: int8, scope: per_tensor, symmetric: false, method: minmax, ext: {aggregation_type: mean}}, " + w8 + "}");
  CHECK(mean.scheme.input_activations == quantization_args{.symmetric = false, .strategy = strategy::tensor, .observer = "minmax"});
  CHECK(mean.input_observer == policy_choice{"minmax", {{"running", "false"}}});
  CHECK_FALSE(mean.scheme.dynamic_prefill);
  const stage mixed = made("{act: {dtype: int8, scope: pd_mix, symmetric: false, method: histogram}, " + w8 + "}");
  CHECK(mixed.scheme.dynamic_prefill);
  CHECK(mixed.input_observer.name == "histogram");

  const recipe r =
      parsed(linear_quant("{" + w8 + "}") +
             "  - {type: dynamic_cache, qconfig: {dtype: int8, scope: per_channel, symmetric: true, method: minmax}, exclude: ['*layers.0*']}\n"
             "  - {type: fa3_quant}\n");
  REQUIRE(r.attention.size() == 2);
  CHECK(r.attention[0].what == attention_stage::operands::cache);
  CHECK(r.attention[0].args.strategy == strategy::channel);
  CHECK(r.attention[0].ignore == list{"*layers.0*"});
  CHECK(r.attention[1].what == attention_stage::operands::attention);
  CHECK(r.attention[1].observer == policy_choice{"recall_window", {{"ratio", "0.9999"}}});
  CHECK(r.attention[1].value_observer.name == "minmax");

  const recipe kv = parsed(modifier("      scheme: FP8\n      kv_cache_scheme: {num_bits: 8, type: float, strategy: tensor, dynamic: false}\n"));
  CHECK(kv.stages.at(0).scheme.weights->strategy == strategy::tensor);
  CHECK(kv.attention.at(0).args.type == number::floating);
}

TEST_CASE("combinations that are not built or do not exist are errors") {
  for (const auto& [q, part] : std::vector<std::pair<std::string, std::string>>{
           {"{act: {dtype: int8, scope: per_head, symmetric: true, method: minmax}, " + w8 + "}", "scope per_head are not built yet"},
           {"{act: {dtype: fp8_e4m3, scope: per_tensor, symmetric: true, method: minmax}, " + w8 + "}",
            "int8 weights with static fp8_e4m3 activations do not exist"},
           {"{act: {dtype: int8, scope: pd_mix, symmetric: false, method: minmax}, weight: {dtype: int8, scope: per_channel, symmetric: false, "
            "method: minmax}}",
            "static activations need symmetric per_channel weights"},
           {"{act: {dtype: int8, scope: per_tensor, symmetric: false, method: minmax, ext: {aggregation_type: median}}, " + w8 + "}",
            "unknown aggregation_type 'median': known: max, mean"},
           {"{weight: {dtype: int8, scope: per_channel, symmetric: true, method: histogram}}", "method histogram is for activations"},
           {"{act: {dtype: int8, scope: per_token, symmetric: false, method: minmax}, " + w8 + "}", "asymmetric per_token"},
           {"{act: {dtype: float, scope: per_token, symmetric: true, method: minmax}, " + w8 + "}", "dtype float with method minmax"},
           {"{act: {dtype: mxfp8, scope: per_block, symmetric: true, method: minmax}, " + w8 + "}", "dtype 'mxfp8' is not built yet"},
           {"{act: {dtype: fp8_e4m3, scope: per_token, symmetric: true, method: minmax}, " + w8 + "}", "int8 weights with fp8_e4m3 activations"},
           {"{" + a8 + ", weight: {dtype: int4, scope: per_channel, symmetric: true, method: minmax}}", "W4A8 is not built yet"},
           {"{" + a8 + ", weight: {dtype: int8, scope: per_channel, symmetric: false, method: minmax}}", "asymmetric per_channel weights"},
           {"{weight: {dtype: int8, scope: per_channel, symmetric: true, method: ssz}}",
            "method 'ssz' is not built yet in this version: known: minmax, histogram, none"},
           {"{weight: {dtype: int8, scope: per_channel, symmetric: true}}", "the key 'method' is missing"},
           {"{weight: {dtype: int8, scope: per_row, symmetric: true, method: minmax}}", "unknown scope 'per_row'"},
           {"{weight: {dtype: int8, scope: per_group, symmetric: true, method: minmax}}", "needs a group size"},
           {"{weight: {dtype: int8, scope: per_channel, symmetric: true, method: minmax, ext: {group_size: 32}}}",
            "only for weights with scope per_group"},
           {"{weight: {dtype: float, scope: per_channel, symmetric: true, method: none}}", "nothing is quantized"},
           {"{" + a8 + "}", "the key 'weight' is missing"},
           {"{" + w8 + ", wieght: 1}", "unknown key 'wieght': known keys: act, weight"},
       })
    check_error(linear_quant(q), "r.yaml:5: spec.process[0].qconfig", part);
}

TEST_CASE("other processors, keys, savers and versions are errors that list what is known") {
  const std::string good = linear_quant("{" + w8 + "}");
  check_error("apiversion: modelslim_v0\nspec: {}\n", "r.yaml:1: apiversion", "'modelslim_v0' is not built yet in this version: known: modelslim_v1");
  check_error("apiversion: 7\n", "r.yaml:1", "unknown apiversion '7'");
  check_error("apiversion: modelslim_v1\n", "r.yaml:1", "the key 'spec' is missing");
  check_error("apiversion: modelslim_v1\nspec: {process: []}\n", "r.yaml:2", "process is empty");
  check_error(good + "speck: 1\n", "r.yaml:6: speck", "others may only hold anchors");
  check_error(good + "metadata: {name: x}\n", "r.yaml:6: metadata.name", "known keys: config_id, score, label");
  check_error(good + "  prior: [{process: []}]\n", "r.yaml:6: spec.prior", "need calibration, not built yet");
  check_error(good + "  runner: fast\n", "r.yaml:6: spec.runner", "known: auto, layer_wise");
  check_error(good + "  - type: flatquant\n    strategies: []\n", "r.yaml:6: spec.process[1].type",
              "processor 'flatquant' is not built yet in this version: known: linear_quant, dynamic_cache, fa3_quant, group");
  check_error(good + "  - type: linear\n", "r.yaml:6",
              "unknown processor 'linear': known: linear_quant, dynamic_cache, fa3_quant, group, smooth_quant");
  check_error(good + "  - {include: ['*']}\n", "r.yaml:6", "the key 'type' is missing");
  check_error(good + "  - {type: group}\n", "r.yaml:6", "a group without configs");
  check_error(linear_quant("{" + w8 + "}", "    exlude: [a]\n"), "r.yaml:6: spec.process[0].exlude", "known keys: type, qconfig, include, exclude");
  check_error(linear_quant("{" + w8 + "}", "    exclude: ['{0..5000}']\n"), "r.yaml:6", "more than 1000 patterns");
  check_error(good + "  save: [{type: mindie_format_saver}]\n", "r.yaml:6: spec.save[0].type", "'mindie_format_saver' is not built yet");
  check_error(good + "  save: [{type: ascendv1_saver, part_file_size: -1}]\n", "r.yaml:6", "expected an integer");
  check_error(good + "  save: [{type: ascendv1_saver, ext: {a: 1}}]\n", "r.yaml:6", "no options");
  check_error(good + "  save: [{type: ascendv1_saver}, {type: compressed_tensors}]\n", "r.yaml:6", "more than one saver");
}

TEST_CASE("the saver's part size is in gigabytes, 4 if not given, and 0 means one file") {
  const std::string good = linear_quant("{" + w8 + "}");
  CHECK(parsed(good).save.format.empty());
  CHECK(parsed(good + "  save: [{type: ascendv1_saver}]\n").save.part_bytes == std::uint64_t{4} << 30);
  const save_options one = parsed(good + "  save: [{type: compressed_tensors, part_file_size: 0, ext: {}}]\n").save;
  CHECK(one.format == "compressed_tensors");
  CHECK(one.single_file);
  CHECK(one.part_bytes == 0);
}

TEST_CASE("aliases of aliases end in an error, not in the end of the memory") {
  std::string text = "apiversion: modelslim_v1\na0: &a0 {type: linear_quant, qconfig: {" + w8 + "}}\n";
  for (int i = 1; i < 30; ++i) {
    const std::string last = "*a" + std::to_string(i - 1), own = "a" + std::to_string(i);
    text += own + ": &" + own + " {type: group, configs: [" + last + ", " + last + "]}\n";
  }
  check_error(text + "spec: {process: [*a29]}\n", "r.yaml:32", "more than 10000 processors");
}

TEST_CASE("fuzz: no truncated or mutated document crashes or throws") {
  std::mt19937 random{3};
  const std::string chars = "&*!|>{}[]:,-#'\"\\\n \t?%@`~<0a\x80\xFF";
  for (const std::string& original : {written_by_llmcompressor, modelslim_group}) {
    recipe r;
    for (std::size_t n = 0; n < original.size(); n += 3) CHECK_NOTHROW(parse_recipe(std::string_view{original}.substr(0, n), "f", r));
    for (int i = 0; i < 1500; ++i) {
      std::string text = original;
      for (std::size_t k = 0; k < 1 + random() % 4; ++k) {
        const std::size_t at = random() % text.size();
        switch (random() % 4) {
          case 0:
            text[at] = chars[random() % chars.size()];
            break;
          case 1:
            text.insert(at, 1, chars[random() % chars.size()]);
            break;
          case 2:
            text.erase(at, 1 + random() % 8);
            break;
          default:
            text.insert(at, text.substr(random() % text.size(), random() % 40));
        }
      }
      CHECK_NOTHROW(parse_recipe(text, "f", r));
    }
  }
  recipe r;
  CHECK_NOTHROW(parse_recipe(std::string(5000, '['), "f", r));
  CHECK_NOTHROW(parse_recipe(std::string(5000, '{'), "f", r));
}
