#include <doctest/doctest.h>
#include <qlib/recipe/flags.hpp>
#include <qlib/recipe/match.hpp>

#include <limits>
#include <string>

using namespace qlib;

namespace {

stage only_stage(const quant_flags& flags) {
  recipe r;
  const errors found = recipe_from_flags(flags, r);
  REQUIRE_MESSAGE(found.empty(), (found.empty() ? "" : found[0].text()));
  REQUIRE(r.stages.size() == 1);
  CHECK(r.source == "flags");
  return r.stages[0];
}

std::string only_error(const quant_flags& flags) {
  recipe r;
  r.source = "untouched";
  const errors found = recipe_from_flags(flags, r);
  CHECK(r.source == "untouched");
  REQUIRE(found.size() == 1);
  return found[0].text();
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

const quantization_args token{.strategy = strategy::token, .dynamic = true};

}  // namespace

TEST_CASE("each built quant type is the scheme of that name, in any case") {
  const stage w8a8 = only_stage({.quant_type = "W8A8_DYNAMIC"});
  CHECK(w8a8.name == "--quant_type W8A8_DYNAMIC");
  CHECK(*w8a8.scheme.weights == quantization_args{});
  CHECK(*w8a8.scheme.input_activations == token);

  CHECK(*only_stage({.quant_type = "w8a16"}).scheme.weights == quantization_args{});
  CHECK_FALSE(only_stage({.quant_type = "w8a16"}).scheme.input_activations);
  CHECK(*only_stage({.quant_type = "w8a16", .group_size = 64}).scheme.weights == quantization_args{.strategy = strategy::group, .group_size = 64});

  CHECK(*only_stage({.quant_type = "w4a16"}).scheme.weights == quantization_args{.num_bits = 4, .strategy = strategy::group, .group_size = 128});
  CHECK(*only_stage({.quant_type = "w4a16", .w_sym = false, .group_size = 32}).scheme.weights ==
        quantization_args{.num_bits = 4, .symmetric = false, .strategy = strategy::group, .group_size = 32});

  const stage fp8 = only_stage({.quant_type = "fp8_dynamic"});
  CHECK(fp8.scheme.weights->type == number::floating);
  CHECK(fp8.scheme.input_activations->type == number::floating);
  CHECK(fp8.scheme.input_activations->dynamic);
}

TEST_CASE("bits alone name the quant type") {
  CHECK(only_stage({.w_bit = 8, .a_bit = 16}).name == "--w_bit 8 --a_bit 16");
  CHECK(only_stage({.w_bit = 4, .a_bit = 16}).scheme.weights->num_bits == 4);
  CHECK(*only_stage({.is_dynamic = true}).scheme.input_activations == token);
  CHECK(*only_stage({.quant_type = "w8a8", .is_dynamic = true}).scheme.input_activations == token);
  CHECK(has(only_error({.w_bit = 4, .a_bit = 8}), "--w_bit 4 --a_bit 8: not built yet"));
  CHECK(has(only_error({.w_bit = 3}), "unknown quant type"));
  CHECK(only_error({}) == "--quant_type: not given: known: w8a8, w8a8_dynamic, w8a8_mix, w8a8c8, w8a16, w4a16, fp8, fp8_dynamic");
}

TEST_CASE("lm_head stays float unless a target is written exactly so") {
  const stage plain = only_stage({.quant_type = "w8a16"});
  CHECK(plain.targets == std::vector<std::string>{"Linear"});
  CHECK(plain.ignore == std::vector<std::string>{"lm_head"});
  const stage named = only_stage({.quant_type = "w8a16", .targets = {"lm_head", "re:.*proj"}});
  CHECK(named.ignore.empty());
  CHECK(only_stage({.quant_type = "w8a16", .ignore = {"lm_head"}}).ignore.size() == 1);
}

TEST_CASE("disable_names are exact names or globs over whole names") {
  const stage s = only_stage({.quant_type = "w8a8_dynamic", .disable_names = {"model.layers.0.mlp.down_proj", "*layers.{1..2}.mlp.gate"}});
  const auto ignore = pattern_set::compile(s.ignore, s.syntax, "test");
  REQUIRE(ignore);
  CHECK(ignore->matches("model.layers.0.mlp.down_proj", "Linear"));
  CHECK_FALSE(ignore->matches("model.layers.0.mlp.down_proj2", "Linear"));
  CHECK(ignore->matches("model.layers.2.mlp.gate", "Linear"));
  CHECK_FALSE(ignore->matches("model.layers.2.mlp.gate_proj", "Linear"));
  CHECK_FALSE(ignore->matches("model.layers.12.mlp.gate", "Linear"));
  CHECK(ignore->matches("lm_head", "Linear"));
}

TEST_CASE("flags that contradict each other are named both") {
  struct row {
    quant_flags flags;
    std::string_view first, second;
  };
  const row rows[] = {
      {{.quant_type = "w8a16", .w_bit = 4}, "--quant_type w8a16", "--w_bit 4"},
      {{.quant_type = "w8a16", .a_bit = 8}, "--quant_type w8a16", "--a_bit 8"},
      {{.quant_type = "w4a16", .w_bit = 8}, "--quant_type w4a16", "--w_bit 8"},
      {{.quant_type = "w4a16", .is_dynamic = true}, "--quant_type w4a16", "--is_dynamic"},
      {{.quant_type = "w8a8_dynamic", .is_dynamic = false}, "--quant_type w8a8_dynamic", "--is_dynamic False"},
      {{.quant_type = "fp8_dynamic", .is_dynamic = false}, "--quant_type fp8_dynamic", "--is_dynamic False"},
      {{.quant_type = "w8a8_mix", .pdmix = false}, "--quant_type w8a8_mix", "--pdmix False"},
      {{.quant_type = "w8a8c8", .use_kvcache_quant = false}, "--quant_type w8a8c8", "--use_kvcache_quant False"},
      {{.quant_type = "w8a8_dynamic", .group_size = 64}, "--quant_type w8a8_dynamic", "--group_size 64"},
      {{.quant_type = "fp8_dynamic", .group_size = 128}, "--quant_type fp8_dynamic", "--group_size 128"},
      {{.quant_type = "w8a8_dynamic", .w_sym = false}, "--quant_type w8a8_dynamic", "--w_sym false"},
      {{.w_bit = 8, .a_bit = 16, .is_dynamic = true}, "--w_bit 8 --a_bit 16", "--is_dynamic"},
  };
  for (const auto& [flags, first, second] : rows) {
    const std::string text = only_error(flags);
    CAPTURE(text);
    CHECK(has(text, first));
    CHECK(has(text, second));
  }
}

TEST_CASE("static types have asymmetric inputs a tensor, and an observer by act_method") {
  const stage s = only_stage({.quant_type = "W8A8"});
  CHECK(*s.scheme.input_activations == quantization_args{.symmetric = false, .strategy = strategy::tensor});
  CHECK(s.input_observer.name == "auto_mixed");
  CHECK(only_stage({.w_bit = 8, .a_bit = 8}).scheme == s.scheme);
  CHECK(only_stage({.quant_type = "w8a8", .act_method = 1}).input_observer == policy_choice{"minmax", {{"running", "false"}}});
  // msModelSlim v0's histogram parts a bin into 128 when it grows, its v1's into 16.
  CHECK(only_stage({.quant_type = "w8a8", .act_method = 2}).input_observer == policy_choice{"histogram", {{"upsample", "128"}}});
  CHECK(only_stage({.quant_type = "w8a8", .pdmix = true}).scheme.dynamic_prefill);
  CHECK(only_stage({.quant_type = "fp8"}).scheme.weights->strategy == strategy::tensor);
  CHECK(has(only_error({.quant_type = "w8a8", .act_method = 4}), "--act_method 4: unknown: use 1, 2 or 3"));
  CHECK(has(only_error({.quant_type = "w8a8_dynamic", .act_method = 1}), "has no static activations"));
  CHECK(has(only_error({.quant_type = "w8a16", .pdmix = true}), "--pdmix contradicts it"));
}

TEST_CASE("the KV cache is a stage of its own, a scale a channel") {
  for (const quant_flags& flags : {quant_flags{.quant_type = "w8a8c8"}, quant_flags{.quant_type = "w8a8_dynamic", .use_kvcache_quant = true}}) {
    recipe r;
    REQUIRE(recipe_from_flags(flags, r).empty());
    REQUIRE(r.attention.size() == 1);
    CHECK(r.attention[0].args == quantization_args{.strategy = strategy::channel});
  }
}

TEST_CASE("flags that agree with the quant type are accepted") {
  CHECK_FALSE(only_stage({.quant_type = "w8a8", .is_dynamic = false, .pdmix = false, .use_kvcache_quant = false}).scheme.dynamic_prefill);
  CHECK(only_stage({.quant_type = "w8a16", .is_dynamic = false}).scheme.weights->num_bits == 8);
  CHECK(only_stage({.quant_type = "w8a8_dynamic", .w_bit = 8, .a_bit = 8, .w_sym = true, .observer = "minmax", .rounder = "rtn", .is_dynamic = true})
            .scheme.weights->num_bits == 8);
}

TEST_CASE("the observer of weights is chosen by name, in any case, with its percentile in decimals") {
  CHECK(only_stage({.quant_type = "w4a16"}).observer == policy_choice{"minmax", {}});
  CHECK(only_stage({.quant_type = "w4a16", .observer = "MSE"}).observer == policy_choice{"mse", {}});
  const auto percentile = [](const char* lower, const char* upper) {
    return policy_choice{"percentile", {{"lower", lower}, {"upper", upper}, {"keep_values", "false"}}};
  };
  CHECK(only_stage({.quant_type = "w8a16", .observer = "percentile"}).observer == percentile("0.1", "99.9"));
  CHECK(only_stage({.quant_type = "w8a16", .observer = "percentile", .percentile = 99.99}).observer == percentile("0.01", "99.99"));
  CHECK(only_stage({.quant_type = "fp8", .observer = "percentile", .percentile = 100}).observer == percentile("0", "100"));
  CHECK(only_stage({.quant_type = "w8a8", .observer = "mse"}).input_observer.name == "auto_mixed");  // of weights only
  CHECK(has(only_error({.quant_type = "w8a8", .observer = "histogram"}), "--observer histogram: observes activations, not weights: known: minmax"));
  CHECK(has(only_error({.quant_type = "w8a8", .percentile = 99}), "--percentile 99: belongs to --observer percentile"));
  for (double p : {0.0, -3.0, 0.999, 50.0, 100.1, std::numeric_limits<double>::quiet_NaN()})
    CHECK(has(only_error({.quant_type = "w8a8", .observer = "percentile", .percentile = p}), "is not in (50, 100]"));
}

TEST_CASE("a quant type that is not built lists the built ones, and an unknown one lists all") {
  for (const std::string_view name : unbuilt_quant_types()) {
    const std::string text = only_error({.quant_type = std::string{name}});
    CHECK(has(text, "not built yet in this version: known: w8a8, w8a8_dynamic, w8a8_mix, w8a8c8, w8a16, w4a16, fp8, fp8_dynamic"));
  }
  const std::string text = only_error({.quant_type = "w9a9"});
  for (const std::string_view name : built_quant_types()) CHECK(has(text, name));
  for (const std::string_view name : unbuilt_quant_types()) CHECK(has(text, name));
}

TEST_CASE("every wrong flag is reported at once, with the flag's name") {
  recipe r;
  const errors found = recipe_from_flags({.quant_type = "w8a16",
                                          .w_bit = 4,
                                          .disable_names = {"{0..9999}"},
                                          .targets = {"re:("},
                                          .ignore = {""},
                                          .observer = "median",
                                          .rounder = "nearest"},
                                         r);
  REQUIRE(found.size() == 6);
  CHECK(has(found[0].text(), "--w_bit 4"));
  CHECK(has(found[1].text(), "--observer median: unknown: known: minmax, percentile, mse"));
  CHECK(has(found[2].text(), "--rounder nearest: unknown: known: rtn; not yet: gptq"));
  CHECK(has(found[3].text(), "--targets: re:(: bad regex at offset 1"));
  CHECK(has(found[4].text(), "--ignore: an empty pattern"));
  CHECK(has(found[5].text(), "--disable_names: {0..9999}: the braces stand for more than 1000 patterns"));
}
